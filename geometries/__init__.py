"""Parameters to shape: families, the differentiable map, point clouds, reference meshes and CAD."""
