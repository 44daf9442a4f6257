"""Integrals of nodal fields against integrals known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.geometries.fields.quantities import FieldSpace
from shapewright.studies.schema.expressions import parse
from shapewright.surrogate.models.functionals import integrate, integrate_all
from tests.solvers.solver_meshes import SIDES, bulged, mapped_square
from tests.surrogate.design_cases import Integral

SPACE = FieldSpace(("u", "v"), {"k": lambda ops, q: ops.exp(0 * q["x"]) * 3, "c": lambda ops, q: 0.5})
QUANTITIES = ("x", "y", "u", "v", "u_x", "u_y", "v_x", "v_y", "k", "c")
SQUARE, CURVED = mapped_square(2), mapped_square(3, bulged)


def sampled(mesh, *functions):
    """Nodes (1, N, 2) and nodal values (1, N, c) of functions of x and y."""
    nodes = torch.from_numpy(mesh.nodes)[None]
    return nodes, torch.stack([f(*nodes.unbind(-1)) for f in functions], -1)


def value(integrand, mesh, nodes, fields, on=None):
    return float(integrate(Integral("value", integrand, on), SPACE, mesh, nodes, fields))


@given(a=st.integers(0, 5), b=st.integers(0, 5))
def test_monomials_on_the_unit_square(a, b):
    if a + b > 5:  # the degree that the rule on triangles takes
        a, b = 5 - b, b
    nodes, fields = sampled(SQUARE, lambda x, y: x, lambda x, y: y)
    result = value(lambda ops, q: q["u"] ** a * q["v"] ** b, SQUARE, nodes, fields)
    assert result == pytest.approx(1 / ((a + 1) * (b + 1)), rel=1e-13)


def test_quadratic_fields_and_their_derivatives_are_exact_on_straight_cells():
    """u = x^2 - x y, v = y^2 + 1 on the unit square; integrals worked out by hand."""
    nodes, fields = sampled(SQUARE, lambda x, y: x**2 - x * y, lambda x, y: y**2 + 1)
    by_hand = {
        "u": 1 / 3 - 1 / 4,
        "u*v": 1 / 3 * 4 / 3 - 1 / 2 * (1 / 4 + 1 / 2),
        "u_x": 1 - 1 / 2,  # 2x - y
        "u_y": -1 / 2,  # -x
        "u_x**2 + u_y**2": 4 / 3 - 4 * 1 / 4 + 1 / 3 + 1 / 3,
        "v_y*x": 1 / 2,
        "k*u_x": 3 / 2,
        "c": 1 / 2,
    }
    for formula, expected in by_hand.items():
        assert value(parse(formula, QUANTITIES, "integrand"), SQUARE, nodes, fields) == pytest.approx(
            expected, rel=1e-13
        )


def test_an_expression_of_a_study_is_an_integrand():
    formula = "(u - 0.36 + x**2)**2 + maximum(v, 0.2)*sin(k)"
    nodes, fields = sampled(CURVED, lambda x, y: torch.sin(x), lambda x, y: x * y)

    def integrand(ops, q):
        return (q["u"] - 0.36 + q["x"] ** 2) ** 2 + ops.clamp(q["v"], min=0.2) * ops.sin(q["k"])

    typed = value(parse(formula, QUANTITIES, "integrand"), CURVED, nodes, fields)
    assert typed == pytest.approx(value(integrand, CURVED, nodes, fields), rel=1e-14)


@pytest.mark.parametrize("tag", SIDES)
def test_flux_through_each_side_of_the_unit_square(tag):
    """u = x^2 + x y + y^2 / 2: grad u . n is -x on the floor, 2 + y on the right, x + 1 on top, -y on the left."""
    nodes, fields = sampled(SQUARE, lambda x, y: x**2 + x * y + y**2 / 2, lambda x, y: x)
    by_hand = {"bottom": -1 / 2, "right": 2 + 1 / 2, "top": 1 / 2 + 1, "left": -1 / 2}
    result = value(lambda ops, q: q["u_x"] * q["nx"] + q["u_y"] * q["ny"], SQUARE, nodes, fields, tag)
    assert result == pytest.approx(by_hand[tag], rel=1e-13)


def test_divergence_theorem_on_curved_cells():
    """int u_x + v_y = closed int u n_x + v n_y for u = 2x + y, v = x - y/2, fields that curved cells hold exactly."""
    nodes, fields = sampled(CURVED, lambda x, y: 2 * x + y, lambda x, y: x - y / 2)
    inside = value(lambda ops, q: q["u_x"] + q["v_y"], CURVED, nodes, fields)
    around = sum(value(lambda ops, q: q["u"] * q["nx"] + q["v"] * q["ny"], CURVED, nodes, fields, tag) for tag in SIDES)
    area = value(lambda ops, q: 1, CURVED, nodes, fields)
    assert inside == pytest.approx(1.5 * area, rel=1e-12)
    assert around == pytest.approx(inside, rel=1e-12)


def test_length_of_curved_sides_by_another_rule():
    """Arc length of the quadratic edges by 40 Gauss points against the 3 in use."""
    nodes, fields = sampled(CURVED, lambda x, y: x, lambda x, y: y)
    gauss, weights = np.polynomial.legendre.leggauss(40)
    s = (gauss + 1) / 2
    for tag in SIDES:
        start, end, middle = (CURVED.nodes[column] for column in CURVED.facets_on(tag).T)
        slope = (
            (4 * s - 3)[:, None, None] * start + (4 * s - 1)[:, None, None] * end + (4 - 8 * s)[:, None, None] * middle
        )
        length = (np.linalg.norm(slope, axis=-1).sum(-1) * weights / 2).sum()
        assert value(lambda ops, q: 1, CURVED, nodes, fields, tag) == pytest.approx(length, rel=1e-4)


def test_batch_and_derivatives():
    nodes, fields = sampled(SQUARE, lambda x, y: torch.sin(x), lambda x, y: torch.cos(y))
    batch = torch.cat([nodes, 1.5 * nodes])
    values = torch.cat([fields, 2 * fields])
    functionals = (
        Integral("inside", lambda ops, q: q["u"] * q["v_y"]),
        Integral("side", lambda ops, q: q["u"] * q["nx"], "right"),
    )
    together = integrate_all(functionals, SPACE, SQUARE, batch, values)
    alone = [integrate_all(functionals, SPACE, SQUARE, n[None], f[None]) for n, f in zip(batch, values, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together[1, 0] == pytest.approx(4 * 1.5 * float(together[0, 0]))
    assert float(together[0, 1]) == pytest.approx(math.sin(1), rel=1e-12)

    def apply(n, f):
        return integrate_all(functionals, SPACE, SQUARE, n, f)

    inputs = (nodes.clone().requires_grad_(), fields.clone().requires_grad_())
    assert torch.autograd.gradcheck(apply, inputs, check_forward_ad=True)


def test_unknown_quantities_are_refused_by_name():
    nodes, fields = sampled(SQUARE, lambda x, y: x, lambda x, y: y)
    known = "x, y, u, u_x, u_y, v, v_x, v_y, k, c, source_u"
    with pytest.raises(KeyError, match=f"unknown quantity 'w'; known here are {known}"):
        value(lambda ops, q: q["w"], SQUARE, nodes, fields)
    with pytest.raises(KeyError, match="unknown quantity 'nx'"):
        value(lambda ops, q: q["nx"], SQUARE, nodes, fields)
    with pytest.raises(KeyError, match="no boundary region 'lid'; this mesh has bottom, right, top, left"):
        value(lambda ops, q: 1, SQUARE, nodes, fields, "lid")
