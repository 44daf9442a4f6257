"""The certificate of a solid: finite elements on fresh meshes of the re-read CAD, and the CAD itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from shapewright.geometries.cad.faces import faces_of
from shapewright.geometries.cad.solid_checks import boundary_deviation, volume_and_centroid
from shapewright.geometries.cad.solid_mesher import MeshOptions, mesh_solid
from shapewright.geometries.mesh.integration import cell_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.fem.load_cases import CaseSolution, solver_of
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.certify.convergence import NOT_FINER, Extrapolation, Level, extrapolate
from shapewright.studies.certify.solid_digest import cad_digest, solid_digest
from shapewright.studies.certify.solid_export import ExportedSolid
from shapewright.studies.certify.solid_model import (
    SolidCad,
    SolidCertificate,
    SolidConstraint,
    SolidLevel,
    SolidObjective,
    SolidPeak,
    SolidRound,
)
from shapewright.studies.certify.verdict_model import Check
from shapewright.studies.optimize.solid_search import SolidStore
from shapewright.studies.optimize.stationarity import stationarity
from shapewright.studies.problem.load_cases import cases_of
from shapewright.studies.problem.solid_setup import SolidSetup
from shapewright.studies.schema.named import in_case
from shapewright.studies.schema.solid_study import SolidStudyModel, SolidValidation

RATIO = 1.4
"""Of the cell sizes of consecutive meshes."""
LEAST_OF_TWO = 1.05
"""Least ratio of the cells of two meshes whose difference tells of an error."""
TRUE_RESIDUAL = 1e-8
"""Largest residual of the linear systems, relative to the loads."""
KEPT = 1e-7
"""Largest motion of what is kept, in diagonals of the part's box: the tolerance of STEP files."""
Report = Callable[[int, int, str], None]
"""Called with done, total and a text."""


@dataclass(frozen=True)
class SolidOptimum:
    """What the search of a solid found.

    Attributes:
        theta: (P,) design.
        mesh: of the part as it came, on which the last search moved.
        rounds: searches, in their order.
        solves: finite-element solves by kind.
    """

    theta: np.ndarray
    mesh: Mesh
    rounds: tuple[SolidRound, ...]
    solves: Mapping[str, int]


@dataclass(frozen=True)
class SolvedMesh:
    """A fresh mesh, its solution, and what the certificate keeps of both."""

    mesh: Mesh
    solution: FemSolution | CaseSolution
    level: SolidLevel


def options_at(setup: SolidSetup, refinement: int) -> MeshOptions:
    """How fine a mesh is after some refinements."""
    given, finer = setup.mesh_options, RATIO**refinement
    return MeshOptions(given.size / finer, round(given.curvature * finer), given.smallest)


def solve_fresh(setup: SolidSetup, mesh: Mesh, options: MeshOptions) -> SolvedMesh:
    """Solve the study on a mesh of some solid with the study's regions; errors as of the solver."""
    solution = solver_of(setup.problem, mesh).solve()
    parts = [solution] if isinstance(solution, FemSolution) else list(solution.cases.values())
    volume = float(cell_points(mesh, torch.from_numpy(mesh.nodes), 2).weights.sum())
    level = SolidLevel(
        mesh_size=options.size,
        h=(volume / len(mesh.cells)) ** (1 / 3),
        cells=len(mesh.cells),
        dofs=solution.dofs,
        values=dict(solution.values),
        linear_solver=parts[0].linear_solver,
        linear_residual=max(part.linear_residual for part in parts),
    )
    return SolvedMesh(mesh, solution, level)


def certify_solid(
    setup: SolidSetup, optimum: SolidOptimum, read: ExportedSolid, store: SolidStore, report: Report
) -> tuple[SolidCertificate, SolvedMesh, SolvedMesh]:
    """The certificate of a design, without hashes of files, and its and the original's solution on the finest meshes.

    Args:
        setup: study.
        optimum: design, and the mesh that was moved to it.
        read: its CAD, read back.
        store: solutions on that mesh.
        report: called as it goes on.
    """
    given, objective = setup.study.model.validation, setup.problem.objective
    solved, total = [], given.refinements + 1
    for index in range(given.refinements):
        solved.append(solve_fresh(setup, *read.mesh(options_at(setup, index))))
        report(index + 1, total, f"{solved[-1].level.dofs} unknowns, {solved[-1].level.linear_solver}")
    finest = options_at(setup, given.refinements - 1)
    start = solve_fresh(setup, mesh_solid(setup.cad, setup.regions, finest).mesh, finest)
    report(total, total, f"the part as it came: {start.level.dofs} unknowns")
    fine = solved[-1].level.values[objective.name]
    limit = _limit([one.level for one in solved], objective.name)
    first = start.level.values[objective.name]
    moved_on = setup.on_mesh(optimum.mesh)
    moved = _moved_value(store, optimum)
    size = max(abs(fine), abs(fine - first))
    cad = _cad(setup, optimum, read)
    constraints = tuple(_constraints(setup, read, [one.level for one in solved], moved_on, optimum))
    residual = _kkt(moved_on, optimum, store)
    least = moved_on.shape_map.check(torch.from_numpy(optimum.theta))
    same = solved[0].level.values[objective.name]
    gain = -setup.sign * (fine - first) / (abs(first) or 1.0)
    checks = (
        Check.of("mesh error", limit.error / size, "<=", given.discretization_error,
                 f"finest value against its extrapolation: {limit.note}"),
        Check.of("moved mesh", abs(moved - same) / size, "<=", given.moved_mesh,
                 "the mesh of the search against a fresh one of the re-read CAD with cells as large"),
        Check.of("KKT residual", residual, "<=", given.kkt_residual, "stationarity by the adjoint on the moved mesh"),
        Check.of("improvement", gain, ">=", given.gain_error, "against the part as it came, on meshes as fine"),
        Check.of("linear residual", max(one.level.linear_residual for one in (*solved, start)), "<=", TRUE_RESIDUAL,
                 "true residual of the linear systems over the load"),
        Check.of("det grad F", least, ">=", 0.5 * setup.study.model.optimizer.least_jacobian,
                 "least at the nodes and quadrature points of the mesh"),
        Check.of("CAD valid", float(cad.valid), ">=", 1.0, "OpenCASCADE's own check of the file read back"),
        Check.of("CAD deviation", cad.deviation, "<=", given.cad_deviation,
                 "some hundred boundary nodes of the moved mesh against the re-read CAD, over the part's size"),
        Check.of("kept faces", cad.kept_distance / setup.size, "<=", KEPT, "motion of what is kept, over the size"),
    )  # fmt: skip
    reasons = tuple([check.reason for check in checks if not check.satisfied]
                    + [f"{c.name} {c.target:.6g} is missed: {c.value:.6g}" for c in constraints if not c.satisfied])
    accepted = not reasons
    change = (fine - first) / (abs(first) or 1.0)
    loose = _loosened(setup.study.model)
    said = f"Accepted{f' with loosened limits, {loose}' if loose else ''}" if accepted else "Not accepted"
    verdict = f"{said}: {objective.name} {change:+.1%} against the part as it came"
    certificate = SolidCertificate(
        name=setup.study.model.name,
        study=solid_digest(setup.study),
        cad_input=cad_digest(setup.study),
        accepted=accepted,
        verdict=f"{verdict}, on the re-read STEP.",
        reasons=reasons,
        length_unit=setup.study.model.geometry.length_unit,
        parameters=dict(zip((p.name for p in setup.family.parameters), optimum.theta.tolist(), strict=True)),
        objective=SolidObjective(
            name=objective.name,
            sense="minimize" if setup.sign > 0 else "maximize",
            unit=objective.unit,
            initial=first,
            value=fine,
            extrapolated=limit.value,
            order=limit.order,
            note=limit.note,
            change=change,
            moved_mesh=moved,
            same_size=same,
        ),
        cases=_cases(setup, start.level, solved[-1].level),
        constraints=constraints,
        least_jacobian=least,
        levels=tuple(one.level for one in solved),
        initial_levels=(start.level,),
        peaks=tuple(_peaks(setup, solved[-1])),
        initial_peaks=tuple(_peaks(setup, start)),
        cad=cad,
        rounds=optimum.rounds,
        solves=dict(optimum.solves),
        kkt_residual=residual,
        checks=checks,
        files={},
    )
    return certificate, start, solved[-1]


def _limit(levels: list[SolidLevel], name: str) -> Extrapolation:
    """Extrapolation by three meshes; of two, the error as one of order one: a small step shows little of it."""
    found = [Level(one.mesh_size, one.h, one.cells, one.dofs, one.values[name]) for one in levels]
    if len(found) < 3:
        coarse, fine = found
        if coarse.h / fine.h < LEAST_OF_TWO or not coarse.dofs < fine.dofs:
            return Extrapolation(fine.value, None, math.inf, math.inf, NOT_FINER)
        error = abs(fine.value - coarse.value) / (coarse.h / fine.h - 1)
        return Extrapolation(fine.value, None, error, 3 * error, "two meshes: their difference, as of order one")
    return extrapolate(found)


def _moved_value(store: SolidStore, optimum: SolidOptimum) -> float:
    solution = store(optimum.theta)
    return math.nan if solution is None else float(solution.values[0, 0])


def _kkt(setup: SolidSetup, optimum: SolidOptimum, store: SolidStore) -> float:
    """KKT residual on the moved mesh."""
    at, first = store(optimum.theta), store(setup.initial.numpy())
    if at is None or first is None:
        return math.nan
    functionals = at.values[0].numpy(), at.gradients[0].numpy()
    theta = torch.from_numpy(optimum.theta)
    return stationarity(setup, theta, at.gradients[0, 0], first.gradients[0, 0], functionals).residual


def _cad(setup: SolidSetup, optimum: SolidOptimum, read: ExportedSolid) -> SolidCad:
    moved_on = setup.on_mesh(optimum.mesh)
    nodes = moved_on.shape_map.nodes(torch.from_numpy(optimum.theta)).numpy()
    initial_volume, _ = volume_and_centroid(setup.cad)
    return SolidCad(
        file=read.file.name,
        valid=read.valid,
        volume=read.volume,
        initial_volume=initial_volume,
        centroid=read.centroid,
        faces=len(faces_of(read.cad.shape)),
        kept_faces=read.kept,
        kept_distance=read.kept_distance,
        deviation=boundary_deviation(read.cad, optimum.mesh, nodes) / setup.size,
        poles=read.poles,
        bytes=read.file.stat().st_size,
    )


def _constraints(
    setup: SolidSetup,
    read: ExportedSolid,
    levels: list[SolidLevel],
    moved_on: SolidSetup,
    optimum: SolidOptimum,
) -> Iterator[SolidConstraint]:
    """Volume of the re-read CAD, functionals on its finest mesh, the rest by the deformation.

    A functional satisfies its condition only where the error of the mesh is known to be small.
    """
    theta, given_limits = torch.from_numpy(optimum.theta), setup.study.model.validation
    entries = setup.study.model.constraints
    for condition in setup.constraints:
        target, slack = condition.target, condition.allowed
        given = entries[condition.entry] if condition.entry < len(entries) else None
        error = 0.0
        if condition.functional is not None:
            name = setup.problem.functionals[condition.functional].name
            value, error = levels[-1].values[name], _limit(levels, name).error
        elif condition.quantity == "volume":
            value, slack = read.volume, max(slack, given_limits.volume_error * abs(target))
            if given is not None and given.target == "initial":
                target, _ = volume_and_centroid(setup.cad)
        else:
            value = float(moved_on.quantity(condition.quantity, theta))
        gap = value - target
        missed = abs(gap) if condition.kind == "equals" else (gap if condition.kind == "at_most" else -gap)
        known = error <= max(slack, given_limits.discretization_error * max(abs(value), abs(target)))
        yield SolidConstraint(
            name=condition.name, value=value, target=target, unit=condition.unit, satisfied=missed <= slack and known
        )


def _loosened(model: SolidStudyModel) -> str:
    """Limits of the study that are larger than their defaults; fewer meshes count as well. Empty without any."""
    given, usual = model.validation, SolidValidation()
    names = ("moved_mesh", "discretization_error", "kkt_residual", "cad_deviation", "volume_error")
    found = [f"{name} {getattr(given, name):g}" for name in names if getattr(given, name) > getattr(usual, name)]
    return ", ".join(found + ([f"{given.refinements} meshes"] if given.refinements < usual.refinements else []))


def _cases(setup: SolidSetup, start: SolidLevel, fine: SolidLevel) -> dict[str, dict[str, float]]:
    name = setup.study.model.objective.functional_name
    _, cases = cases_of(setup.study)
    found = {}
    for case in cases:
        key = in_case(name, case)
        if key in fine.values:
            found[case] = {"initial": start.values[key], "final": fine.values[key]}
    return found


def _peaks(setup: SolidSetup, solved: SolvedMesh) -> Iterator[SolidPeak]:
    """Largest values of the quantity that the physics shows."""
    shown = next((d for d in setup.problem.physics.derived if d.shown), None)
    if shown is None:
        return
    solution = solved.solution
    cases = {"": solution} if isinstance(solution, FemSolution) else dict(solution.cases)
    for case, one in cases.items():
        profile = one.profile(shown.value)
        x, y, z = profile.point_of_maximum.tolist()
        yield SolidPeak(case=case, value=profile.maximum, at=(x, y, z))
