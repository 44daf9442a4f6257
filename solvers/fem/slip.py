"""Slip along a wall by Nitsche's method: no normal component of a vector field, and no tangential traction.

With the stress s(u) of the physics, N(u) = n . s(u) n, the flux F of the weak form, and test functions v, the residual
gets - N(u) v.n - dN(u)[v] u.n + gamma k/h u.n v.n + ((s - F) n) . v on the wall. The first term is what the wall does,
the second makes the linear operator symmetric, the third makes it definite; all vanish, or balance, at a solution, so
that orders are kept on curved cells. The last one makes the whole stress free along the tangent where F is only a part
of it. J. Freund, R. Stenberg, Proc. 9th Int. Conf. Finite Elements in Fluids (1995) 327; J. M. Urquiza, A. Garon,
M.-I. Farinas, J. Comput. Phys. 256 (2014) 748, who show that straight cells fail on curved walls (Babuska's paradox)
and curved ones do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ufl
from ufl.core.expr import Expr
from ufl.geometry import FacetJacobianDeterminant

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Physics
from shapewright.solvers.fem import ufl_ops
from shapewright.solvers.fem.backend import fem

PENALTY = 40.0
"""gamma. On a straight quadratic cell the square of a derivative over a side is at most 6/h times that over the cell, h
being its height (T. Warburton, J. S. Hesthaven, Comput. Methods Appl. Mech. Engrg. 192 (2003) 2765), so that 6 would do
for a cell with one side on the wall and 12 for one with two; the rest is for curved cells."""


def slip_terms(
    physics: Physics, q: Mapping[str, Any], state: fem.Function, test: Mapping[str, Expr], walls: fem.Constant
) -> Expr:
    """What slip adds to the integrand of the residual on the wall.

    Args:
        physics: with a traction.
        q: quantities on the boundary at ``state``.
        state: function of all fields.
        test: component -> test function.
        walls: factor of all but the last term: with zero the stress is free in both directions.
    """
    assert physics.traction is not None  # problems have seen to it
    mesh = state.function_space.mesh
    stress, flux = physics.traction(ufl_ops, q), physics.flux(ufl_ops, q)
    normal = dict(zip(stress, (q[n] for n in names.normal(physics.dimension)), strict=True))
    through = sum(normal[c] * q[c] for c in stress)
    through_test = sum(normal[c] * test[c] for c in stress)
    pressing = _normal_stress(stress, normal)
    argument = ufl.TestFunction(state.function_space)
    height = ufl_ops.abs(ufl.JacobianDeterminant(mesh)) / FacetJacobianDeterminant(mesh)
    terms = PENALTY * _stiffness(physics, q, normal, mesh) / height * through * through_test
    terms -= pressing * through_test + ufl.derivative(pressing, state, argument) * through
    terms = walls * terms
    for component, row in stress.items():
        rest = sum((s - f) * normal[c] for s, f, c in zip(row, flux[component], stress, strict=True))
        terms += rest * test[component]
    return terms


def _normal_stress(stress: Mapping[str, Sequence[Any]], normal: Mapping[str, Any]) -> Any:
    """n . s n."""
    return sum(
        normal[c] * s * normal[d] for c, row in stress.items() for d, s in zip(stress, row, strict=True)
    )


def _stiffness(physics: Physics, q: Mapping[str, Any], normal: Mapping[str, Any], mesh: Any) -> Expr:
    """Normal stress by the stretch along the normal, with all fields zero."""
    assert physics.traction is not None
    stretch = ufl.variable(fem.Constant(mesh, 0.0))
    slopes = {
        slope: stretch * normal[c] * n
        for c in normal
        for slope, n in zip(names.derivatives(c, physics.dimension), normal.values(), strict=True)
    }
    at_rest = {**q, **dict.fromkeys(physics.components, 0.0), **slopes}
    scalars = (c for c in physics.components if c not in normal)
    others = {slope: 0.0 for c in scalars for slope in names.derivatives(c, physics.dimension)}
    return ufl.diff(_normal_stress(physics.traction(ufl_ops, at_rest | others), normal), stretch)
