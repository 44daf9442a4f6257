"""Tensor-GaLore: Adam in low-rank Tucker subspaces of tensor gradients."""
