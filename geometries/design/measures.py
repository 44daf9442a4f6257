"""Geometric quantities of a design: measures of the part, and smooth margins against bad shapes.

Each maps a batch theta (..., P) to (...,) and is differentiable, so that it serves as an optimizer's
constraint; :func:`check_design` refuses what the margins only warn of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.outlines import ShapeError, check_outlines
from shapewright.geometries.family.spline import loop_matrix
from shapewright.geometries.mesh.jacobians import bernstein_jacobians


@dataclass(frozen=True)
class Quantity:
    """A geometric function of the design. ``unit`` counts powers of the study's length unit."""

    evaluate: Callable[[ShapeMap, Tensor], Tensor]
    unit: str
    description: str


def area(shape_map: ShapeMap, theta: Tensor) -> Tensor:
    """Area of the part, exact for its B-spline."""
    family = shape_map.family
    return family.part_quadrature.area(family.part_points(theta))


def perimeter(shape_map: ShapeMap, theta: Tensor) -> Tensor:
    """Arc length of the part's boundary."""
    family = shape_map.family
    return family.part_quadrature.perimeter(family.part_points(theta))


def centroid_x(shape_map: ShapeMap, theta: Tensor) -> Tensor:
    """First coordinate of the part's centroid."""
    family = shape_map.family
    return family.part_quadrature.centroid(family.part_points(theta))[..., 0]


def centroid_y(shape_map: ShapeMap, theta: Tensor) -> Tensor:
    """Second coordinate of the part's centroid."""
    family = shape_map.family
    return family.part_quadrature.centroid(family.part_points(theta))[..., 1]


def jacobian(shape_map: ShapeMap, theta: Tensor, sharpness: float = 100.0) -> Tensor:
    """Smooth lower bound of the least ratio of a cell's Jacobian to that in the reference mesh.

    Kreisselmeier-Steinhauser: below the true minimum by at most log(6 M) / sharpness for M cells. Positive
    means that no cell is folded.
    """
    ratio = bernstein_jacobians(shape_map.mesh, shape_map.nodes(theta)) / shape_map.reference_jacobians.to(theta)
    return -torch.logsumexp(-sharpness * ratio.flatten(-2), -1) / sharpness


def thickness(shape_map: ShapeMap, theta: Tensor) -> Tensor:
    """Smooth lower bound of the distance between opposite sides of the part, measured through it.

    Sides count as opposite when their normals are within 8 degrees of it, and partly up to 32 degrees: near a
    sharp tip the part is thin. 8 to 16 % below the least width of ellipses up to 5:1 and of strips.
    """
    return _opposite_distance(shape_map, theta, inside=True)


def gap(shape_map: ShapeMap, theta: Tensor) -> Tensor:
    """Smooth lower bound of the distance between facing sides of the part's outline, measured outside it.

    As :func:`thickness`; thousands of times the part's size where no sides face each other.
    """
    return _opposite_distance(shape_map, theta, inside=False)


def clearance(shape_map: ShapeMap, theta: Tensor) -> Tensor:
    """Smooth lower bound of the distance from the part to the other loops; negative when it crosses them.

    Kreisselmeier-Steinhauser over points around the part: below the least of their distances by at most
    log(number of points) / 50 of the part's smaller extent, about a tenth of it.
    """
    family = shape_map.family
    part, _ = _samples(shape_map, theta, family.part)
    distances = []
    for index in range(len(family.loops)):
        if index == family.part:
            continue
        points, normals = _samples(shape_map, theta, index)
        sign = 1.0 if index == 0 else -1.0
        offset = points[..., None, :, :] - part[..., :, None, :]
        nearest = offset.detach().norm(dim=-1).argmin(-1)[..., None, None].expand(*offset.shape[:-2], 1, 2)
        facing = torch.take_along_dim(normals[..., None, :, :].expand_as(offset), nearest, -2)
        distances.append(sign * (torch.take_along_dim(offset, nearest, -2) * facing).sum(-1)[..., 0])
    sharpness = 50.0 / float(_size(shape_map))
    return -torch.logsumexp(-sharpness * torch.cat(distances, -1), -1) / sharpness


def _size(shape_map: ShapeMap) -> Tensor:
    points = shape_map.origin.part_points(shape_map.origin.reference)
    return (points.max(0).values - points.min(0).values).min()


def _samples(shape_map: ShapeMap, theta: Tensor, loop: int) -> tuple[Tensor, Tensor]:
    """Points (..., S, 2) and outward normals of a counter-clockwise loop."""
    family = shape_map.family
    points = family.control_points(theta)[..., family.loop_slices[loop], :]
    position, tangent = (
        torch.from_numpy(loop_matrix(family.loops[loop], 6, derivative)).to(points) @ points for derivative in (0, 1)
    )
    normals = torch.stack([tangent[..., 1], -tangent[..., 0]], -1)
    return position, normals / normals.norm(dim=-1, keepdim=True)


def _opposite_distance(shape_map: ShapeMap, theta: Tensor, inside: bool) -> Tensor:
    """Power mean of |d| over pairs of points with nearly opposite normals that face each other along d."""
    points, normals = _samples(shape_map, theta, shape_map.family.part)
    offset = points[..., None, :, :] - points[..., :, None, :]
    squared = (offset**2).sum(-1)
    same = torch.eye(points.shape[-2], dtype=torch.bool, device=points.device)
    distance = torch.sqrt(torch.where(same, torch.ones_like(squared), squared) + 1e-30)
    opposed = -(normals[..., None, :, :] * normals[..., :, None, :]).sum(-1)
    along = (offset * normals[..., :, None, :]).sum(-1) / distance
    facing = -along if inside else along
    share = torch.where(
        same, torch.zeros_like(squared), smooth_step(opposed, 0.85, 0.99) * smooth_step(facing, 0.85, 0.99)
    )
    power, size = 64, _size(shape_map).to(theta)
    inverse = (share * size / distance).flatten(-2)
    largest = inverse.detach().amax(-1, keepdim=True).clamp_min(1e-3)
    mean = largest[..., 0] * (((inverse / largest) ** power).sum(-1) + 1e-12) ** (1 / power)
    return size / mean


def smooth_step(value: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low`` to 1 above ``high``, once continuously differentiable."""
    s = ((value - low) / (high - low)).clamp(0, 1)
    return s * s * (3 - 2 * s)


QUANTITIES: dict[str, Quantity] = {
    "area": Quantity(area, "length^2", "area of the part"),
    "perimeter": Quantity(perimeter, "length", "length of the part's boundary"),
    "centroid_x": Quantity(centroid_x, "length", "centroid of the part, first coordinate"),
    "centroid_y": Quantity(centroid_y, "length", "centroid of the part, second coordinate"),
    "jacobian": Quantity(jacobian, "1", "least cell Jacobian over its reference value (folding margin)"),
    "thickness": Quantity(thickness, "length", "least distance through the part"),
    "gap": Quantity(gap, "length", "least distance between facing sides, outside the part"),
    "clearance": Quantity(clearance, "length", "least distance from the part to the domain's other walls"),
}


def quantities_of(shape_map: ShapeMap) -> dict[str, Quantity]:
    """The quantities that this family has: ``clearance`` needs another loop."""
    return {
        name: quantity
        for name, quantity in QUANTITIES.items()
        if name != "clearance" or len(shape_map.family.loops) > 1
    }


def check_design(shape_map: ShapeMap, theta: Tensor, least_thickness: float = 0.0) -> None:
    """Refuse a design (P,) that is no valid shape.

    Raises:
        ShapeError: not finite, self-intersecting outline, part outside the domain, folded map, or too thin.
    """
    family = shape_map.family
    if not torch.isfinite(theta).all():
        raise ShapeError(f"design has parameters that are not finite: {theta.tolist()}")
    check_outlines(family, family.control_points(theta).detach().cpu().double().numpy())
    least = bernstein_jacobians(shape_map.mesh, shape_map.nodes(theta).detach())
    ratio = least / shape_map.reference_jacobians.to(least)
    if not float(ratio.min()) > 0:
        raise ShapeError(f"folded map: the least Jacobian ratio is {float(ratio.min()):.3g}; it must stay positive")
    if least_thickness > 0 and (through := float(thickness(shape_map, theta).detach())) < least_thickness:
        raise ShapeError(
            f"too thin: least distance through the part {through:.3g}; allowed is {least_thickness:.3g} or more"
        )


def valid_designs(shape_map: ShapeMap, theta: Tensor, least_jacobian: float | None = 0.0) -> NDArray[np.bool_]:
    """(B,) which designs theta (B, P) pass :func:`check_design` with a Jacobian margin above ``least_jacobian``.

    None asks for no margin: of a caller who knows it.
    """
    keep = []
    for design in theta:
        try:
            check_design(shape_map, design)
            keep.append(least_jacobian is None or float(jacobian(shape_map, design)) > least_jacobian)
        except ShapeError:
            keep.append(False)
    return np.array(keep, dtype=bool)
