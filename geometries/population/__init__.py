"""Random planar domains of many kinds, as meshes to train an operator on and to test it by."""
