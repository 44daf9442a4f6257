"""Curves and surfaces of OpenCASCADE as arrays: points at parameters, breaks of their continuity, new B-splines."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from OCP.Geom import Geom_BSplineCurve, Geom_BSplineSurface, Geom_Curve, Geom_Surface
from OCP.Geom2d import Geom2d_Curve
from OCP.GeomAbs import (
    GeomAbs_C1,
    GeomAbs_C2,
    GeomAbs_C3,
    GeomAbs_Circle,
    GeomAbs_CN,
    GeomAbs_Cone,
    GeomAbs_Cylinder,
    GeomAbs_Ellipse,
    GeomAbs_Plane,
    GeomAbs_Sphere,
    GeomAbs_SurfaceOfExtrusion,
    GeomAbs_SurfaceOfRevolution,
    GeomAbs_Torus,
)
from OCP.GeomAdaptor import GeomAdaptor_Curve, GeomAdaptor_Surface
from OCP.gp import gp_Pnt, gp_Pnt2d
from OCP.OCP.collections import Array1_double, Array1_gp_Pnt, Array1_int, Array2_gp_Pnt

from shapewright.geometries.cad.spline_fit import DEGREE, Axis
from shapewright.geometries.mesh.simplex import Array

CONTINUITY = ((GeomAbs_C1, DEGREE), (GeomAbs_C2, DEGREE - 1), (GeomAbs_C3, DEGREE - 2), (GeomAbs_CN, DEGREE - 3))
"""Multiplicity of a knot where the original is less than C1, C2, C3, or smooth."""
TURN = math.pi / 4
"""Largest span of an angle to begin with."""
WIDER = 0.01
"""By which the parameters of a face are widened on both sides, of their range."""
ROUND_IN_U = (GeomAbs_Cylinder, GeomAbs_Cone, GeomAbs_Sphere, GeomAbs_Torus, GeomAbs_SurfaceOfRevolution)
ROUND_IN_V = (GeomAbs_Sphere, GeomAbs_Torus)
WIDE_IN_V = (GeomAbs_Plane, GeomAbs_Cylinder, GeomAbs_SurfaceOfExtrusion)

Box = tuple[float, float, float, float]


def curve_points(curve: Geom_Curve) -> Callable[[Array], Array]:
    """Function from parameters (m, 1) to points (m, 3)."""

    def evaluate(parameters: Array) -> Array:
        point, found = gp_Pnt(), np.empty((len(parameters), 3))
        for row, t in enumerate(parameters[:, 0].tolist()):
            curve.D0(t, point)
            found[row] = point.X(), point.Y(), point.Z()
        return found

    return evaluate


def surface_points(surface: Geom_Surface) -> Callable[[Array], Array]:
    """Function from parameters (m, 2) to points (m, 3)."""

    def evaluate(parameters: Array) -> Array:
        point, found = gp_Pnt(), np.empty((len(parameters), 3))
        for row, (u, v) in enumerate(parameters.tolist()):
            surface.D0(u, v, point)
            found[row] = point.X(), point.Y(), point.Z()
        return found

    return evaluate


def plane_points(curve: Geom2d_Curve, parameters: Array) -> Array:
    """(m, 2) points of a curve in the parameters of a face at parameters (m,)."""
    point, found = gp_Pnt2d(), np.empty((len(parameters), 2))
    for row, t in enumerate(parameters.tolist()):
        curve.D0(t, point)
        found[row] = point.X(), point.Y()
    return found


def curve_axis(curve: Geom_Curve, first: float, last: float) -> Axis:
    """Knots of a fit of a curve on its range."""
    adaptor = GeomAdaptor_Curve(curve, first, last)
    breaks = _breaks(lambda c: adaptor.NbIntervals(c), adaptor.Intervals, first, last)
    largest = TURN if adaptor.GetType() in (GeomAbs_Circle, GeomAbs_Ellipse) else math.inf
    return _axis(breaks, first, last, largest)


def surface_axes(surface: Geom_Surface, box: Box) -> tuple[Axis, Axis]:
    """Knots of a fit of a surface on a box of parameters."""
    u_first, u_last, v_first, v_last = box
    adaptor = GeomAdaptor_Surface(surface, *box)
    kind = adaptor.GetType()
    in_u = _breaks(adaptor.NbUIntervals, adaptor.UIntervals, u_first, u_last)
    in_v = _breaks(adaptor.NbVIntervals, adaptor.VIntervals, v_first, v_last)
    return (
        _axis(in_u, u_first, u_last, TURN if kind in ROUND_IN_U else math.inf),
        _axis(in_v, v_first, v_last, TURN if kind in ROUND_IN_V else math.inf),
    )


def fit_box(surface: Geom_Surface, box: Box) -> Box:
    """Parameters on which a face with the given box is fitted.

    Wider than it where the surface goes on, so that rounding leaves no trimming curve outside; exactly one period where
    the face goes all the way round once.
    """
    kind = GeomAdaptor_Surface(surface).GetType()
    u = _range(box[0], box[1], surface.UPeriod() if surface.IsUPeriodic() else None, kind == GeomAbs_Plane)
    v = _range(box[2], box[3], surface.VPeriod() if surface.IsVPeriodic() else None, kind in WIDE_IN_V)
    natural = surface.Bounds()
    if not surface.IsUPeriodic():
        u = max(u[0], natural[0]), min(u[1], natural[1])
    if not surface.IsVPeriodic():
        v = max(v[0], natural[2]), min(v[1], natural[3])
    return (*u, *v)


def _range(first: float, last: float, period: float | None, wider: bool) -> tuple[float, float]:
    if period is not None and 1 - 1e-6 < (last - first) / period < 1.01:  # more than a turn is a thread
        return first, first + period
    more = WIDER * (last - first) if wider else 0.0
    return first - more, last + more


def _breaks(count: Callable[..., int], fill: Callable[..., None], first: float, last: float) -> dict[float, int]:
    """Multiplicity by inner parameter where the original is not smooth."""
    found: dict[float, int] = {}
    for continuity, multiplicity in CONTINUITY:
        values = Array1_double(1, count(continuity) + 1)
        fill(values, continuity)
        for index in range(2, values.Length()):
            at = values.Value(index)
            near = min(at - first, last - at) < 1e-9 * (last - first)
            if not near and all(abs(at - known) > 1e-9 * (last - first) for known in found):
                found[at] = multiplicity
    return found


def _axis(breaks: dict[float, int], first: float, last: float, largest: float) -> Axis:
    ends, multiplicities = [first], []
    inner = sorted(breaks)
    for a, b in pairwise([first, *inner, last]):
        pieces = max(1, math.ceil((b - a) / largest - 1e-9))
        for piece in range(1, pieces):
            ends.append(a + piece * (b - a) / pieces)
            multiplicities.append(1)
        ends.append(b)
        if b != last:
            multiplicities.append(breaks[b])
    return Axis(tuple(ends), tuple(multiplicities))


def b_spline_curve(axis: Axis, poles: Array) -> Geom_BSplineCurve:
    """The curve with poles (n, 3)."""
    own = Array1_gp_Pnt(1, len(poles))
    for index, (x, y, z) in enumerate(poles.tolist(), start=1):
        own.SetValue(index, gp_Pnt(x, y, z))
    return Geom_BSplineCurve(own, *_knots(axis), DEGREE, False)


def b_spline_surface(axes: tuple[Axis, Axis], poles: Array) -> Geom_BSplineSurface:
    """The surface with poles (n_u, n_v, 3)."""
    own = Array2_gp_Pnt(1, poles.shape[0], 1, poles.shape[1])
    for row, line in enumerate(poles.tolist(), start=1):
        for column, (x, y, z) in enumerate(line, start=1):
            own.SetValue(row, column, gp_Pnt(x, y, z))
    (u_knots, u_multiplicities), (v_knots, v_multiplicities) = map(_knots, axes)
    return Geom_BSplineSurface(own, u_knots, v_knots, u_multiplicities, v_multiplicities, DEGREE, DEGREE)


def _knots(axis: Axis) -> tuple[Array1_double, Array1_int]:
    knots, multiplicities = Array1_double(1, len(axis.breaks)), Array1_int(1, len(axis.breaks))
    every: NDArray[np.int64] = np.array([DEGREE + 1, *axis.multiplicities, DEGREE + 1])
    for index, (knot, multiplicity) in enumerate(zip(axis.breaks, every.tolist(), strict=True), start=1):
        knots.SetValue(index, knot)
        multiplicities.SetValue(index, multiplicity)
    return knots, multiplicities
