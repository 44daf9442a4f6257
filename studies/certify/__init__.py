"""The finite-element certificate of an optimum, and checks of derivatives."""
