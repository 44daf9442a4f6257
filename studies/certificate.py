"""The finite-element certificate of an optimum: values, gradients, a verdict; nothing shared with the surrogate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geometries.corners import corners
from geometries.integration import nodal_weights
from studies.constraints import constraint_values
from studies.convergence import NOT_MONOTONE, Refined, extrapolated, initial_solution, refine
from studies.export import Exported, field_arrays, write_vtu
from studies.familiarity import describe_familiarity, familiarity_of
from studies.jumps import jumps
from studies.models import FemModel, SurrogateModel, outside_box
from studies.peak import describe_peak
from studies.sampling import stack_fields
from studies.sensitivity import hessian, tolerances
from studies.setup import Setup
from studies.stationarity import BOUND_TOLERANCE, stationarity
from surrogate.accuracy import field_errors

Array = NDArray[np.float64]

VANISHED = 0.05
"""Share of the gradient at the start below which that at the optimum has no direction worth comparing."""


@dataclass(frozen=True)
class Check:
    """One line of the verdict: ``value`` must be ``relation`` (<= or >=) ``limit``."""

    name: str
    value: float
    relation: str
    limit: float
    meaning: str

    @property
    def satisfied(self) -> bool:
        """Whether it is; a value that is not a number is not."""
        return self.value <= self.limit if self.relation == "<=" else self.value >= self.limit


def certify(
    setup: Setup,
    theta: Tensor,
    exported: Exported,
    folder: Path,
    surrogate: SurrogateModel | None,
    correlation: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Judge the design theta (P,) whose CAD lies in ``folder``; writes its fields there as VTU.

    Args:
        setup: study.
        theta: optimum.
        exported: of its CAD.
        folder: with ``optimum.step``.
        surrogate: that found it; None when it was found by finite elements alone.
        correlation: of the surrogate's errors with how far designs are from what it has seen, where it is known.

    Returns:
        the content of ``certificate.json``, without timings.
    """
    objective, tolerance = setup.problem.objective, setup.study.model.validation
    refined = refine(setup, theta, folder / "optimum.step")
    levels = refined.levels[objective.name]
    limit, part = extrapolated(refined, objective), _part(setup, theta)
    finest_at_start = initial_solution(setup)
    start = finest_at_start.values[objective.name]
    fem = FemModel(setup)
    _, gradient_at_start, solution_at_start = fem.value_and_gradient(setup.initial)
    values, gradients, solution = fem.functionals(theta)
    mapped, gradient = float(values[0]), torch.from_numpy(gradients[0])
    fields = stack_fields(solution, setup)
    arrays = field_arrays(setup, fields, "fem")
    mesh = setup.shape_map.mesh.moved(solution.nodes)
    checks = [
        Check(
            "mesh error",
            limit.error,
            "<=",
            tolerance.discretization_error,
            "finest FEM value against its extrapolation",
        ),
        Check(
            "mapped mesh",
            _relative(mapped - limit.value, limit.value),
            "<=",
            tolerance.objective_error,
            "FEM on the moved mesh against the re-read CAD: they share no mesh",
        ),
    ]
    familiarity = None
    compared: dict[str, Any] = {
        "surrogate": None,
        "functionals": None,
        "surrogate_relative_error": None,
        "field_relative_l2_error": None,
        "gradient": None,
    }
    if surrogate is not None:
        compared, predicted = _compare(
            setup, surrogate, theta, limit.value, fields, (gradient, gradient_at_start), solution.nodes
        )
        arrays |= field_arrays(setup, predicted, "surrogate") | field_arrays(setup, predicted - fields, "difference")
        checks += [
            Check(
                "objective",
                compared["surrogate_relative_error"],
                "<=",
                tolerance.objective_error,
                "surrogate against FEM",
            ),
            Check(
                "fields",
                float(np.max(list(compared["field_relative_l2_error"].values()))),  # not a number if one is not
                "<=",
                tolerance.field_error,
                "surrogate against FEM, L2",
            ),
            *gradient_checks(compared["gradient"], tolerance.gradient_cosine),
        ]
        known = familiarity_of(setup, surrogate.surrogate, surrogate.box)
        familiarity = describe_familiarity(known, theta) | {"correlation": correlation}
    stationary = stationarity(setup, theta, gradient, gradient_at_start, (values, gradients))
    optimizer = setup.study.model.optimizer
    promised = optimizer.kkt_tolerance if optimizer.method == "trust_region" else math.inf
    key = "optimizer.kkt_tolerance" if promised < tolerance.kkt_residual else "validation.kkt_residual"
    checks.append(
        Check(
            "KKT residual",
            stationary.residual,
            "<=",
            min(tolerance.kkt_residual, promised),
            f"stationarity by the FEM adjoint; limit from {key}",
        )
    )
    size = max(part["optimum"]["length"], part["optimum"]["height"])
    checks += [
        Check(
            "CAD measure",
            exported.relative_error,
            "<=",
            1e-6,
            "area or volume read back against the design's own",
        ),
        Check(
            "CAD deviation",
            exported.check.max_deviation / size,
            "<=",
            1e-6,
            "curve read back, relative to the part's size",
        ),
        Check("CAD valid", float(exported.check.valid), ">=", 1.0, "OpenCASCADE's own check"),
    ]
    if exported.domain_error is not None:
        meaning = "area or volume of the domain around the part, read back"
        checks.append(Check("CAD domain", exported.domain_error, "<=", 1e-6, meaning))
    if exported.stl is not None:
        closed = exported.stl["watertight"] and exported.stl["consistent_winding"] and exported.stl["volume"] > 0
        checks.append(Check("STL closed", float(closed), ">=", 1.0, "watertight, consistently oriented (trimesh)"))
    fine = levels[-1].value
    gain = -setup.sign * _relative(fine - start, start, signed=True)
    warnings = [] if surrogate is None else list(outside_box(setup, theta.numpy()[None], surrogate.box).values())
    warnings += jumps(setup)
    missed = dict.fromkeys(
        c.quantity
        for c in setup.constraints
        if c.functional is not None and not c.satisfied(solution_at_start.values[c.quantity])
    )
    if missed:
        warnings.append(f"The start does not meet the required {', '.join(missed)}: its objective measures no gain.")
    else:
        checks.append(Check("improvement", gain, ">=", 0.0, "FEM objective against the start, positive is better"))
    write_vtu(folder / "optimum.vtu", mesh, arrays)
    start_mesh = setup.shape_map.mesh.moved(solution_at_start.nodes)
    start_fields = field_arrays(setup, stack_fields(solution_at_start, setup), "fem")
    write_vtu(folder / "initial.vtu", start_mesh, start_fields)
    constraints = _constraints(setup, theta, refined, values, compared["functionals"])
    reasons = [
        f"{check.name}: {check.value:.3g} is not {check.relation} {check.limit:g} ({check.meaning})"
        for check in checks
        if not check.satisfied
    ]
    reasons += [
        f"constraint '{c['name']}': {c['value']:.9g} against {c['target']:.9g}"
        for c in constraints
        if not c["satisfied"]
    ]
    return {
        "study": setup.study.model.name,
        "accepted": not reasons,
        "reasons": reasons or ["all checks passed"],
        "checks": [asdict(check) | {"satisfied": check.satisfied} for check in checks],
        **_parameters(setup, theta, gradient, hessian(fem, theta, gradient), mapped),
        "objective": {
            "name": objective.name,
            "unit": objective.unit,
            "sense": "minimize" if setup.sign > 0 else "maximize",
            "initial_fem": start,
            "surrogate": compared["surrogate"],
            "fem": fine,
            "fem_mapped": mapped,
            "fem_levels": [asdict(level) for level in levels],
            "fem_extrapolated": limit.value,
            "observed_order": limit.order,
            "discretization_error": limit.error,
            "grid_convergence_index": limit.gci,
            "extrapolation": limit.note + _spoilt(limit.note, part["corners"]),
            "surrogate_relative_error": compared["surrogate_relative_error"],
            "improvement": gain,
            "peak": describe_peak(objective, refined.finest),
            "peak_at_start": describe_peak(objective, finest_at_start),
        },
        "constraints": constraints,
        "field_relative_l2_error": compared["field_relative_l2_error"],
        "gradient": compared["gradient"],
        "kkt_residual": stationary.residual,
        "multipliers": stationary.multipliers,
        "familiarity": familiarity,
        "part": part,
        "cad": {
            "file": "optimum.step",
            "kind": "solid" if exported.check.solid else "face",
            "valid": exported.check.valid,
            "area_or_volume_reread": exported.check.measure,
            "area_or_volume_design": exported.measure,
            "relative_error": exported.relative_error,
            "max_deviation": exported.check.max_deviation,
            "b_spline_edges": exported.check.b_spline_edges,
            "stl": exported.stl,
            "domain_relative_error": exported.domain_error,
        },
        "warnings": warnings,
        "fem_solves": {
            "forward": fem.solves["forward"] + len(levels) + 1,
            "adjoint": fem.solves["adjoint"],
            "tangent": 0,
        },
    }


def _compare(
    setup: Setup,
    surrogate: SurrogateModel,
    theta: Tensor,
    exact: float,
    fields: Array,
    gradient: tuple[Tensor, Tensor],
    nodes: Array,
) -> tuple[dict[str, Any], Array]:
    """What the certificate says of the surrogate at the optimum, and the fields (N, c) that it predicts there.

    ``gradient`` is that of the finite-element objective there and at the start.
    """
    values, gradients = surrogate.evaluate(torch.stack([theta, setup.initial]).numpy())
    predicted = surrogate.fields(theta)
    weights = nodal_weights(setup.shape_map.mesh, torch.from_numpy(nodes))
    errors = field_errors(predicted[None], torch.from_numpy(fields)[None], weights[None])[0]
    bounds = setup.family.bounds
    span = bounds[:, 1] - bounds[:, 0]
    ours, ours_at_start = torch.from_numpy(gradients[:, 0]) * span
    truth, at_start = (part * span for part in gradient)
    value = float(values[0, 0])
    compared = {
        "surrogate": value,
        "functionals": values[0],
        "surrogate_relative_error": _relative(value - exact, exact),
        "field_relative_l2_error": dict(zip(setup.space.components, errors.tolist(), strict=True)),
        "gradient": {
            "cosine": float(torch.cosine_similarity(ours, truth, dim=0)),
            "cosine_at_start": float(torch.cosine_similarity(ours_at_start, at_start, dim=0)),
            "relative_error": float((ours - truth).norm() / truth.norm()),
            "size_to_start": float(truth.norm() / at_start.norm()),
            "error_to_start": float((ours - truth).norm() / at_start.norm()),
        },
    }
    return compared, predicted.numpy()


def gradient_checks(gradient: Mapping[str, float], cosine: float) -> list[Check]:
    """The surrogate's gradient at the optimum against the finite-element adjoint's, by its direction.

    Where the gradient itself vanishes at the optimum, as that of a peak stress at its minimax, its direction is that of
    rounding. Then the direction is judged at the start, and at the optimum the error beside the gradient at the start:
    up to the share that, at a right angle, would turn that by the angle allowed.
    """
    if gradient["size_to_start"] >= VANISHED:
        return [Check("gradient cosine", gradient["cosine"], ">=", cosine, "surrogate against FEM adjoint")]
    meaning = "surrogate against FEM adjoint; it vanishes here, so this is beside the gradient at the start"
    at_start = "surrogate against FEM adjoint at the start; at the optimum the gradient vanishes"
    return [
        Check("gradient cosine at the start", gradient["cosine_at_start"], ">=", cosine, at_start),
        Check("gradient error", gradient["error_to_start"], "<=", math.sqrt(1 - cosine**2), meaning),
    ]


def _relative(difference: float, value: float, signed: bool = False) -> float:
    """``difference`` over the size of ``value``; infinite where that is zero."""
    ratio = math.copysign(math.inf, difference) if value == 0 else difference / abs(value)
    return ratio if signed else abs(ratio)


def _constraints(
    setup: Setup, theta: Tensor, refined: Refined, functionals: Array, claimed: Array | None
) -> list[dict[str, Any]]:
    """Each condition; one on a functional is judged by the re-read CAD, whose mesh the optimizer has not seen."""
    blank = np.zeros((len(functionals), len(theta)))
    values, _ = constraint_values(setup, theta.numpy(), (functionals, blank))
    rows = []
    for condition, mapped in zip(setup.constraints, values.tolist(), strict=True):
        value, evidence = mapped, {}
        if condition.functional is not None:
            levels = refined.levels[condition.quantity]
            limit = extrapolated(refined, setup.problem.functionals[condition.functional])
            value = limit.value
            evidence = {
                "surrogate": None if claimed is None else float(claimed[condition.functional]),
                "fem_mapped": mapped,
                "fem_levels": [asdict(level) for level in levels],
                "observed_order": limit.order,
                "discretization_error": limit.error * (abs(levels[-1].value) or 1.0),
                "grid_convergence_index": limit.gci * (abs(levels[-1].value) or 1.0),
                "extrapolation": limit.note,
            }
        rows.append(
            {
                "name": condition.name,
                "unit": condition.unit,
                "value": value,
                "target": condition.target,
                "satisfied": condition.satisfied(value),
                **evidence,
            }
        )
    return rows


def _extent(setup: Setup, theta: Tensor) -> Array:
    """(2,) lengths of the part along x and y."""
    outline = setup.family.outline(setup.family.control_points(theta).numpy(), setup.family.part)
    return np.ptp(outline, axis=0)


def _part(setup: Setup, theta: Tensor) -> dict[str, Any]:
    """Size of the part at the optimum and at the start, and corners of the optimum."""
    described: dict[str, Any] = {}
    for name, design in (("initial", setup.initial), ("optimum", theta)):
        length, height = _extent(setup, design).tolist()
        described[name] = {"length": length, "height": height, "ratio": length / height}
    family = setup.family
    found = corners(family.loops[family.part], family.part_points(theta).numpy())
    return described | {"corners": [asdict(c) for c in found], "unit": setup.study.model.geometry.length_unit}


def _spoilt(note: str, found: list[dict[str, Any]]) -> str:
    """What corners of the part, where solutions may be less smooth, add to a note that no order is observed."""
    if note != NOT_MONOTONE or not found:
        return ""
    angles = " and ".join(f"{corner['angle']:.0f}" for corner in found)
    return f"; the part has {'corners' if len(found) > 1 else 'a corner'} of {angles} degrees, which may be why"


def _parameters(
    setup: Setup, theta: Tensor, gradient: Tensor, curvature: Array, objective: float
) -> dict[str, Any]:
    """Each parameter with slope, curvature and tolerance alone; and the share of all tolerances allowed at once."""
    table = {}
    allowed = setup.study.model.validation.manufacturing * abs(objective)
    alone, together = tolerances(gradient.numpy(), curvature, allowed)
    columns = theta.tolist(), setup.initial.tolist(), gradient.tolist(), np.diagonal(curvature).tolist(), alone
    for parameter, value, start, slope, bend, deviation in zip(setup.family.parameters, *columns, strict=True):
        edge = BOUND_TOLERANCE * (parameter.upper - parameter.lower)
        table[parameter.name] = {
            "value": value,
            "lower": parameter.lower,
            "upper": parameter.upper,
            "initial": start,
            "unit": parameter.unit,
            "bound_hit": not parameter.lower + edge < value < parameter.upper - edge,
            "sensitivity": slope,
            "curvature": bend,
            "tolerance": deviation,
        }
    return {"parameters": table, "joint_tolerance": together}
