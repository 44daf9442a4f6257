"""Promise: what every built-in physics gives in the plane is what it gave, to rounding.

A passing test does not show that the values are right. Solutions differ with the rounding of the sparse factorization,
which differs between processors: they are compared to 1e-12, formulas at given fields to 1e-13.
"""

from __future__ import annotations

import pytest

from shapewright.solvers.physics.catalogue import PHYSICS
from tests.studies.stored_values import formulas, solved, solved_problems, stored


def differences(found, expected, tolerance):
    assert list(found) == list(expected)
    close = {name: pytest.approx(value, rel=tolerance, abs=1e-15) for name, value in expected.items()}
    return {name: (value, expected[name]) for name, value in found.items() if value != close[name]}


@pytest.mark.parametrize("name", stored()["solved"])
def test_solutions_gradients_and_tangents(name):
    assert not differences(dict(solved(*solved_problems()[name]())), stored()["solved"][name], 1e-12)


@pytest.mark.parametrize("name", PHYSICS)
def test_formulas_at_given_fields(name):
    assert not differences(dict(formulas(PHYSICS[name])), stored()["formulas"][name], 1e-13)


def test_every_physics_has_values():
    assert set(stored()["formulas"]) == set(PHYSICS)
