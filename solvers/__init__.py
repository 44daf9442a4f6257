"""Truth: physics, finite-element solutions with dolfinx, their tangents and adjoint shape gradients."""
