"""Design studies: the YAML schema, the stages from sampling to certificate, the shape optimizer."""
