"""The stages of a study: sample, train, optimize, infill, export, validate; each reuses what its inputs made."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.design.measures import ShapeError, check_design
from shapewright.geometries.files import written_whole
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.studies.certify.certificate import certify
from shapewright.studies.certify.digest import sources_of
from shapewright.studies.certify.export import Exported, export_cad, shape_data
from shapewright.studies.certify.model import VERSION, read_certificate, write_certificate
from shapewright.studies.certify.second_order import gets_better_both_ways
from shapewright.studies.certify.verdicts import least_residual
from shapewright.studies.files import content_key, file_key, sha256, write_json, write_text
from shapewright.studies.optimize.optimizer import ExitReason, Iterate, Optimum, Search, optimize
from shapewright.studies.optimize.stationarity import stationarity
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel, Model, SurrogateModel
from shapewright.studies.problem.samples import SAMPLED, draw_designs, load_samples, random_directions, stack_fields
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.surrogates import open_surrogate, refreshing, train_surrogate
from shapewright.studies.run.engines import Engine
from shapewright.studies.run.history import history_table, optimum_data
from shapewright.studies.run.infill import tune
from shapewright.studies.run.multistart import optimize_on_engine
from shapewright.studies.run.resolved import write_study
from shapewright.studies.run.sampling import make_ready, sample_designs
from shapewright.studies.run.together import Train
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.renamed import first_named
from shapewright.surrogate.models.model_card import ModelCard, read_weights
from shapewright.surrogate.training.dataset import Dataset, load_dataset

Report = Callable[[str, int, int, str], None]
"""Called with stage, done, total and a word on how it goes."""


class OptimizationError(RuntimeError):
    """No start led to a design that can be judged; the text is the exit reason."""


CAD_VERSION = 1
"""Of how CAD is written: that of another one is made anew."""
INFILL_WEIGHTS = "surrogate.infill.safetensors"
TRAINING_FILES = tuple(f"surrogate.safetensors.checkpoint{end}" for end in ("", ".finish", ".seconds"))


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
    """What fields and objective depend on, bounds, mesh and the text of a user's own family included."""
    setup = run.setup
    trained_for = {name: part for name, part in setup.trained_for().items() if name != "surrogate"}
    file, own, _ = setup.study.model.geometry.family.rpartition(":")
    texts = [file_key(setup.study.folder / file)] if own else []
    mesh = content_key(setup.shape_map.mesh.nodes.tolist())  # another gmsh makes another one
    return [trained_for, setup.family.bounds.tolist(), mesh, *texts]


def _sample_key(run: Run, *unused: str) -> str:
    config = run.setup.study.model.sampling
    return content_key("sample", *_physical_key(run), config.model_dump(exclude={"workers", *unused}))


def write_resolved(run: Run, provenance: dict[str, Any]) -> None:
    """The study with every default, and what it is run with and on."""
    write_study(run.setup.study, run.workspace, provenance)


def sample(run: Run) -> tuple[Dataset, Dataset, Tensor]:
    """Solved training and held-out designs, and the (N, c) fields of the reference design."""
    config, setup = run.setup.study.model.sampling, run.setup
    if setup.problem.cases:
        found = f"{len(setup.problem.cases)} load cases"
        raise setup.study.error("physics.cases", found, "none where a surrogate is to learn from samples")
    key = _sample_key(run)
    files = [run.workspace.path(name) for name in SAMPLED]
    if run.workspace.finished("sample", key) is None:
        started = time.monotonic()
        parts = {"designs": (config.designs, config.seed), "held_out": (config.held_out, config.seed + 1)}
        with Engine(setup.study, run.workspace.folder) as engine:
            engine.prepare(make_ready, setup.study)
            for file, (name, (count, seed)) in zip(files[:2], parts.items(), strict=True):
                theta = draw_designs(setup, count, seed)
                directions = random_directions(setup, count, config.tangents, seed)
                folder = run.workspace.path(f"samples/{_sample_key(run, 'designs', 'held_out')}-{name}")
                solved = sample_designs(
                    engine,
                    theta,
                    directions,
                    folder,
                    lambda done, total, n=name: run.report(f"sample {n}", done, total, ""),
                )
                solved.save(file)
        solution = FemSolver(setup.problem, setup.shape_map.mesh).solve()
        with written_whole(files[2]) as part:
            np.savez(part, fields=stack_fields(solution, setup))
        run.workspace.finish("sample", key, SAMPLED, time.monotonic() - started)
    return load_samples(run.workspace.folder)


def train(run: Run, by: Train = train_surrogate) -> Path:
    """Weights trained from nothing in the output folder, ``by`` this process alone or by several."""
    data, held_out, reference = sample(run)
    key = content_key(
        "train",
        data.hash,
        held_out.hash,
        run.setup.trained_for(),
        first_named("training", run.setup.study.model.training.model_dump()),
    )
    path = run.workspace.path("surrogate.safetensors")
    if run.workspace.finished("train", key) is None:
        started = time.monotonic()
        begun = run.workspace.record("training")
        if begun is None or begun["key"] != key:  # it was broken off with other data, or another network
            for name in TRAINING_FILES:
                run.workspace.path(name).unlink(missing_ok=True)
        run.workspace.finish("training", key, (), 0.0)
        by(
            run.setup,
            data,
            held_out,
            reference,
            path,
            run.device,
            lambda p: run.report(
                "train", p.step, p.steps, f"loss {p.loss:.4f}, held-out gradient error {p.error:.4f}{refreshing(p)}"
            ),
        )
        seconds = read_weights(path)[1]["seconds"]
        run.workspace.finish("train", key, (path.name,), time.monotonic() - started, total=seconds)
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
    by_trust_region = isinstance(model, SurrogateModel) and config.method == "trust_region"
    recorded = _tangents(run) if by_trust_region else []
    key = content_key("optimize", driver, *_physical_key(run), *_search_key(run), config.model_dump(), *recorded)
    names = ("optimum.json", "history.csv", "shapes.json")
    if run.workspace.finished("optimize", key) is None:
        started = time.monotonic()

        def report(i: Iterate) -> None:
            limit = config.max_iterations if i.fem is None else config.max_solves
            stage = "optimize" if i.fem is None else "FEM in the loop"
            # the last line of a search, at its end, is no iteration
            run.report(stage, min(i.iteration, limit), limit, f"start {i.start}: {i.objective:.6g}")

        solved: list[str] = []
        if isinstance(model, SurrogateModel) and by_trust_region:
            optimum, solves, solved = _by_trust_region(run, model, driver, report)
        else:
            if run.on_fem and setup.study.model.engine is not None:
                optimum, solves = optimize_on_engine(setup, run.workspace.folder, report)
            else:
                optimum = optimize(setup, model, config, report)
                solves = dict(model.counts) if isinstance(model, FemModel) else {"forward": 0, "adjoint": 0}
        _check_optimum(run, optimum)
        best = torch.from_numpy(optimum.best.theta)
        write_text(run.workspace.path("history.csv"), history_table(setup, optimum))
        shapes = {"unit": setup.study.model.geometry.length_unit} | {
            name: shape_data(setup, theta) for name, theta in (("initial", setup.initial), ("optimum", best))
        }
        write_json(run.workspace.path("shapes.json"), shapes)
        content = optimum_data(setup, optimum) | {"fem_solves": solves, "solved": solved}
        write_json(run.workspace.path("optimum.json"), content)
        run.workspace.finish("optimize", key, (*names, *solved), time.monotonic() - started)
    content = json.loads(run.workspace.path("optimum.json").read_text(encoding="utf-8"))
    theta = torch.tensor(list(content["parameters"].values()), dtype=torch.float64)
    return theta, content


def _by_trust_region(
    run: Run, model: SurrogateModel, driver: str, report: Callable[[Iterate], None]
) -> tuple[Optimum, dict[str, int], list[str]]:
    """The trust region; its solutions and what the surrogate proposed lie apart, so that a broken run goes on."""
    study = run.setup.study.model
    recorded = _tangents(run)
    folder = run.workspace.path(f"centres/{content_key('centres', *_physical_key(run), *recorded)}")
    store = SolutionStore(run.setup, folder, recorded[0] if recorded else 0)
    asked = study.optimizer.model_dump(include={"max_iterations", "tolerance", "starts", "seed"})
    proposals = folder / f"starts-{content_key('starts', driver, *_search_key(run), asked)}.json"
    optimum = search_by_trust_region(run.setup, model, study.optimizer, store, proposals, report)
    solved = [str(file.relative_to(run.workspace.folder)) for file in store.files]
    return optimum, dict(store.solves), solved


def infill(run: Run) -> dict[str, Any] | None:
    """Tune the surrogate by what the trust region solved; what came of it, or None where the study asks for none."""
    config = run.setup.study.model.infill
    if config is None:
        return None
    theta, found = find_optimum(run)
    *replay, _ = sample(run)  # weights that are shipped come without the designs that they must not forget
    model, card, path = surrogate_of(run)
    training = first_named("training", run.setup.study.model.training.model_dump())
    data = [part.hash for part in replay]
    key = content_key("infill", file_key(path), data, found["solved"], theta.tolist(), config.model_dump(), training)
    if run.workspace.finished("infill", key) is None:
        started = time.monotonic()
        solved = [load_dataset(run.workspace.path(name)) for name in found["solved"]]
        optimum = min(range(len(solved)), key=lambda k: float((solved[k].theta[0] - theta).norm()))
        target = run.workspace.path(INFILL_WEIGHTS)
        tuned = tune(
            run.setup,
            model.surrogate,
            card,
            replay,
            solved,
            optimum,
            config,
            target,
            lambda p: run.report("infill", p.step, config.steps, f"loss {p.loss:.4f}"),
        )
        files = (INFILL_WEIGHTS,) if tuned.kept else ()
        if not tuned.kept:
            target.unlink(missing_ok=True)  # of an earlier tuning
        run.workspace.finish("infill", key, files, time.monotonic() - started, result=tuned.as_data())
        before, after = tuned.held_out
        run.report(
            "infill", config.steps, config.steps,
            f"held-out gradient error {before.gradient:.4f} before, {after.gradient:.4f} after;"
            f" {'kept' if tuned.kept else 'not kept'}",
        )  # fmt: skip
    record = run.workspace.record("infill")
    assert record is not None
    return record["result"]


def _tangents(run: Run) -> list[Any]:
    """How many tangents are recorded at every centre, and along what; nothing where nobody learns from them."""
    study = run.setup.study.model
    return [] if study.infill is None else [study.sampling.tangents, study.sampling.directions]


def _search_key(run: Run) -> list[Any]:
    """Where a search begins, and what it has to meet."""
    return [run.setup.initial.tolist(), [vars(constraint) for constraint in run.setup.constraints]]


def _check_optimum(run: Run, optimum: Optimum) -> None:
    best = optimum.best
    stayed = best.reason is ExitReason.STATIONARY and not any(i.fem and i.fem.accepted for i in best.history[1:])
    if (stayed or not optimum.ok) and not _start_is_optimal(run.setup, best):
        reason = ExitReason.DID_NOT_MOVE if stayed else best.reason
        raise OptimizationError(f"optimize: {_failure_at_start(run.setup) or reason.value}")
    try:
        check_design(run.setup.shape_map, torch.from_numpy(best.theta))
    except ShapeError as error:
        raise OptimizationError(
            f"optimize: the optimum is no valid shape ({error});"
            " add a constraint such as {quantity: jacobian, at_least: 0.1}"
        ) from error


def _start_is_optimal(setup: Setup, best: Search) -> bool:
    """Whether a search did not leave a start that, by finite elements, constraints and bounds hold where it is.

    A start of equal radii is stationary whichever sense the objective has, so that curvatures count too.
    """
    ends = ExitReason.DID_NOT_MOVE, ExitReason.OBJECTIVE_UNCHANGED, ExitReason.STATIONARY
    if best.reason not in ends or best.violation > 1.0:
        return False
    theta = torch.from_numpy(best.theta)
    fem = FemModel(setup)
    try:
        values, gradients, _ = fem.functionals(theta)
    except SolveError:
        return False
    gradient = torch.from_numpy(gradients[0])
    _, limit, _ = least_residual(setup.study.model)
    found = stationarity(setup, theta, gradient, gradient, (values, gradients))
    return found.residual <= limit and not gets_better_both_ways(fem, theta, (values, gradients), found)


def _failure_at_start(setup: Setup) -> str:
    """Why finite elements fail at the start; empty where they do not, and then another start may help."""
    try:
        FemModel(setup).functionals(setup.initial)
    except SolveError as error:
        return f"finite elements fail at the start: {error}."
    return ""


def export(run: Run) -> Exported:
    """CAD of the optimum; the files stay as they are, byte for byte, as long as they are of this design and whole."""
    theta, _ = find_optimum(run)
    thickness = run.setup.study.model.geometry.thickness
    key = content_key("export", CAD_VERSION, theta.tolist(), *_physical_key(run), thickness)
    record = run.workspace.finished("export", key)
    if record is None:
        started = time.monotonic()
        run.report("export", 0, 1, "")
        exported = export_cad(run.setup, theta, run.workspace.folder)
        seconds = time.monotonic() - started
        record = run.workspace.finish("export", key, exported.files, seconds, exported=exported.as_data())
        run.report("export", 1, 1, "")
    return Exported.of_data(record["exported"])


def validate(run: Run) -> dict[str, Any]:
    """The certificate."""
    exported = export(run)
    theta, found = find_optimum(run)
    model, correlation, tuned, weights = None, None, None, None
    if not run.on_fem:
        tuned = infill(run)
        model, card, weights = surrogate_of(run)
        correlation = card.correlation
        write_text(run.workspace.path("surrogate.card.json"), card.as_json() + "\n")
    else:
        run.workspace.path("surrogate.card.json").unlink(missing_ok=True)  # of a surrogate that had no part in this
    sources = sources_of(run.setup.study, weights)
    key = content_key(
        "validate",
        VERSION,
        sources,
        sha256(run.workspace.path("optimum.step")),  # the certificate is of this file, byte for byte
        theta.tolist(),
        *_physical_key(run),
        *_search_key(run),
        found,
        tuned,
    )
    path, made = run.workspace.path("certificate.json"), ("optimum.vtu", "initial.vtu", "optimum.msh")
    if run.workspace.finished("validate", key) is None:
        started = time.monotonic()
        run.report("validate", 0, 1, "")
        certificate = certify(run.setup, theta, exported, run.workspace.folder, model, correlation)
        solves = {name: n + found["fem_solves"].get(name, 0) for name, n in certificate.fem_solves.items()}
        certificate = certificate.with_run(
            infill=tuned,
            exit=found["exit"],
            fem_solves=solves,
            timings=_timings(run) | {"validate": round(time.monotonic() - started, 3)},
            sources=sources,
            files={name: sha256(run.workspace.path(name)) for name in (*exported.files, *made)},
        )
        write_certificate(path, certificate)
        run.workspace.finish("validate", key, (path.name, *made), time.monotonic() - started)
        run.report("validate", 1, 1, "")
    return read_certificate(path).as_data()


def _timings(run: Run) -> dict[str, float]:
    """Seconds of the stages that led to this design."""
    trained_here = not run.on_fem and run.setup.study.model.surrogate.weights is None
    infilled = ("infill",) if run.setup.study.model.infill is not None and not run.on_fem else ()
    sampled = ("sample",) if trained_here or infilled else ()
    stages = (*sampled, *(("train",) if trained_here else ()), "optimize", *infilled, "export")
    records = {stage: run.workspace.record(stage) for stage in stages}
    return {stage: record.get("total", record["seconds"]) for stage, record in records.items() if record}
