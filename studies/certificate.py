"""The finite-element certificate of an optimum: values, gradients, a verdict; nothing shared with the surrogate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, lsq_linear
from torch import Tensor

from geometries.integration import nodal_weights
from geometries.mesher import mesh_family, mesh_step
from solvers.fem import FemSolver
from studies.export import Exported, field_arrays, write_vtu
from studies.models import FemModel, SurrogateModel, outside_box
from studies.optimizer import constraint_values
from studies.sampling import stack_fields
from studies.setup import Setup
from surrogate.accuracy import field_errors

Array = NDArray[np.float64]
BOUND_TOLERANCE = 1e-6
"""A parameter within this share of its range from a bound counts as lying on it."""
LEAST_ORDER, LARGEST_ORDER = 0.05, 30.0
"""Orders of convergence that can be observed."""


@dataclass(frozen=True)
class Level:
    """Objective on one mesh: mean cell size h, degrees of freedom, value."""

    h: float
    dofs: int
    value: float


@dataclass(frozen=True)
class Extrapolation:
    """Richardson extrapolation of the finest levels; ``order`` is None where the values show none."""

    value: float
    order: float | None
    error: float
    note: str


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


@dataclass(frozen=True)
class Stationarity:
    """First-order conditions at a design, in parameters scaled to their bounds.

    Attributes:
        residual: |gradient of the Lagrangian| over |gradient of the objective|; where no constraint and no bound is
            active the latter vanishes at an optimum, and the one at the start takes its place.
        multipliers: constraint -> change of the optimal objective per unit that the target is raised by.
    """

    residual: float
    multipliers: dict[str, float]


def extrapolate(levels: Sequence[Level]) -> Extrapolation:
    """Generalized Richardson extrapolation with the observed order of the three finest levels.

    I. B. Celik et al., J. Fluids Eng. 130 (2008) 078001; the equation for the order is solved by bracketing, because
    its fixed-point iteration diverges where the ratios of cell sizes differ much. Where the values do not converge
    monotonically, or agree to rounding, there is no order to observe: the finest value stands, and the larger of the
    last two differences is its uncertainty.
    """
    coarse, middle, fine = levels[-3:]
    first, second = middle.value - coarse.value, fine.value - middle.value
    scale = abs(fine.value) or 1.0
    if abs(second) <= 1e-12 * scale:
        return Extrapolation(fine.value, None, abs(second) / scale, "the finest values agree to rounding")
    ratio_fine, ratio_coarse = middle.h / fine.h, coarse.h / middle.h

    def excess(order: float) -> float:
        predicted = ratio_fine**order * (ratio_coarse**order - 1) / (ratio_fine**order - 1)
        return math.log(predicted) - math.log(first / second)

    if first * second <= 0 or excess(LEAST_ORDER) >= 0:
        note = "the values do not converge monotonically on these meshes, so no order is observed"
        return Extrapolation(fine.value, None, max(abs(first), abs(second)) / scale, note)
    if excess(LARGEST_ORDER) <= 0:
        note = "the finest values agree more closely than any order explains"
        return Extrapolation(fine.value, None, abs(second) / scale, note)
    order = float(brentq(excess, LEAST_ORDER, LARGEST_ORDER, xtol=1e-13))
    value = fine.value + second / (ratio_fine**order - 1)
    return Extrapolation(value, order, abs(value - fine.value) / scale, "Richardson extrapolation of the three finest")


def refine(setup: Setup, theta: Tensor, step: Path) -> list[Level]:
    """Objective on fresh meshes of the STEP file read back, each of half the cell size."""
    control_points = setup.family.control_points(theta).numpy()
    size = setup.study.model.validation.mesh_size or setup.study.model.geometry.mesh_size
    unit = setup.study.model.geometry.length_unit
    levels = []
    for refinement in range(setup.study.model.validation.refinements):
        save = step.with_suffix(".msh") if refinement == 0 else None
        mesh = mesh_step(step, setup.family, control_points, size / 2**refinement, unit, save)
        solution = FemSolver(setup.problem, mesh).solve()
        area = float(nodal_weights(mesh, torch.from_numpy(mesh.nodes)).sum())
        value = solution.values[setup.problem.objective.name]
        levels.append(Level(math.sqrt(area / len(mesh.cells)), solution.dofs, value))
    return levels


def initial_value(setup: Setup) -> float:
    """Objective of the start design on a fresh mesh as fine as the finest of the certificate."""
    size = setup.study.model.validation.mesh_size or setup.study.model.geometry.mesh_size
    finest = size / 2 ** (setup.study.model.validation.refinements - 1)
    mesh = mesh_family(setup.family, setup.family.control_points(setup.initial).numpy(), finest)
    return FemSolver(setup.problem, mesh).solve().values[setup.problem.objective.name]


def stationarity(setup: Setup, theta: Tensor, gradient: Tensor, at_start: Tensor) -> Stationarity:
    """Least-squares multipliers with their signs, and what they leave of the objective's gradient (P,) at theta.

    Parameters on a bound may be pushed further against it; inequality constraints count when they are active.
    """
    lower, upper = setup.family.bounds.numpy().T
    span = upper - lower
    objective = setup.sign * gradient.numpy() * span
    values, rows = constraint_values(setup, theta.numpy())
    columns, low, owners = [], [], []
    for constraint, value, row in zip(setup.constraints, values, rows, strict=True):
        active = constraint.kind == "equals" or constraint.violation(value) > -1e-4 * max(1.0, abs(constraint.target))
        if active:
            direction = -1.0 if constraint.kind == "at_least" else 1.0
            columns.append(direction * row * span)
            low.append(-np.inf if constraint.kind == "equals" else 0.0)
            owners.append((constraint.name, direction))
    z = (theta.numpy() - lower) / span
    for index in np.flatnonzero((z < BOUND_TOLERANCE) | (z > 1 - BOUND_TOLERANCE)):
        unit = np.zeros(len(z))
        unit[index] = -1.0 if z[index] < 0.5 else 1.0
        columns.append(unit)
        low.append(0.0)
    scale = max(float(np.linalg.norm(objective)), 1e-300)
    if not columns:
        return Stationarity(scale / max(scale, float(np.linalg.norm(at_start.numpy() * span))), {})
    matrix = np.stack(columns, -1)
    found = lsq_linear(matrix, -objective / scale, bounds=(np.array(low), np.inf), tol=1e-14)
    multipliers = {
        name: float(-setup.sign * direction * m * scale)
        for (name, direction), m in zip(owners, found.x[: len(owners)], strict=True)
    }
    return Stationarity(float(np.linalg.norm(objective / scale + matrix @ found.x)), multipliers)


def certify(
    setup: Setup, theta: Tensor, exported: Exported, folder: Path, surrogate: SurrogateModel | None
) -> dict[str, Any]:
    """Judge the design theta (P,) whose CAD lies in ``folder``; writes its fields there as VTU.

    Args:
        setup: study.
        theta: optimum.
        exported: of its CAD.
        folder: with ``optimum.step``.
        surrogate: that found it; None when it was found by finite elements alone.

    Returns:
        the content of ``certificate.json``, without timings.
    """
    objective, tolerance = setup.problem.objective, setup.study.model.validation
    levels = refine(setup, theta, folder / "optimum.step")
    limit = extrapolate(levels)
    start = initial_value(setup)
    fem = FemModel(setup)
    _, gradient_at_start, solution_at_start = fem.value_and_gradient(setup.initial)
    mapped, gradient, solution = fem.value_and_gradient(theta)
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
    compared: dict[str, Any] = {
        "surrogate": None,
        "surrogate_relative_error": None,
        "field_relative_l2_error": None,
        "gradient": None,
    }
    if surrogate is not None:
        compared, errors = _compare(setup, surrogate, theta, limit.value, fields, gradient, solution.nodes)
        predicted = errors.pop("fields")
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
            Check(
                "gradient cosine",
                compared["gradient"]["cosine"],
                ">=",
                tolerance.gradient_cosine,
                "surrogate against FEM adjoint",
            ),
        ]
    stationary = stationarity(setup, theta, gradient, gradient_at_start)
    checks.append(
        Check(
            "KKT residual",
            stationary.residual,
            "<=",
            tolerance.kkt_residual,
            "stationarity by the FEM adjoint",
        )
    )
    size = float(np.ptp(setup.family.part_points(theta).numpy(), axis=0).max())
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
    if exported.stl is not None:
        closed = exported.stl["watertight"] and exported.stl["consistent_winding"] and exported.stl["volume"] > 0
        checks.append(Check("STL closed", float(closed), ">=", 1.0, "watertight, consistently oriented (trimesh)"))
    fine = levels[-1].value
    gain = -setup.sign * _relative(fine - start, start, signed=True)
    checks.append(Check("improvement", gain, ">=", 0.0, "FEM objective against the start, positive is better"))
    write_vtu(folder / "optimum.vtu", mesh, arrays)
    start_mesh = setup.shape_map.mesh.moved(solution_at_start.nodes)
    start_fields = field_arrays(setup, stack_fields(solution_at_start, setup), "fem")
    write_vtu(folder / "initial.vtu", start_mesh, start_fields)
    constraints = _constraints(setup, theta)
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
        "parameters": _parameters(setup, theta, gradient),
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
            "extrapolation": limit.note,
            "surrogate_relative_error": compared["surrogate_relative_error"],
            "improvement": gain,
        },
        "constraints": constraints,
        "field_relative_l2_error": compared["field_relative_l2_error"],
        "gradient": compared["gradient"],
        "kkt_residual": stationary.residual,
        "multipliers": stationary.multipliers,
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
        },
        "warnings": [] if surrogate is None else list(outside_box(setup, theta.numpy()[None], surrogate.box).values()),
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
    gradient: Tensor,
    nodes: Array,
) -> tuple[dict[str, Any], dict[str, Any]]:
    values, gradients = surrogate.evaluate(theta.numpy()[None])
    predicted = surrogate.fields(theta)
    weights = nodal_weights(setup.shape_map.mesh, torch.from_numpy(nodes))
    errors = field_errors(predicted[None], torch.from_numpy(fields)[None], weights[None])[0]
    bounds = setup.family.bounds
    span = bounds[:, 1] - bounds[:, 0]
    ours, truth = torch.from_numpy(gradients[0]) * span, gradient * span
    value = float(values[0])
    compared = {
        "surrogate": value,
        "surrogate_relative_error": _relative(value - exact, exact),
        "field_relative_l2_error": dict(zip(setup.space.components, errors.tolist(), strict=True)),
        "gradient": {
            "cosine": float(torch.cosine_similarity(ours, truth, dim=0)),
            "relative_error": float((ours - truth).norm() / truth.norm()),
        },
    }
    return compared, {"fields": predicted.numpy()}


def _relative(difference: float, value: float, signed: bool = False) -> float:
    """``difference`` over the size of ``value``; infinite where that is zero."""
    ratio = math.copysign(math.inf, difference) if value == 0 else difference / abs(value)
    return ratio if signed else abs(ratio)


def _constraints(setup: Setup, theta: Tensor) -> list[dict[str, Any]]:
    values, _ = constraint_values(setup, theta.numpy())
    return [
        {
            "name": c.name,
            "unit": c.unit,
            "value": float(value),
            "target": c.target,
            "satisfied": c.satisfied(float(value)),
        }
        for c, value in zip(setup.constraints, values, strict=True)
    ]


def _parameters(setup: Setup, theta: Tensor, gradient: Tensor) -> dict[str, dict[str, Any]]:
    table = {}
    for parameter, value, start, slope in zip(
        setup.family.parameters, theta.tolist(), setup.initial.tolist(), gradient.tolist(), strict=True
    ):
        edge = BOUND_TOLERANCE * (parameter.upper - parameter.lower)
        table[parameter.name] = {
            "value": value,
            "lower": parameter.lower,
            "upper": parameter.upper,
            "initial": start,
            "unit": parameter.unit,
            "bound_hit": not parameter.lower + edge < value < parameter.upper - edge,
            "sensitivity": slope,
        }
    return table
