"""CAD: B-spline faces and solids by OpenCASCADE, meshes by gmsh."""
