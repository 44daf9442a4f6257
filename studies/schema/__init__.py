"""Study files: sections, readers, errors with their lines, formulas."""
