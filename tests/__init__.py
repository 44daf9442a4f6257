"""The tests; a package, so that another one of this name elsewhere on the path does not take its place."""
