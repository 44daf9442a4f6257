"""Promise: a formula that jumps inside cells is named by its key, and one that does not is left alone."""

import pytest

from shapewright.studies.problem.jumps import jumps
from tests.studies.study_cases import setup_of

JUMPING = {
    "physics.source.u": ("physics.source={u: 'where(x > 0.1, 2, 1)'}", "x > 0.1, inside "),
    "physics.coefficients.conductivity": (
        "physics.coefficients={conductivity: '1 + where((x > 0.1) & (y > 0), x, 0)'}", "x > 0.1, inside ",
    ),
    "physics.dirichlet.0.u": (
        "physics.dirichlet=[{on: wall, u: 'where(0 < y, 1, 0)'}]", "0 < y, inside 2 facets on wall",
    ),
    "objective.minimize.integrand": (
        "objective={minimize: {name: j, integrand: 'where(u > 0.2, u, 0)'}}", "u > 0.2, which may be inside cells",
    ),
    "constraints.0.quantity.integrand": (
        "constraints=[{quantity: {name: j, integrand: 'where(nx > 0.2, 1, 2)', on: wall}, at_most: 1}]",
        "nx > 0.2, which may be inside facets on wall",
    ),
}  # fmt: skip


@pytest.mark.parametrize("key", JUMPING)
def test_a_jump_is_named_by_its_key(key):
    override, words = JUMPING[key]
    found = jumps(setup_of(override))
    assert found
    assert all(f": {key}: " in text for text in found)
    assert any(f" jumps at {words}" in text for text in found)


@pytest.mark.parametrize(
    "override",
    [
        "physics.source={u: 2}",
        "physics.source={u: 'where(x > 0.1, x, 0.1)'}",
        "physics.source={u: 'where(x > 9, 2, 1)'}",
        "physics.coefficients={conductivity: '1 + where(x*y > 0, (x*y)**2, -3*x*y)'}",
        "objective={minimize: {name: j, integrand: 'where(u > 0.2, u**2, 0.04)'}}",
        "objective={minimize: {name: j, integrand: 'maximum(u, 0.3)'}}",
    ],
)
def test_what_does_not_jump_is_left_alone(override):
    assert jumps(setup_of(override)) == []
