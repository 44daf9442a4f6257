"""Stage ``sample``: designs of the parameter box solved by finite elements, for a surrogate to learn from."""

from __future__ import annotations

from typing import Any

import numpy as np

from shapewright.geometries.files import written_whole
from shapewright.solvers.fem.solver import FemSolver
from shapewright.studies.files import content_key, file_key
from shapewright.studies.problem.own_files import family_file
from shapewright.studies.problem.samples import (
    SAMPLED,
    Samples,
    draw_designs,
    load_samples,
    random_directions,
    stack_fields,
)
from shapewright.studies.problem.setup import Setup
from shapewright.studies.run.engines import Engine
from shapewright.studies.run.sampling import Designs, make_ready, sample_designs
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage


def physical_inputs(setup: Setup) -> dict[str, Any]:
    """What fields and objective depend on, bounds, mesh and the text of a user's own family included."""
    problem = {name: part for name, part in setup.trained_for().items() if name != "surrogate"}
    file = family_file(setup.study)
    text = {} if file is None else {"text of the family's file": file_key(file)}
    return {
        "": problem,
        "bounds": setup.family.bounds.tolist(),
        "reference mesh": content_key(setup.shape_map.mesh.nodes.tolist()),  # another gmsh makes another one
        **text,
    }


def _inputs(run: Run[Setup], results: Results) -> Inputs:
    return _sampling_inputs(run.setup)


def _sampling_inputs(setup: Setup, *unused: str) -> dict[str, Any]:
    config = setup.study.model.sampling
    return {**physical_inputs(setup), "sampling": config.model_dump(exclude={"workers", *unused})}


def _make(run: Run[Setup], results: Results, key: str) -> Output:
    setup, workspace = run.setup, run.workspace
    config = setup.study.model.sampling
    if setup.problem.cases:
        found = f"{len(setup.problem.cases)} load cases"
        raise setup.study.error("physics.cases", found, "none where a surrogate is to learn from samples")
    solutions = content_key("sample", *_sampling_inputs(setup, "designs", "held_out").values())
    parts = {"designs": (config.designs, config.seed), "held_out": (config.held_out, config.seed + 1)}
    with Engine(setup.study, workspace.folder) as engine:
        engine.prepare(make_ready, setup.study)
        for file, (name, (count, seed)) in zip(SAMPLED[:2], parts.items(), strict=True):
            theta = draw_designs(setup, count, seed)
            directions = random_directions(setup, count, config.tangents, seed)
            folder = workspace.path(f"samples/{solutions}-{name}")

            def report(done: int, total: int, stage: str = f"sample {name}") -> None:
                run.report(stage, done, total, "")

            sample_designs(engine, Designs(theta, directions), folder, report).save(workspace.path(file))
    solution = FemSolver(setup.problem, setup.shape_map.mesh).solve()
    with written_whole(workspace.path(SAMPLED[2])) as part:
        np.savez(part, fields=stack_fields(solution, setup))
    return Output(SAMPLED)


def _read(run: Run[Setup], results: Results, record: object) -> Samples:
    return load_samples(run.workspace.folder)


SAMPLE = Stage("sample", (), _inputs, _make, _read)
