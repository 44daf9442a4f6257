"""The certificate's entries of the design: parameters with their tolerances, size and corners of the part, CAD."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor

from shapewright.geometries.family.corners import corners
from shapewright.geometries.family.parts import Parameter
from shapewright.studies.certify.export import Exported
from shapewright.studies.certify.final_solutions import Solved
from shapewright.studies.certify.model import Cad, Corner, Extent, ParameterResult, Part
from shapewright.studies.certify.sensitivity import tolerances
from shapewright.studies.optimize.stationarity import BOUND_TOLERANCE
from shapewright.studies.problem.setup import Setup


@dataclass(frozen=True)
class ParameterEntries:
    """Parameter -> its entry, and the share of all their tolerances that is allowed at once."""

    parameters: dict[str, ParameterResult]
    joint_tolerance: float | None


def parameter_entries(setup: Setup, theta: Tensor, solved: Solved) -> ParameterEntries:
    """Each parameter of the optimum theta (P,) with the objective's derivatives, and its tolerance."""
    allowed = setup.study.model.validation.manufacturing * solved.reference
    alone, together = tolerances(solved.gradients[0], solved.curvature, allowed)
    derivatives = zip(solved.gradients[0].tolist(), np.diagonal(solved.curvature).tolist(), alone, strict=True)
    values = zip(theta.tolist(), setup.initial.tolist(), strict=True)
    rows = zip(setup.family.parameters, values, derivatives, strict=True)
    table = {parameter.name: _parameter(parameter, *row) for parameter, *row in rows}
    return ParameterEntries(table, together)


def _parameter(
    parameter: Parameter, values: tuple[float, float], derivatives: tuple[float, float, float | None]
) -> ParameterResult:
    """Of values at the optimum and at the start; of first and second derivative, and tolerance."""
    value, start = values
    slope, bend, deviation = derivatives
    edge = BOUND_TOLERANCE * (parameter.upper - parameter.lower)
    return ParameterResult(
        value=value,
        lower=parameter.lower,
        upper=parameter.upper,
        initial=start,
        unit=parameter.unit,
        bound_hit=not parameter.lower + edge < value < parameter.upper - edge,
        sensitivity=slope,
        curvature=bend,
        tolerance=deviation,
    )


def part_entry(setup: Setup, theta: Tensor) -> Part:
    """Size of the part at the start and at the optimum theta (P,), and corners of the optimum."""
    family = setup.family
    found = corners(family.loops[family.part], family.part_points(theta).numpy())
    return Part(
        initial=_extent(setup, setup.initial),
        optimum=_extent(setup, theta),
        corners=tuple(Corner(**asdict(corner)) for corner in found),
        unit=setup.study.model.geometry.length_unit,
    )


def _extent(setup: Setup, design: Tensor) -> Extent:
    family = setup.family
    outline = family.outline(family.control_points(design).numpy(), family.part)
    length, height = np.ptp(outline, axis=0).tolist()
    return Extent(length=length, height=height, ratio=length / height)


def cad_entry(exported: Exported) -> Cad:
    """The CAD file read back."""
    return Cad(
        file="optimum.step",
        kind="solid" if exported.check.solid else "face",
        valid=exported.check.valid,
        area_or_volume_reread=exported.check.measure,
        area_or_volume_design=exported.measure,
        relative_error=exported.relative_error,
        max_deviation=exported.check.max_deviation,
        b_spline_edges=exported.check.b_spline_edges,
        stl=exported.stl,
        domain_relative_error=exported.domain_error,
    )
