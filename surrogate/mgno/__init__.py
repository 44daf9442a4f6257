"""The mollified graph neural operator and its exact derivatives."""
