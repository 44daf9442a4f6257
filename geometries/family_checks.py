"""What can be wrong with a family, found when it is made and not in the middle of a study.

A map that ignores the batch dimension, or that leaves torch, would otherwise give wrong shapes or zero
gradients in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from geometries.spline import LoopQuadrature

if TYPE_CHECKING:
    from geometries.family import Family


def fault(family: Family) -> str | None:
    """What is wrong with the family, in words; None if nothing was found."""
    found = _parts_fault(family) or _shape_fault(family)
    if found:
        return found
    # inside the bounds, but at no point of symmetry, where a good map may have a zero derivative
    inside = family.bounds @ torch.tensor([0.57, 0.43], dtype=torch.float64)
    return (
        _batch_fault(family, torch.stack([inside, family.reference]))
        or _joint_fault(family, family.control_points(family.default))
        or _joint_fault(family, family.control_points(inside))
        or _orientation_fault(family, family.control_points(inside))
        or _derivative_fault(family, inside)
    )


def _parts_fault(family: Family) -> str | None:
    names = [parameter.name for parameter in family.parameters]
    if len(set(names)) != len(names) or not names:
        return f"parameters must have distinct names, found {names}"
    if not family.loops or not all(family.loops):
        return "loops must hold the outer boundary, and each loop at least one curve"
    if family.part not in range(len(family.loops)):
        return f"part is {family.part}; allowed is the index of one of its {len(family.loops)} loops"
    if family.part == 0 and len(family.loops) > 1:
        return (
            "part is 0, but the domain has holes; the part must be one of these (a domain with holes is not exported)"
        )
    for loop in family.loops:
        for curve in loop:
            if curve.periodic and len(loop) > 1:
                return f"the periodic curve '{curve.tag}' is closed; it must be a loop of its own"
    return None


def _shape_fault(family: Family) -> str | None:
    points = family.control_points(family.default)
    expected = (sum(curve.count for curve in family.curves), 2)
    if tuple(points.shape) != expected:
        return f"control_points(theta) has shape {tuple(points.shape)}, its curves need {expected}"
    if not torch.isfinite(points).all():
        return "control_points(default theta) is not finite"
    return None


def _batch_fault(family: Family, designs: Tensor) -> str | None:
    single = torch.stack([family.control_points(theta) for theta in designs])
    try:
        batch = family.control_points(designs)
    except Exception as error:
        return f"control_points must take a batch theta (..., P), but failed on {tuple(designs.shape)}: {error}"
    rounding = 1e-9 * float(single.abs().max())
    if batch.shape != single.shape or not torch.allclose(batch, single, rtol=0, atol=rounding, equal_nan=True):
        return (
            "control_points must take a batch theta (..., P) to (..., n, 2), but its result for two designs together"
            " is not that of each alone (index theta as theta[..., k])"
        )
    return None


def _joint_fault(family: Family, points: Tensor) -> str | None:
    size = float((points.max(0).values - points.min(0).values).norm())
    for loop, span in zip(family.loops, family.loop_slices, strict=True):
        if loop[0].periodic:
            continue
        start, ends = span.start, []
        for curve in loop:
            ends.append((points[start], points[start + curve.count - 1]))
            start += curve.count
        for k, curve in enumerate(loop):
            following = (k + 1) % len(loop)
            gap = float((ends[k][1] - ends[following][0]).norm())
            if gap > 1e-9 * size:
                return f"curve '{curve.tag}' does not end where '{loop[following].tag}' begins (gap {gap:.3g})"
    return None


def _orientation_fault(family: Family, points: Tensor) -> str | None:
    for loop, span in zip(family.loops, family.loop_slices, strict=True):
        if LoopQuadrature(loop).area(points[span]) <= 0:
            return f"the loop that begins with '{loop[0].tag}' runs clockwise; every loop must run counter-clockwise"
    return None


def _derivative_fault(family: Family, theta: Tensor) -> str | None:
    try:
        slopes = torch.autograd.functional.jacobian(family.control_points, theta).movedim(-1, 0)
    except Exception as error:
        return f"control_points cannot be differentiated by torch: {error}"
    steps = torch.diag(1e-5 * (family.bounds[:, 1] - family.bounds[:, 0]))
    change = family.control_points(theta + steps) - family.control_points(theta - steps)
    rounding = 1e-13 * family.control_points(theta).abs().max()
    for parameter, slope, step, moved in zip(family.parameters, slopes, steps.diagonal(), change, strict=True):
        if not torch.allclose(2 * step * slope, moved, rtol=0, atol=float(1e-4 * moved.abs().max() + rounding)):
            return (
                f"the derivative of control_points with respect to '{parameter.name}' by torch differs from a finite"
                " difference (is a value detached from theta, or computed outside torch?)"
            )
        if not slope.any():
            return f"parameter '{parameter.name}' moves no control point"
    return None
