"""Finite elements by dolfinx on moving meshes, with tangents and adjoint shape gradients."""
