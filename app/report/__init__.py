"""The report of a finished study."""
