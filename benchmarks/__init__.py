"""Scripts that measure; nothing is imported from here but by them and their tests."""
