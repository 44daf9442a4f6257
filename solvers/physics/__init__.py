"""The built-in physics, written once for UFL and torch."""
