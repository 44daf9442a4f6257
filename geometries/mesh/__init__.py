"""Meshes: cells, quadrature, integration, location of points."""
