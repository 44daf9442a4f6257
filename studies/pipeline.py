"""The stages of a study: sample, train, optimize, export, validate; each reuses what its inputs already made."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geometries.quantities import ShapeError, check_design
from solvers.fem import FemSolver
from studies.certificate import certify
from studies.export import Exported, export_cad, shape_data
from studies.loader import dump
from studies.models import FemModel, Model, SurrogateModel
from studies.optimizer import Optimum, optimize
from studies.sampling import draw_designs, local_executor, random_directions, solve_designs, stack_fields
from studies.setup import Setup
from studies.surrogates import open_surrogate, train_surrogate
from studies.workspace import Workspace, content_key, file_key, write_json, write_text
from surrogate.dataset import Dataset, load_dataset
from surrogate.model_card import ModelCard

Report = Callable[[str, int, int, str], None]
"""Called with stage, done, total and a word on how it goes."""


class OptimizationError(RuntimeError):
    """No start led to a design that can be judged; the text is the exit reason."""


TRAINING_FILES = ("surrogate.safetensors.checkpoint", "surrogate.safetensors.checkpoint.seconds")


@dataclass(frozen=True)
class Run:
    """A study being run in an output folder."""

    setup: Setup
    workspace: Workspace
    device: str = "cpu"
    report: Report = lambda stage, done, total, text: None

    @property
    def on_fem(self) -> bool:
        """Whether finite elements drive the optimizer, so that there is no surrogate."""
        return self.setup.study.model.optimizer.on == "fem"


def _physical_key(run: Run) -> list[Any]:
    """What fields and objective depend on, bounds and the text of a user's own family included."""
    setup = run.setup
    trained_for = {name: part for name, part in setup.trained_for().items() if name != "surrogate"}
    file, own, _ = setup.study.model.geometry.family.rpartition(":")
    texts = [file_key(setup.study.folder / file)] if own else []
    return [trained_for, setup.family.bounds.tolist(), *texts]


def write_resolved(run: Run, provenance: dict[str, Any]) -> None:
    """The study with every default, and what it is run with and on."""
    head = [f"# {key}: {json.dumps(value)}" for key, value in provenance.items()]
    write_text(
        run.workspace.path("resolved.yaml"),
        "\n".join(head) + "\n" + dump(run.setup.study, run.workspace.folder),
    )
    write_json(run.workspace.path("run.json"), provenance)


def sample(run: Run) -> tuple[Dataset, Dataset, Tensor]:
    """Solved training and held-out designs, and the (N, c) fields of the reference design."""
    config, setup = run.setup.study.model.sampling, run.setup
    key = content_key("sample", *_physical_key(run), config.model_dump(exclude={"workers"}))
    names = ("designs.npz", "held_out.npz", "reference.npz")
    files = [run.workspace.path(name) for name in names]
    if run.workspace.finished("sample", key) is None:
        started = time.monotonic()
        parts = {"designs": (config.designs, config.seed), "held_out": (config.held_out, config.seed + 1)}
        with local_executor(config.workers) as executor:
            for file, (name, (count, seed)) in zip(files[:2], parts.items(), strict=True):
                theta = draw_designs(setup, count, seed)
                directions = random_directions(setup, count, config.tangents, seed)
                folder = run.workspace.path(f"samples/{key}-{name}")
                solved = solve_designs(
                    setup.study,
                    theta,
                    directions,
                    folder,
                    executor,
                    lambda done, total, n=name: run.report(f"sample {n}", done, total, ""),
                )
                solved.save(file)
        solution = FemSolver(setup.problem, setup.shape_map.mesh).solve()
        part = files[2].with_name("part-" + files[2].name)
        np.savez(part, fields=stack_fields(solution, setup))
        part.replace(files[2])
        run.workspace.finish("sample", key, names, time.monotonic() - started)
    with np.load(files[2]) as reference:
        fields = torch.from_numpy(reference["fields"])
    return load_dataset(files[0]), load_dataset(files[1]), fields


def train(run: Run) -> Path:
    """Weights trained from nothing in the output folder."""
    data, held_out, reference = sample(run)
    key = content_key(
        "train",
        data.hash,
        held_out.hash,
        run.setup.trained_for(),
        run.setup.study.model.training.model_dump(),
    )
    path = run.workspace.path("surrogate.safetensors")
    if run.workspace.finished("train", key) is None:
        started = time.monotonic()
        steps = run.setup.study.model.training.steps
        begun = run.workspace.record("training")
        if begun is not None and begun["key"] != key:  # it was broken off with other data, or another network
            for name in TRAINING_FILES:
                run.workspace.path(name).unlink(missing_ok=True)
        run.workspace.finish("training", key, (), 0.0)
        card = train_surrogate(
            run.setup,
            data,
            held_out,
            reference,
            path,
            run.device,
            lambda p: run.report(
                "train", p.step, steps, f"loss {p.loss:.4f}, held-out gradient error {p.error:.4f}"
            ),
        )
        run.workspace.finish("train", key, (path.name,), time.monotonic() - started, total=card.seconds)
    return path


def surrogate_of(run: Run) -> tuple[SurrogateModel, ModelCard, Path]:
    """The study's shipped surrogate, or else the one trained here."""
    weights = run.setup.study.model.surrogate.weights
    path = run.setup.study.folder / weights if weights is not None else train(run)
    surrogate, card = open_surrogate(run.setup, path, run.device)
    return SurrogateModel(run.setup, surrogate, card.box), card, path


def find_optimum(run: Run) -> tuple[Tensor, dict[str, Any]]:
    """The optimum (P,), and what ``optimum.json`` says of it.

    Raises:
        OptimizationError: no start led to a valid design.
    """
    setup = run.setup
    config = setup.study.model.optimizer
    if run.on_fem:
        model: Model = FemModel(setup)
        driver = "fem"
    else:
        model, _, path = surrogate_of(run)
        driver = file_key(path)
    key = content_key("optimize", driver, *_physical_key(run), *_search_key(run), config.model_dump())
    names = ("optimum.json", "history.csv", "shapes.json")
    if run.workspace.finished("optimize", key) is None:
        started = time.monotonic()
        optimum = optimize(
            setup,
            model,
            config,
            lambda i: run.report(
                "optimize",
                min(i.iteration, config.max_iterations),  # the last line, at the end, is no iteration
                config.max_iterations,
                f"start {i.start}: {i.objective:.6g}",
            ),
        )
        _check_optimum(run, optimum)
        best = torch.from_numpy(optimum.best.theta)
        write_text(run.workspace.path("history.csv"), history_table(setup, optimum))
        shapes = {"unit": setup.study.model.geometry.length_unit} | {
            name: shape_data(setup, theta) for name, theta in (("initial", setup.initial), ("optimum", best))
        }
        write_json(run.workspace.path("shapes.json"), shapes)
        solves = dict(model.counts) if isinstance(model, FemModel) else {"forward": 0, "adjoint": 0}
        write_json(run.workspace.path("optimum.json"), optimum_data(setup, optimum) | {"fem_solves": solves})
        run.workspace.finish("optimize", key, names, time.monotonic() - started)
    content = json.loads(run.workspace.path("optimum.json").read_text(encoding="utf-8"))
    theta = torch.tensor(list(content["parameters"].values()), dtype=torch.float64)
    return theta, content


def _search_key(run: Run) -> list[Any]:
    """Where a search begins, and what it has to meet."""
    return [run.setup.initial.tolist(), [vars(constraint) for constraint in run.setup.constraints]]


def _check_optimum(run: Run, optimum: Optimum) -> None:
    best = optimum.best
    if not best.reason.ok:
        raise OptimizationError(f"optimize: {best.reason.value}")
    try:
        check_design(run.setup.shape_map, torch.from_numpy(best.theta))
    except ShapeError as error:
        raise OptimizationError(
            f"optimize: the optimum is no valid shape ({error});"
            " add a constraint such as {quantity: jacobian, at_least: 0.1}"
        ) from error


def history_table(setup: Setup, optimum: Optimum) -> str:
    """All iterates of all starts as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [constraint.name for constraint in setup.constraints]
    parameters = [parameter.name for parameter in setup.family.parameters]
    writer.writerow(
        [
            "start",
            "iteration",
            "evaluations",
            "objective",
            "objective_scaled",
            "gradient_norm",
            *names,
            *parameters,
        ]
    )
    for search in optimum.searches:
        size = abs(search.history[0].objective) or 1.0 if search.history else 1.0
        for i in search.history:
            numbers = (i.objective / size, i.gradient_norm, *i.quantities, *i.theta)
            writer.writerow([i.start, i.iteration, i.evaluations, repr(i.objective), *(f"{n:.12g}" for n in numbers)])
    return text.getvalue()


def optimum_data(setup: Setup, optimum: Optimum) -> dict[str, Any]:
    """What ``optimum.json`` holds."""
    names = [parameter.name for parameter in setup.family.parameters]
    return {
        "parameters": dict(zip(names, optimum.best.theta.tolist(), strict=True)),
        "objective": optimum.best.objective,
        "exit": {"reason": optimum.best.reason.name, "text": optimum.best.reason.value},
        "best_start": optimum.best.start,
        "starts": [
            {
                "start": search.start,
                "objective": search.objective,
                "feasible": search.violation <= 1.0,
                "iterations": len(search.history),
                "reason": search.reason.name,
            }
            for search in optimum.searches
        ],
    }


def export(run: Run) -> Exported:
    """CAD of the optimum; cheap, and made anew each time so that it is never older than the design."""
    theta, _ = find_optimum(run)
    started = time.monotonic()
    run.report("export", 0, 1, "")
    exported = export_cad(run.setup, theta, run.workspace.folder)
    key = content_key("export", theta.tolist())
    run.workspace.finish("export", key, exported.files, time.monotonic() - started)
    run.report("export", 1, 1, "")
    return exported


def validate(run: Run) -> dict[str, Any]:
    """The certificate."""
    exported = export(run)
    theta, found = find_optimum(run)
    model, driver = None, "fem"
    if not run.on_fem:
        model, card, path = surrogate_of(run)
        driver = file_key(path)
        write_text(run.workspace.path("surrogate.card.json"), card.as_json() + "\n")
    else:
        run.workspace.path("surrogate.card.json").unlink(missing_ok=True)  # of a surrogate that had no part in this
    study = run.setup.study.model
    key = content_key(
        "validate",
        driver,
        theta.tolist(),
        *_physical_key(run),
        *_search_key(run),
        study.name,
        study.validation.model_dump(),
        study.geometry.thickness,
        found,
    )
    names = ("certificate.json", "optimum.vtu", "initial.vtu", "optimum.msh")
    if run.workspace.finished("validate", key) is None:
        started = time.monotonic()
        run.report("validate", 0, 1, "")
        content = certify(run.setup, theta, exported, run.workspace.folder, model)
        content["exit"] = found["exit"]
        content["fem_solves"] = {
            name: count + found["fem_solves"].get(name, 0) for name, count in content["fem_solves"].items()
        }
        content["timings"] = _timings(run) | {"validate": round(time.monotonic() - started, 3)}
        write_json(run.workspace.path("certificate.json"), content)
        run.workspace.finish("validate", key, names, time.monotonic() - started)
        run.report("validate", 1, 1, "")
    return json.loads(run.workspace.path("certificate.json").read_text(encoding="utf-8"))


def _timings(run: Run) -> dict[str, float]:
    """Seconds of the stages that led to this design."""
    trained_here = not run.on_fem and run.setup.study.model.surrogate.weights is None
    stages = ("sample", "train", "optimize", "export") if trained_here else ("optimize", "export")
    records = {stage: run.workspace.record(stage) for stage in stages}
    return {stage: record.get("total", record["seconds"]) for stage, record in records.items() if record}
