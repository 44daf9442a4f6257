"""The stages of a study of a solid: search, export, certificate."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapewright.geometries.cad.solid_mesher import MeshOptions
from shapewright.geometries.cad.step import CadError
from shapewright.geometries.design.solid_map import pulled_back
from shapewright.geometries.family.outlines import ShapeError
from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.mesh import Mesh, MeshError
from shapewright.studies.certify.solid_certificate import SolidOptimum, certify_solid, options_at, solve_fresh
from shapewright.studies.certify.solid_export import FINER, ExportedSolid, export_solid
from shapewright.studies.certify.solid_model import (
    SolidCertificate,
    SolidRound,
    read_solid_certificate,
    write_certificate,
)
from shapewright.studies.files import content_key, read_sealed, sha256, write_sealed, write_text
from shapewright.studies.optimize.optimizer import Iterate, Search
from shapewright.studies.optimize.solid_search import SolidStore, search_on_mesh
from shapewright.studies.problem.solid_setup import SolidSetup
from shapewright.studies.run.failed_search import OptimizationError
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage, run_stages

FIELDS = "fields.npz"
"""Meshes and solutions of the part as it came and of the optimum, for the report."""
CERTIFICATE = "certificate.json"


@dataclass(frozen=True)
class _Round:
    """A search on a mesh, the CAD of what it found, and how fine a fresh mesh of that was."""

    setup: SolidSetup
    store: SolidStore
    found: Search
    exported: ExportedSolid
    options: MeshOptions
    entry: SolidRound


def _inputs(run: Run[SolidSetup], results: Results) -> Inputs:
    model = run.setup.study.model
    return {
        "": run.setup.data,
        "optimizer": model.optimizer.model_dump(),
        "moved_mesh": model.validation.moved_mesh,
    }


def _search(run: Run[SolidSetup], results: Results, key: str) -> Output:
    setup, rounds, solves = run.setup, [], Counter[str]()
    theta, mesh = setup.initial.numpy(), setup.shape_map.mesh
    limit = setup.study.model.validation.moved_mesh
    history: list[tuple[int, Iterate]] = []
    for number in range(setup.study.model.optimizer.restarts + 1):
        one = _round(run, number, theta, mesh, history)
        theta, mesh = one.found.theta, one.setup.shape_map.mesh
        rounds.append(one.entry)
        solves.update(one.store.solves)
        if one.entry.difference <= limit:
            break
        pulled = None if number == setup.study.model.optimizer.restarts else _restart_mesh(one)
        if pulled is None:
            break
        mesh = pulled
    write_text(run.workspace.path("history.csv"), _history(setup, history))
    _write_mesh(run.workspace.path("mesh.npz"), one.setup.shape_map.mesh)
    content = {
        "parameters": dict(zip((p.name for p in setup.family.parameters), theta.tolist(), strict=True)),
        "rounds": [entry.model_dump() for entry in rounds],
        "solves": dict(solves),
        "exit": {"reason": one.found.reason.name, "text": one.found.reason.value},
    }
    write_sealed(run.workspace.path("optimum.json"), content)
    return Output(("optimum.json", "history.csv", "mesh.npz"))


def _round(
    run: Run[SolidSetup], number: int, start: np.ndarray, mesh: Mesh, history: list[tuple[int, Iterate]]
) -> _Round:
    setup = run.setup if number == 0 else run.setup.on_mesh(mesh)
    config = setup.study.model.optimizer
    store = store_of(run, setup)

    def report(iterate: Iterate) -> None:
        history.append((number, iterate))
        limit = config.max_solves if config.model == "reduced_basis" else config.max_iterations
        text = f"mesh {number + 1}: {iterate.objective:.6g}"
        run.report("optimize", min(iterate.iteration, limit), limit, text)

    found = search_on_mesh(setup, store, start, report)
    if not found.reason.ok or found.violation > 1.0:
        raise OptimizationError(f"optimize: {found.reason.value}")
    objective = setup.problem.objective.name
    with written_whole(run.workspace.path("round.step")) as part:
        exported = export_solid(run.setup, found.theta, part)
        fresh, options = exported.mesh(options_at(setup, 0))
    run.workspace.path("round.step").unlink(missing_ok=True)
    reread = solve_fresh(setup, fresh, options).level.values[objective]
    difference = abs(found.objective - reread) / abs(reread)
    run.report("optimize", 1, 1, f"mesh {number + 1}: moved {found.objective:.6g}, re-read CAD {reread:.6g}")
    dofs = len(setup.shape_map.mesh.nodes) * len(setup.problem.physics.components)
    solved = sum(one is not None for one in store.solved.values())
    entry = SolidRound(
        dofs=dofs, solves=solved, objective=found.objective, reread=reread, difference=difference,
        reason=found.reason.value,
    )  # fmt: skip
    return _Round(setup, store, found, exported, options, entry)


def store_of(run: Run[SolidSetup], setup: SolidSetup) -> SolidStore:
    """Solutions on the mesh of a setup, in a folder of their own."""
    mesh = setup.shape_map.mesh
    tangents = setup.study.model.optimizer.model == "reduced_basis"
    nodes = np.ascontiguousarray(mesh.nodes).tobytes().hex()[:: max(1, len(mesh.nodes) // 500)]
    key = content_key("solid", setup.data, nodes, len(mesh.nodes), tangents)
    return SolidStore(setup, run.workspace.path(f"solutions/{key}"), tangents)


def _restart_mesh(one: _Round) -> Mesh | None:
    """A mesh of the deformed CAD as one of the part as it came, finer where cells fold; None where they always do."""
    theta = torch.from_numpy(one.found.theta)
    for finer in FINER:
        options = replace(one.options, size=one.options.size / finer, curvature=round(one.options.curvature * finer))
        try:
            fresh, _ = one.exported.mesh(options)
            return pulled_back(one.setup.family.form, theta, fresh).mesh
        except (MeshError, ShapeError):
            continue
    return None


def _history(setup: SolidSetup, history: list[tuple[int, Iterate]]) -> str:
    """Every design that was solved or taken, a row each."""
    text = io.StringIO()
    table = csv.writer(text)
    names = [condition.name for condition in setup.constraints]
    table.writerow(["mesh", "iteration", "objective", *names, "accepted", "radius", "kkt_residual"])
    for number, i in history:
        step = ["", "", ""] if i.fem is None else [int(i.fem.accepted), i.fem.radius, i.fem.kkt_residual]
        table.writerow([number, i.iteration, i.objective, *i.quantities, *step])
    return text.getvalue()


def _write_mesh(path: Path, mesh: Mesh) -> None:
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(file, nodes=mesh.nodes, cells=mesh.cells, facets=mesh.facets, facet_tags=mesh.facet_tags,
                            tag_names=np.array(mesh.tag_names))  # fmt: skip


def _read_mesh(path: Path) -> Mesh:
    with np.load(path) as a:
        return Mesh(a["nodes"], a["cells"], a["facets"], a["facet_tags"], tuple(map(str, a["tag_names"])))


def _found(run: Run[SolidSetup], results: Results, record: object) -> SolidOptimum:
    content = read_sealed(run.workspace.path("optimum.json"))
    assert content is not None  # the stage's record has its hash
    theta = np.array(list(content["parameters"].values()))
    rounds = tuple(SolidRound.model_validate(entry) for entry in content["rounds"])
    return SolidOptimum(theta, _read_mesh(run.workspace.path("mesh.npz")), rounds, content["solves"])


OPTIMIZE = Stage("optimize", (), _inputs, _search, _found)


def _step(run: Run[SolidSetup]) -> Path:
    return run.workspace.path(f"{run.setup.study.model.name}.step")


def _export(run: Run[SolidSetup], results: Results, key: str) -> Output:
    path = _step(run)
    read = export_solid(run.setup, results[OPTIMIZE].theta, path)
    if not read.valid:
        raise CadError(f"{path}: OpenCASCADE finds the deformed solid invalid when it is read back")
    run.report("export", 1, 1, path.name)
    return Output((path.name,), read.as_data())


def _exported(run: Run[SolidSetup], results: Results, record: Any) -> ExportedSolid:
    return ExportedSolid.of_data(record.content, _step(run), run.setup.study.model.geometry.length_unit)


EXPORT = Stage(
    "export", (OPTIMIZE,), lambda run, results: {"theta": results[OPTIMIZE].theta.tolist(), "": run.setup.data},
    _export, _exported,
)  # fmt: skip


def _validate(run: Run[SolidSetup], results: Results, key: str) -> Output:
    optimum, read = results[OPTIMIZE], results[EXPORT]
    store = store_of(run, run.setup.on_mesh(optimum.mesh))
    certificate, start, fine = certify_solid(
        run.setup, optimum, read, store, lambda done, total, text: run.report("validate", done, total, text)
    )
    files = {name: sha256(run.workspace.path(name)) for name in (read.file.name, "optimum.json", "mesh.npz")}
    write_certificate(run.workspace.path(CERTIFICATE), certificate.model_copy(update={"files": files}))
    _write_fields(run, start, fine)
    return Output((CERTIFICATE, FIELDS))


def _write_fields(run: Run[SolidSetup], start: Any, fine: Any) -> None:
    """Meshes and nodal fields of each case, in single precision."""
    arrays: dict[str, np.ndarray] = {}
    field = run.setup.problem.physics.fields[0].name
    for name, solved in (("initial", start), ("final", fine)):
        arrays |= {f"{name}_nodes": solved.mesh.nodes, f"{name}_cells": solved.mesh.cells}
        arrays[f"{name}_facets"] = solved.mesh.facets
        cases = getattr(solved.solution, "cases", None) or {"": solved.solution}
        for case, solution in cases.items():
            arrays[f"{name}_field_{case}"] = solution.fields[field].astype(np.float32)
    with written_whole(run.workspace.path(FIELDS)) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _validation_inputs(run: Run[SolidSetup], results: Results) -> Inputs:
    return {
        "theta": results[OPTIMIZE].theta.tolist(),
        "step": sha256(results[EXPORT].file),
        "validation": run.setup.study.model.validation.model_dump(),
        "": run.setup.data,
    }


VALIDATE = Stage(
    "validate", (OPTIMIZE, EXPORT), _validation_inputs, _validate,
    lambda run, results, record: read_solid_certificate(run.workspace.path(CERTIFICATE)),
)  # fmt: skip

STAGES: tuple[Stage[Any], ...] = (OPTIMIZE, EXPORT, VALIDATE)


def solid_stages(study: Any) -> tuple[Stage[Any], ...]:
    """The stages of a study of a solid, each behind those that it needs."""
    return STAGES


def certificate_of_solid(run: Run[SolidSetup]) -> SolidCertificate:
    """The certificate of the optimum; what is finished is not made again."""
    return run_stages(run, STAGES, VALIDATE)[VALIDATE]
