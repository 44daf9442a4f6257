"""Checks of a design: mesh error, first-order conditions, gain over the start, and CAD."""

from __future__ import annotations

import math

from shapewright.studies.certify.comparison import relative
from shapewright.studies.certify.convergence import Extrapolation
from shapewright.studies.certify.export import Exported
from shapewright.studies.certify.final_solutions import Solved
from shapewright.studies.certify.verdict_model import Check
from shapewright.studies.certify.verdicts import least_residual
from shapewright.studies.optimize.stationarity import Stationarity
from shapewright.studies.problem.setup import Setup

CAD_ERROR = 1e-6
"""Largest relative error of what is read back from CAD."""


def fem_checks(setup: Setup, solved: Solved, stationary: Stationarity) -> list[Check]:
    """Mesh error, moved mesh and first-order conditions."""
    given, size, limit = setup.study.model.validation, solved.reference, solved.limit
    key, residual, _ = least_residual(setup.study.model)
    mapped = float(solved.values[0]) - limit.value
    meaning = f"finest FEM value against its extrapolation: {limit.note}"
    moved = "FEM on the moved mesh against the re-read CAD: they share no mesh"
    first_order = f"stationarity by the FEM adjoint; limit from {key}"
    return [
        Check.of("mesh error", relative(limit.error, size), "<=", given.discretization_error, meaning),
        Check.of("mapped mesh", relative(mapped, size), "<=", given.objective_error, moved),
        Check.of("KKT residual", stationary.residual, "<=", residual, first_order),
    ]


def improvement_check(sign: int, fine: float, start: float, limit: Extrapolation) -> Check:
    """The objective may be no worse than at the start by more than the uncertainties of both on their meshes.

    Args:
        sign: 1 to minimize, -1 to maximize.
        fine, start: objective on meshes of the same cell size.
        limit: of ``fine``; the start's mesh is taken to be as uncertain.
    """
    size = abs(start) or abs(fine) or 1.0
    gain, noise = -sign * (fine - start) / size, uncertainty(limit) / size
    meaning = "FEM objective against the start; the limit is the uncertainty of the meshes"
    return Check.of("improvement", gain, ">=", -noise, meaning)


def uncertainty(limit: Extrapolation) -> float:
    """Uncertainty of a difference of two values, each with the grid-convergence index of one; zero where unknown."""
    return 2 * limit.gci if math.isfinite(limit.gci) else 0.0


def cad_checks(exported: Exported, size: float) -> list[Check]:
    """What was read back; ``size`` is the part's, length unit."""
    checks = [
        Check.of(
            "CAD measure",
            exported.relative_error,
            "<=",
            CAD_ERROR,
            "area or volume read back against the design's own",
        ),
        Check.of(
            "CAD deviation",
            exported.check.max_deviation / size,
            "<=",
            CAD_ERROR,
            "curve read back, relative to the part's size",
        ),
        Check.of("CAD valid", float(exported.check.valid), ">=", 1.0, "OpenCASCADE's own check"),
    ]
    if exported.domain_error is not None:
        meaning = "area or volume of the domain around the part, read back"
        checks.append(Check.of("CAD domain", exported.domain_error, "<=", CAD_ERROR, meaning))
    if exported.stl is not None:
        closed = exported.stl.watertight and exported.stl.consistent_winding and exported.stl.volume > 0
        checks.append(Check.of("STL closed", float(closed), ">=", 1.0, "watertight, consistently oriented (trimesh)"))
    return checks
