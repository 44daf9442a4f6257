"""The stages of a study, their folder, and where designs are solved."""
