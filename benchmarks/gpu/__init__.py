"""The kit for a machine with a GPU, made where there is none: a bundle of data, and a run of fixed length."""
