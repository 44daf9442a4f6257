"""Stage ``learn`` of an operator study: solve held-out instances, train on the physics, measure errors."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.geometries.cad.mesher import mesh_family
from shapewright.geometries.design.dirichlet_lift import DirichletLift
from shapewright.geometries.files import written_whole
from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.geometries.mesh.locate import interpolation_matrix
from shapewright.solvers.fem.solver import FemSolver
from shapewright.studies.files import content_key, write_json
from shapewright.studies.problem.operator_setup import OperatorSetup, build_operator_setup, solve_instances
from shapewright.studies.problem.surrogates import hardware, refreshing
from shapewright.studies.run.stage import Inputs, Output, Report, Results, Run, Stage, plain, run_stages, silent
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import Study
from shapewright.surrogate.models.instances import Instances
from shapewright.surrogate.models.model_card import SurrogateFileError, half_precision
from shapewright.surrogate.models.operator_card import OperatorCard, load_operator, save_operator
from shapewright.surrogate.models.problem_operator import ProblemOperator, clouds
from shapewright.surrogate.training.allocator import keep_freed_memory
from shapewright.surrogate.training.loop import Progress
from shapewright.surrogate.training.physics_training import Solutions, held_out_errors, train_on_physics
from shapewright.surrogate.training.work_clock import WorkClock

WEIGHTS = "operator.safetensors"
ERRORS = "operator.json"


@dataclass(frozen=True)
class LearntOperator:
    """A trained operator and its card."""

    network: ProblemOperator
    card: OperatorCard


@dataclass(frozen=True)
class OperatorErrors:
    """Errors of an operator on unseen instances.

    Attributes:
        mean, median, worst: points of the input cloud -> squared relative error over the instances.
    """

    mean: dict[int, float]
    median: dict[int, float]
    worst: dict[int, float]


def run_operator_study(
    study: Study, workspace: Workspace, device: str, report: Report = silent
) -> tuple[OperatorSetup, ProblemOperator, OperatorCard]:
    """Train, or open the weights that the study names or an earlier run of it left, with errors on unseen instances.

    ``operator.json`` with history and errors is left in the folder, and ``operator.safetensors`` with its card where it
    was trained. The card of weights that the study names is returned with the errors that they have here.

    Raises:
        StudyError, TrainingError, SurrogateFileError,
            SolveError.
    """
    keep_freed_memory()
    run = Run(build_operator_setup(study), workspace, device, report)
    if study.model.surrogate.weights is None:
        learnt = run_stages(run, (LEARN,), LEARN)[LEARN]
        return run.setup, learnt.network, learnt.card
    network = run.setup.network()
    try:
        card = load_operator(study.folder / study.model.surrogate.weights, network, run.setup.trained_for())
    except SurrogateFileError as error:
        key = "surrogate.weights"
        raise SurrogateFileError(f"{study.location(key)}: {key}: {error}") from error
    errors = _measured(run, network.to(device), [])
    return run.setup, network, replace(card, squared_relative_error=_by_points(errors))


def _inputs(run: Run[OperatorSetup], results: Results) -> Inputs:
    model = run.setup.study.model
    return {
        "": run.setup.trained_for(),
        "training": model.training.model_dump(mode="json"),
        "evaluation": model.evaluation.model_dump(mode="json", exclude={"points"}),
        "evaluation.points": model.evaluation.points,
    }


def _hashed(stage: Stage[LearntOperator], inputs: Inputs) -> str:
    """The key of the training, by which its checkpoint is named, and the sizes of clouds for which errors are asked."""
    *of_training, points = plain(inputs)
    return content_key(content_key(*of_training), points)


def _make(run: Run[OperatorSetup], results: Results, key: str) -> Output:
    setup, model = run.setup, run.setup.study.model
    network = setup.network().to(run.device)
    history, seconds = _train(run, network, content_key(*plain(_inputs(run, results))[:-1]))
    half_precision(network)  # errors are those of the weights as they are saved
    errors = _measured(run, network, history)
    card = OperatorCard(
        trained_for=setup.trained_for(),
        training=model.training.model_dump(mode="json"),
        squared_relative_error=_by_points(errors),
        hardware=hardware(run.device),
        seconds=round(seconds, 1),
    )
    save_operator(run.workspace.path(WEIGHTS), network, card)
    return Output((WEIGHTS, ERRORS), seconds=seconds)


def _read(run: Run[OperatorSetup], results: Results, record: object) -> LearntOperator:
    network = run.setup.network()
    card = load_operator(run.workspace.path(WEIGHTS), network, run.setup.trained_for())
    return LearntOperator(network.to(run.device), card)


LEARN = Stage("learn", (), _inputs, _make, _read, hashed=_hashed)
"""The operator trained on the physics; another choice of clouds for its errors needs no other training."""


def _measured(run: Run[OperatorSetup], network: ProblemOperator, history: list[Progress]) -> OperatorErrors:
    """Errors on unseen instances, left in ``operator.json``."""
    errors = measure_errors(run.setup, network, held_out(run.setup, run.workspace, run.report))
    content = {"history": [asdict(entry) for entry in history], "errors": asdict(errors)}
    write_json(run.workspace.path(ERRORS), content)
    return errors


def _by_points(errors: OperatorErrors) -> dict[str, float]:
    return {str(points): error for points, error in errors.mean.items()}


def held_out(setup: OperatorSetup, workspace: Workspace, report: Report = silent) -> Solutions:
    """Unseen instances with their solutions on the resolved mesh, from the folder where they are there."""
    evaluation = setup.study.model.evaluation
    wanted = _Wanted("held_out", setup.truth_lift, evaluation.held_out, evaluation.seed)
    return _solved(Run(setup, workspace, report=report), wanted)


def measure_errors(setup: OperatorSetup, network: ProblemOperator, truth: Solutions) -> OperatorErrors:
    """Errors at the cloud sizes that the study names."""
    found: dict[str, dict[int, float]] = {"mean": {}, "median": {}, "worst": {}}
    with torch.no_grad():
        for points in setup.study.model.evaluation.points:
            errors = held_out_errors(network, truth, points)
            for name, function in (("mean", torch.mean), ("median", torch.median), ("worst", torch.max)):
                found[name][points] = float(function(errors))
    return OperatorErrors(**found)


def seconds_per_solve(
    setup: OperatorSetup, network: ProblemOperator, instances: Instances, points: int, lift: DirichletLift
) -> float:
    """Time per instance for a whole batch: sampling clouds, encoding, fields at the mesh nodes of ``lift``.

    Processor time on a CPU, which other work on the machine does not lengthen, as in :func:`fem_cost`; wall time on a
    GPU. The median of four after a first one that warms up; a batch of more than 32 warms itself up and is timed once.
    """
    instances = instances.to(network.scale)
    clock = time.process_time if network.scale.device.type == "cpu" else time.perf_counter
    times = []
    with torch.no_grad():
        for _ in range(5 if len(instances) <= 32 else 1):
            start = clock()
            for part in range(0, len(instances), 32):
                own = instances.subset(slice(part, part + 32))
                latent = network.encode(own, *clouds(lift, own, points, seed=0))
                network.nodal_fields(latent, own, lift, lift.shape_map.nodes(own.theta)).sum().item()
            times.append(clock() - start)
    return float(np.median(times[1:] or times)) / len(instances)


@dataclass(frozen=True)
class FemCost:
    """Finite elements on a coarse mesh: cell size, nodes, squared relative error, and seconds for one solve."""

    mesh_size: float
    nodes: int
    squared_relative_error: float
    seconds: float


def fem_cost(setup: OperatorSetup, truth: Solutions, mesh_size: float) -> FemCost:
    """Mesh each instance afresh with coarser cells, solve, and compare at the resolved mesh's nodes.

    The time is the solver's processor time, with everything compiled and all symbolic work done; meshing is not in it.

    Raises:
        SolveError, MeshError: the mesh is too coarse for a shape.
    """
    fine_map, field, primary = truth.lift.shape_map, setup.problem.physics.fields[0].name, setup.data.primary
    errors, times, counts = [], [], []
    for index in range(len(truth)):
        theta = truth.instances.theta[index]
        parameters = {name: float(values[index]) for name, values in truth.instances.parameters.items()}
        mesh = mesh_family(setup.family, setup.family.control_points(theta).numpy(), mesh_size)
        solver = FemSolver(setup.problem, mesh)
        solver.solve(parameters=parameters)
        start = time.process_time()
        solution = solver.solve(parameters=parameters)
        times.append(time.process_time() - start)
        fine = fine_map.nodes(theta)
        found = torch.from_numpy(interpolation_matrix(mesh, fine.numpy()) @ solution.fields[field])
        weights, exact = nodal_weights(fine_map.mesh, fine)[:, None], truth.fields[index, :, :primary]
        errors.append(float(((found - exact) ** 2 * weights).sum() / (exact**2 * weights).sum()))
        counts.append(len(mesh.nodes))
    return FemCost(mesh_size, round(float(np.mean(counts))), float(np.mean(errors)), float(np.median(times)))


def _train(run: Run[OperatorSetup], network: ProblemOperator, key: str) -> tuple[list[Progress], float]:
    """History and seconds; the checkpoint, named by the key of the training, stays for other evaluations of it."""
    setup, workspace = run.setup, run.workspace
    model, evaluation = setup.study.model, setup.study.model.evaluation
    # the weights are not chosen by the instances that measure errors
    validation = _Wanted("validation", setup.truth_lift, evaluation.held_out, evaluation.seed + 2)
    known = _Wanted("known", setup.lift, model.training.solutions, evaluation.seed + 1)
    checkpoint = workspace.path(f"training-{key}.checkpoint")
    log, clock = workspace.path("training.csv"), WorkClock(checkpoint.with_suffix(".seconds"))
    if not checkpoint.exists():
        log.unlink(missing_ok=True)

    def step(progress: Progress) -> None:
        clock.tick()
        if progress.step % 50 == 0:
            with log.open("a") as file:
                file.write(f"{progress.step},{progress.loss:.6g},{progress.error:.6g},{clock.total:.1f}\n")
        text = f"loss {progress.loss:.4g}, held-out squared relative error {progress.error:.3g}"
        run.report("train", progress.step, progress.steps, text + refreshing(progress))

    history = train_on_physics(
        network,
        setup.training_lifts,
        setup.population,
        _solved(run, validation),
        setup.training_config(),
        _solved(run, known) if known.count else None,
        setup.residual_weights(),
        checkpoint,
        step,
    )
    return history, clock.total


@dataclass(frozen=True)
class _Wanted:
    """Instances whose solutions are wanted: name of their file, mesh with boundary values, how many, seed."""

    name: str
    lift: DirichletLift
    count: int
    seed: int


def _solved(run: Run[OperatorSetup], wanted: _Wanted) -> Solutions:
    """Solutions of instances, each set its own file, solved once."""
    setup, lift, count = run.setup, wanted.lift, wanted.count
    instances = setup.population.draw(count, wanted.seed)
    key = content_key(wanted.name, setup.problem_key(), count, wanted.seed, lift.shape_map.mesh.nodes.tolist())
    path = run.workspace.path(f"{wanted.name}-{key}.npy")
    fields = _left(path, (count, len(lift.shape_map.mesh.nodes), len(setup.problem.physics.components)))
    if fields is not None:
        return Solutions(instances, torch.from_numpy(fields), lift)

    def report(done: int) -> None:
        run.report(wanted.name, done, count, "finite elements")

    solutions = solve_instances(setup, lift, instances, report)
    with written_whole(path) as part, part.open("wb") as file:
        np.save(file, solutions.fields.numpy())
    return solutions


def _left(path: Path, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Fields that an earlier run left; None where there are none, or not whole ones."""
    try:
        fields = np.load(path)
    except Exception:  # numpy reports a broken file in many ways
        return None
    whole = isinstance(fields, np.ndarray) and fields.dtype == np.float64 and fields.shape == shape
    return fields if whole and np.isfinite(fields).all() else None
