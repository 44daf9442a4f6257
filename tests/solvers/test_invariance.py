"""What must not matter: the numbering of the mesh, the motion of the whole body, the unit of length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.fem.solver import FemSolver
from tests.solvers.solver_cases import CASES, TORSION
from tests.solvers.solver_meshes import bulged, mapped_square

MESH = mapped_square(4, bulged)


@pytest.fixture(scope="module")
def torsion():
    return FemSolver(TORSION, MESH)


@given(angle=st.floats(-3, 3), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_torsion_under_similarity(torsion, angle, scale, shift):
    """The torsional constant scales with length^4, its gradient with length^3 and turns with the bar."""
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    base = torsion.solve()
    value, gradient = base.values["torsional_constant"], base.gradient("torsional_constant")
    moved = torsion.solve(scale * (MESH.nodes @ rotation.T + shift))
    assert moved.values["torsional_constant"] == pytest.approx(scale**4 * value, rel=1e-9)
    expected = scale**3 * gradient @ rotation.T
    actual = moved.gradient("torsional_constant")
    np.testing.assert_allclose(actual, expected, atol=1e-8 * np.abs(expected).max())
    # translation and rotation leave the value, uniform growth is Euler's relation
    arm = moved.nodes - moved.nodes.mean(0)
    size = np.abs(actual).sum() * np.abs(arm).max()
    assert np.abs(actual.sum(0)).max() * np.abs(arm).max() < 1e-9 * size
    assert abs((actual[:, 0] * arm[:, 1] - actual[:, 1] * arm[:, 0]).sum()) < 1e-9 * size
    assert (actual * arm).sum() == pytest.approx(4 * moved.values["torsional_constant"], rel=1e-8)


def renumbered(mesh, seed):
    """The mesh with nodes, cells, first corners and facets reordered, and where each node went."""
    random = np.random.default_rng(seed)
    renumber = random.permutation(len(mesh.nodes))
    nodes = np.empty_like(mesh.nodes)
    nodes[renumber] = mesh.nodes
    turns = random.integers(0, 3, len(mesh.cells))
    corner = (np.arange(3) + turns[:, None]) % 3
    cells = np.take_along_axis(mesh.cells, np.concatenate([corner, corner + 3], -1), -1)
    cells = renumber[cells[random.permutation(len(cells))]]
    order = random.permutation(len(mesh.facets))
    return Mesh(nodes, cells, renumber[mesh.facets[order]], mesh.facet_tags[order], mesh.tag_names), renumber


@pytest.mark.parametrize("name", list(CASES))
def test_numbering_does_not_matter(name):
    problem = CASES[name]
    other, renumber = renumbered(MESH, seed=3)
    first, second = FemSolver(problem, MESH).solve(), FemSolver(problem, other).solve()
    assert second.values == pytest.approx(first.values, rel=1e-10)
    velocity = np.random.default_rng(4).standard_normal(MESH.nodes.shape)
    shuffled = np.empty_like(velocity)
    shuffled[renumber] = velocity
    tangents = first.tangent(velocity), second.tangent(shuffled)
    for field, values in first.fields.items():
        np.testing.assert_allclose(second.fields[field][renumber], values, atol=1e-9)
        expected = tangents[0].fields[field]
        np.testing.assert_allclose(
            tangents[1].fields[field][renumber], expected, atol=1e-8 * np.abs(expected).max()
        )
    for functional in problem.functionals:
        expected = first.gradient(functional.name)
        actual = second.gradient(functional.name)[renumber]
        np.testing.assert_allclose(actual, expected, atol=1e-9 * np.abs(expected).max())


def test_values_do_not_depend_on_what_was_solved_before(torsion):
    """Bit for bit: a resumed run must find the numbers of the interrupted one."""
    first = torsion.solve().values
    torsion.solve(2 * MESH.nodes)
    assert torsion.solve().values == first
