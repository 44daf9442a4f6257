"""The latent fields converge as the cloud is refined. Orders are in the distance of points."""

from __future__ import annotations

import pytest

from benchmarks.discretization_convergence import Convergence
from shapewright.geometries.design.extension import build_shape_map
from tests.solvers.solver_meshes import mapped_square
from tests.surrogate.design_cases import lid_family


@pytest.fixture(scope="module")
def study():
    return Convergence([build_shape_map(lid_family(), 0.3, mapped_square(n)) for n in (6, 12, 24, 40)])


def test_mesh_nodes(study):
    """Quadrature of second-order cells is exact for quadratics on each, so that order 3 is expected."""
    levels = study.mesh_nodes()
    print(levels)
    assert min(level.order for level in levels[1:]) > 2.3
    assert levels[-1].error < 5e-3


def test_sobol_points(study):
    """Better than random (order 1), short of smooth integrands (order 2): the boundary cuts the neighbourhoods."""
    levels = study.sobol_points((2**8, 2**10, 2**12), seeds=6)
    print(levels)
    assert min(level.order for level in levels[1:]) > 1.2
    assert levels[-1].error < 3e-2
