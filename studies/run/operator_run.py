"""Stage ``learn`` of an operator study: solve held-out instances, train on the physics, measure errors."""

from __future__ import annotations

import time
from dataclasses import dataclass
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
from shapewright.studies.files import content_key
from shapewright.studies.problem.operator_setup import OperatorSetup, build_operator_setup, solve_instances
from shapewright.studies.run.learn import Learner, LearntOperator, OperatorErrors
from shapewright.studies.run.stage import Inputs, Report, Results, Run, Stage, plain, silent
from shapewright.studies.run.training_log import TrainingLog
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.operator_study import OperatorStudyModel
from shapewright.surrogate.models.instances import Instances
from shapewright.surrogate.models.model_card import OperatorCard
from shapewright.surrogate.models.problem_operator import ProblemOperator, clouds
from shapewright.surrogate.training.loop import Progress
from shapewright.surrogate.training.physics_training import Solutions, held_out_errors, train_on_physics


def run_operator_study(
    study: Study[OperatorStudyModel], workspace: Workspace, device: str, report: Report = silent
) -> tuple[OperatorSetup, ProblemOperator, OperatorCard]:
    """Setup of the study, its operator, and the card with errors on unseen instances; see :class:`learn.Learner`."""
    run = Run(build_operator_setup(study), workspace, device, report)
    learnt = LEARNER.learn(run)
    return run.setup, learnt.network, learnt.card


def _inputs(run: Run[OperatorSetup], results: Results) -> Inputs:
    return {**_training_inputs(run.setup), "evaluation.points": run.setup.study.model.evaluation.points}


def _training_inputs(setup: OperatorSetup) -> Inputs:
    """All that the trained weights depend on, the instances by which the best are chosen included."""
    return {
        "": setup.trained_for(),
        "training": setup.study.model.training.model_dump(mode="json"),
        "evaluation": setup.study.model.evaluation.model_dump(mode="json", exclude={"points"}),
    }


def _hashed(stage: Stage[LearntOperator], inputs: Inputs) -> str:
    """The key of the training, by which its checkpoint is named, with the sizes of clouds at which errors are asked."""
    *of_training, points = plain(inputs)
    return content_key(content_key(*of_training), points)


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


def _train(run: Run[OperatorSetup], network: ProblemOperator) -> tuple[list[Progress], float]:
    """History and seconds; the checkpoint stays, so that errors at other cloud sizes need no other training."""
    setup, model, evaluation = run.setup, run.setup.study.model, run.setup.study.model.evaluation
    # the weights are not chosen by the instances that measure errors
    validation = _Wanted("validation", setup.truth_lift, evaluation.held_out, evaluation.seed + 2)
    known = _Wanted("known", setup.lift, model.training.solutions, evaluation.seed + 1)
    log = TrainingLog(run, content_key(*plain(_training_inputs(setup))))
    history = train_on_physics(
        network,
        setup.training_lifts,
        setup.population,
        _solved(run, validation),
        setup.training_config(),
        _solved(run, known) if known.count else None,
        setup.residual_weights(),
        log.checkpoint,
        log.step,
    )
    return history, log.seconds


def _errors(run: Run[OperatorSetup], network: ProblemOperator) -> OperatorErrors:
    return measure_errors(run.setup, network, held_out(run.setup, run.workspace, run.report))


LEARNER = Learner(_inputs, _train, _errors, _hashed)
"""Training on the physics; another choice of clouds for the errors needs no other training."""


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
