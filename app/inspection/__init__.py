"""What `shapewright inspect` says and draws of a STEP file."""
