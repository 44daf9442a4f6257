"""B-spline curves and their measures, against OpenCASCADE's curve and shapely's polygon."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from OCP.Geom import Geom_BSplineCurve
from OCP.gp import gp_Pnt
from OCP.OCP.collections import Array1_double, Array1_gp_Pnt, Array1_int
from shapely import Polygon

from shapewright.geometries.family.spline import Curve, LoopQuadrature, loop_matrix

CURVES = [Curve("p", n, periodic=True) for n in (4, 5, 8, 17)] + [Curve("c", n) for n in (4, 5, 9)] + [Curve("l", 2, 1)]


def radial_points(radii: list[float]) -> torch.Tensor:
    """Control points at equal angles, a simple closed polygon whatever the positive radii."""
    angle = 2 * torch.pi * torch.arange(len(radii), dtype=torch.float64) / len(radii)
    return torch.tensor(radii, dtype=torch.float64)[:, None] * torch.stack([angle.cos(), angle.sin()], -1)


def occ_points(curve: Curve, points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """OpenCASCADE's points of the curve; made here from the definition, not by shapewright.geometries.cad.step."""
    poles, knots = Array1_gp_Pnt(1, curve.count), Array1_double(1, curve.spans + 1)
    multiplicities = Array1_int(1, curve.spans + 1)
    for index, (x, y) in enumerate(points.tolist(), start=1):
        poles.SetValue(index, gp_Pnt(x, y, 0.0))
    for index in range(curve.spans + 1):
        clamped = not curve.periodic and index in (0, curve.spans)
        knots.SetValue(index + 1, float(index))
        multiplicities.SetValue(index + 1, curve.degree + 1 if clamped else 1)
    made = Geom_BSplineCurve(poles, knots, multiplicities, curve.degree, curve.periodic)
    return np.array([[p.X(), p.Y()] for p in (made.Value(float(s)) for s in t)])


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_the_basis_is_a_partition_of_unity(curve):
    t = np.linspace(0, curve.spans, 203)
    values = curve.basis(t)
    assert values.min() >= 0
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-14)
    np.testing.assert_allclose(curve.basis(t, 1).sum(-1), 0, atol=1e-13)


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_derivatives_of_the_basis_match_finite_differences(curve):
    t = np.linspace(0.1, curve.spans - 0.1, 57) + 1e-3
    for order in (0, 1):
        difference = (curve.basis(t + 1e-6, order) - curve.basis(t - 1e-6, order)) / 2e-6
        np.testing.assert_allclose(curve.basis(t, order + 1), difference, atol=1e-8)


@pytest.mark.parametrize("curve", CURVES, ids=str)
def test_curves_are_opencascades(curve):
    points = np.random.default_rng(0).normal(size=(curve.count, 2))
    t = np.linspace(0, curve.spans, 101)
    np.testing.assert_allclose(curve.basis(t) @ points, occ_points(curve, points, t), atol=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 3},
        {"count": 3, "periodic": True},
        {"count": 3, "degree": 1},
        {"count": 5, "degree": 2},
        {"count": 2, "degree": 1, "periodic": True},
    ],
)
def test_other_curves_are_refused(arguments):
    with pytest.raises(ValueError, match=r"curve 'rim'.*allowed are lines"):
        Curve("rim", **arguments)


@settings(max_examples=40)
@given(st.lists(st.floats(0.3, 2.0), min_size=4, max_size=12))
def test_measures_equal_those_of_a_dense_polygon(radii):
    points = radial_points(radii)
    loop = (Curve("p", len(radii), periodic=True),)
    quadrature = LoopQuadrature(loop)
    polygon = Polygon(loop_matrix(loop, 400) @ points.numpy())
    assert float(quadrature.area(points)) == pytest.approx(polygon.area, rel=1e-5)
    assert float(quadrature.perimeter(points)) == pytest.approx(polygon.length, rel=1e-4)
    centroid = quadrature.centroid(points)
    np.testing.assert_allclose(centroid, [polygon.centroid.x, polygon.centroid.y], atol=1e-5)


@settings(max_examples=25)
@given(st.lists(st.floats(0.3, 2.0), min_size=5, max_size=9), st.floats(-3, 3), st.floats(-3, 3), st.floats(0.1, 9))
def test_measures_move_with_the_shape(radii, dx, dy, factor):
    points = radial_points(radii)
    quadrature = LoopQuadrature((Curve("p", len(radii), periodic=True),))
    moved = factor * points + torch.tensor([dx, dy], dtype=torch.float64)
    torch.testing.assert_close(quadrature.area(moved), factor**2 * quadrature.area(points), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(quadrature.perimeter(moved), factor * quadrature.perimeter(points))
    expected = factor * quadrature.centroid(points) + torch.tensor([dx, dy], dtype=torch.float64)
    torch.testing.assert_close(quadrature.centroid(moved), expected, rtol=1e-9, atol=1e-8)


def test_area_and_centroid_are_exact_and_arc_length_has_converged():
    """Five Gauss points a span are exact for the polynomials; the length has a root, and needs the eight."""
    points = radial_points([1.2, 0.7, 1.1, 0.9, 1.4, 0.8])
    loop = (Curve("p", 6, periodic=True),)
    few, usual, many = (LoopQuadrature(loop, count) for count in (5, 8, 24))
    torch.testing.assert_close(few.area(points), many.area(points), rtol=1e-14, atol=0)
    torch.testing.assert_close(few.centroid(points), many.centroid(points), rtol=0, atol=1e-14)
    torch.testing.assert_close(usual.perimeter(points), many.perimeter(points), rtol=1e-7, atol=0)


def test_a_loop_of_lines_and_cubics():
    """A unit square, one side of it a cubic whose control points lie on the line."""
    loop = (Curve("a", 4), Curve("b", 2, 1), Curve("c", 2, 1), Curve("d", 2, 1))
    rows = [(0, 0), (1 / 3, 0), (2 / 3, 0), (1, 0), (1, 0), (1, 1), (1, 1), (0, 1), (0, 1), (0, 0)]
    points = torch.tensor(rows, dtype=torch.float64)
    quadrature = LoopQuadrature(loop)
    assert float(quadrature.area(points)) == pytest.approx(1, abs=1e-14)
    assert float(quadrature.perimeter(points)) == pytest.approx(4, abs=1e-14)
    np.testing.assert_allclose(quadrature.centroid(points), [0.5, 0.5], atol=1e-14)
    outline = loop_matrix(loop, 8) @ points.numpy()
    assert Polygon(outline).area == pytest.approx(1)
    assert len(np.unique(outline.round(12), axis=0)) == len(outline)  # every joint once
