"""What can be wrong with a family, found when it is made and not in the middle of a study.

A map that ignores the batch dimension, or that leaves torch, would otherwise give wrong shapes or zero
gradients in silence; one that answers twice in two ways, or jumps, a search that means nothing.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.family.effort import effort_fault
from shapewright.geometries.family.parts import FamilyParts
from shapewright.geometries.family.spline import LoopQuadrature
from shapewright.geometries.forward_mode import jvp

PROBES = 6
"""Designs of the box, drawn once for all, at which a family is tried beside its default and its middle."""


def fault(family: FamilyParts) -> str | None:
    """What is wrong with the family, in words; None if nothing was found."""
    found = _parts_fault(family) or effort_fault(family)
    if found:
        return found
    # inside the bounds, but at no point of symmetry, where a good map may have a zero derivative
    inside = family.bounds @ torch.tensor([0.57, 0.43], dtype=torch.float64)
    share = torch.rand(PROBES, len(inside), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = family.bounds[:, 0] + (family.bounds[:, 1] - family.bounds[:, 0]) * share
    designs = torch.stack([family.default, inside, family.reference, *drawn])
    for theta in designs:
        found = _shape_fault(family, theta) or _joint_fault(family, family.control_points(theta))
        if found:
            return found
    return (
        _repeat_fault(family, inside, designs)
        or _batch_fault(family, designs)
        or _orientation_fault(family, family.control_points(inside))
        or _derivative_fault(family, inside)
        or _jump_fault(family, drawn)
        or _precision_fault(family, inside)
    )


def _parts_fault(family: FamilyParts) -> str | None:
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
    for rays in family.rays:
        if rays.loop not in range(len(family.loops)) or not family.loops[rays.loop][0].periodic:
            return f"rays belong to loop {rays.loop}; allowed is the index of a loop of one periodic curve"
    return None


def _shape_fault(family: FamilyParts, theta: Tensor) -> str | None:
    """What one answer is not: a finite tensor of the right shape, in the dtype of the design, which stays as it was."""
    given = theta.clone()
    try:
        points = family.control_points(given)
    except Exception as error:
        return f"control_points fails at {_shown(theta)}: {type(error).__name__}: {error}"
    if not torch.equal(given, theta):
        return "control_points changes the theta that it is given; it must leave it as it is"
    if not isinstance(points, Tensor):
        return f"control_points(theta) is a {type(points).__name__}; allowed is a torch tensor"
    expected = (sum(curve.count for curve in family.curves), 2)
    if tuple(points.shape) != expected:
        return f"control_points(theta) has shape {tuple(points.shape)}, its curves need {expected} (at {_shown(theta)})"
    if points.dtype != theta.dtype:
        return f"control_points(theta) is {points.dtype} for a theta of {theta.dtype}; both must agree (use .to(theta))"
    if not torch.isfinite(points).all():
        return f"control_points(theta) is not finite at {_shown(theta)}, within the bounds"
    return None


def _shown(theta: Tensor) -> str:
    values = ", ".join(f"{value:.4g}" for value in theta[:6].tolist())
    return f"theta = [{values}{', ...' if len(theta) > 6 else ''}]"


def _repeat_fault(family: FamilyParts, theta: Tensor, others: Tensor) -> str | None:
    """Whether an answer depends on anything but theta, or is taken back when another one is given."""
    first = family.control_points(theta)
    kept = first.clone()
    for other in others:
        family.control_points(other)
    if not torch.equal(first, kept):
        return "control_points changes an earlier result when it is called again; it must return a new tensor"
    if not torch.equal(family.control_points(theta), kept):
        return "control_points gives two results for one theta; it must depend on theta alone"
    return None


def _precision_fault(family: FamilyParts, theta: Tensor) -> str | None:
    """Surrogates are trained in single precision."""
    single = family.control_points(theta.float())
    if single.dtype != torch.float32:
        return f"control_points(theta) is {single.dtype} for a theta of torch.float32; both must agree (use .to(theta))"
    return None


def _jump_fault(family: FamilyParts, designs: Tensor) -> str | None:
    """Along straight lines in the box the derivative must account for the motion: the curves must not be exchanged."""
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(40))
    for start, end in pairwise(designs):
        along = start + (nodes[:, None] + 1) / 2 * (end - start)
        try:
            towards = (end - start).expand_as(along).contiguous()
            slopes = jvp(family.control_points, (along,), (towards,))[1]
        except Exception as error:
            return f"control_points cannot be differentiated by torch: {error}"
        moved = family.control_points(end) - family.control_points(start)
        missed = float((torch.einsum("q,qnd->nd", weights / 2, slopes) - moved).abs().max())
        size = float(max(moved.abs().max(), (weights[:, None, None] / 2 * slopes).sum(0).abs().max()))
        if missed > 0.05 * size + 1e-12 * float(family.control_points(start).abs().max()):
            return (
                f"control_points jumps between {_shown(start)} and {_shown(end)}: its derivative misses {missed:.3g}"
                f" of a motion of {float(moved.abs().max()):.3g}; it must be continuous within the bounds"
            )
    return None


def _batch_fault(family: FamilyParts, designs: Tensor) -> str | None:
    designs = designs.reshape(1, *designs.shape)
    single = torch.stack([family.control_points(theta) for theta in designs[0]])[None]
    try:
        batch = family.control_points(designs)
    except Exception as error:
        return f"control_points must take a batch theta (..., P), but failed on {tuple(designs.shape)}: {error}"
    rounding = 1e-9 * float(single.abs().max())
    if batch.shape != single.shape or not torch.allclose(batch, single, rtol=0, atol=rounding, equal_nan=True):
        return (
            "control_points must take a batch theta (..., P) to (..., n, 2), but its result for several designs"
            " together is not that of each alone (index theta as theta[..., k])"
        )
    return None


def _joint_fault(family: FamilyParts, points: Tensor) -> str | None:
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


def _orientation_fault(family: FamilyParts, points: Tensor) -> str | None:
    for loop, span in zip(family.loops, family.loop_slices, strict=True):
        if LoopQuadrature(loop).area(points[span]) <= 0:
            return f"the loop that begins with '{loop[0].tag}' runs clockwise; every loop must run counter-clockwise"
    return None


def _derivative_fault(family: FamilyParts, theta: Tensor) -> str | None:
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
