"""Point cloud in, fields and exact derivatives out: the mollified graph neural operator and its training."""
