"""Promise: one evaluator gives every named quantity, in any dimension, and computes what a formula asks for alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapewright.geometries.fields.problem import ProblemError
from shapewright.geometries.fields.quantities import FieldSpace, UnknownQuantity, nodal_quantities, positions
from shapewright.geometries.mesh.integration import cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.geometries.mesh.simplex import TETRAHEDRON

SPACE = FieldSpace(
    ("u",),
    {"k": lambda ops, q: q["load"] + ops.sin(q["x"]), "twice_k": lambda ops, q: 2 * q["k"]},
    {"u": lambda ops, q: q["z"] * q["u"]},
    {"load": 3.0},
)
FACET = np.array([[0, 2, 1, 6, 5, 4]])
MESH = Mesh(TETRAHEDRON.nodes, np.arange(10)[None], FACET, np.zeros(1, np.int64), ("below",))
NODES = torch.from_numpy(MESH.nodes)


def test_every_quantity_of_a_solid():
    """On the side z = 0 of the reference tetrahedron, for u = x + 2 y + 3 z."""
    points = facet_points(MESH, NODES, "below")
    q = nodal_quantities(SPACE, points, {"u": NODES @ torch.tensor([1.0, 2.0, 3.0]).double()})
    assert list(q) == ["x", "y", "z", "u", "u_x", "u_y", "u_z", "load", "k", "twice_k", "source_u", "nx", "ny", "nz"]
    assert len(q) == 14
    x, y, z = points.points.unbind(-1)
    expected = {"x": x, "u": x + 2 * y + 3 * z, "twice_k": 2 * (3 + x.sin()), "source_u": 0 * x, "nx": 0 * x}
    for name, value in (expected | {"u_x": 1 + 0 * x, "u_y": 2 + 0 * x, "u_z": 3 + 0 * x, "nz": 0 * x - 1}).items():
        torch.testing.assert_close(q[name], value, rtol=0, atol=1e-13)
    assert q["load"] == 3.0
    torch.testing.assert_close(positions(points.points)["z"], z)


def test_a_source_is_zero_where_none_is_given():
    q = nodal_quantities(FieldSpace(("u",), {}), cell_points(MESH, NODES), {"u": NODES[:, 0]})
    assert q["source_u"] == 0.0


def test_only_what_is_asked_for_is_computed():
    """A coefficient that would fail is not evaluated for a formula that does not use it."""
    space = FieldSpace(("u",), {"bad": lambda ops, q: 1 / 0})
    q = nodal_quantities(space, cell_points(MESH, NODES), {"u": NODES[:, 0]})
    assert "bad" in q
    assert "v" not in q
    torch.testing.assert_close(q["u"], q["x"])
    with pytest.raises(ZeroDivisionError):
        q["bad"]


@pytest.mark.parametrize("name", ["w", "nx", "lifting", "u_t"])
def test_an_unknown_quantity_is_named_with_those_there_are(name):
    """Inside the domain there is no normal."""
    q = nodal_quantities(SPACE, cell_points(MESH, NODES), {"u": NODES[:, 0]})
    message = f"unknown quantity '{name}'; known here are x, y, z, u, u_x, u_y, u_z, load, k, twice_k, source_u"
    with pytest.raises(UnknownQuantity) as error:
        q[name]
    assert str(error.value) == message
    assert isinstance(error.value, KeyError)
    assert isinstance(error.value, ProblemError)


def test_quantities_that_depend_on_each_other_are_refused():
    space = FieldSpace(("u",), {"a": lambda ops, q: q["b"], "b": lambda ops, q: q["a"]})
    q = nodal_quantities(space, cell_points(MESH, NODES), {"u": NODES[:, 0]})
    with pytest.raises(ProblemError, match="the quantity 'a' depends on itself: a -> b -> a"):
        q["a"]
