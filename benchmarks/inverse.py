"""Recovering an instance of an operator study from noisy values of its solution at a few points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor
from torch.autograd import forward_ad

from shapewright.geometries.mesh.locate import interpolation_matrix
from shapewright.studies.problem.operator_setup import OperatorSetup, solve_instances
from shapewright.surrogate.models.instances import Instances, Normal, Uniform
from shapewright.surrogate.models.problem_operator import ProblemOperator, clouds

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sensors:
    """Values (S,) of the first component at points (S, 2), with the standard deviation of their noise."""

    points: Array
    values: Array
    noise: float


@dataclass(frozen=True)
class Recovery:
    """What fits the sensors.

    Attributes:
        instance: the most probable one found.
        misfit: root mean square of (model - value) / noise by the surrogate.
        fem_misfit: the same by finite elements for the recovered instance.
        evaluations: of the surrogate with its Jacobian, over all starts.
    """

    instance: Instances
    misfit: float
    fem_misfit: float
    evaluations: int


def sensor_points(count: int, radius: float) -> Array:
    """Points spread evenly over a disc around the origin, by the golden angle."""
    k = np.arange(count) + 0.5
    distance, angle = radius * np.sqrt(k / count), k * np.pi * (3 - np.sqrt(5))
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], -1)


def measure(setup: OperatorSetup, instance: Instances, points: Array, noise: float, seed: int) -> Sensors:
    """Finite-element values on the resolved mesh, with normal noise."""
    exact = _by_fem(setup, instance, points)
    return Sensors(points, exact + noise * np.random.default_rng(seed).standard_normal(len(points)), noise)


def recover(
    setup: OperatorSetup,
    network: ProblemOperator,
    sensors: Sensors,
    known: Instances,
    unknown: Sequence[str],
    starts: int = 4,
    seed: int = 0,
    cloud: int = 1000,
) -> Recovery:
    """Most probable instance: least squares of misfit and prior from several starts, by exact Jacobians.

    Args:
        setup: of the study.
        network: trained operator in float64.
        sensors: what was measured.
        known: instance from which all numbers but the unknown ones are taken.
        unknown: design parameters and numbers to recover.
        starts: random ones from the study's own distribution.
        seed: of the starts.
        cloud: points of the input cloud.
    """
    names, population = list(unknown), setup.population
    limits = dict(zip(population.shapes, population.bounds.tolist(), strict=True))
    distributions = {name: distribution for name, distribution in population.parameters.items() if name in names}
    limits |= {name: [d.low, d.high] for name, d in distributions.items() if isinstance(d, Uniform)}
    prior = {name: d for name, d in distributions.items() if isinstance(d, Normal)}
    lower, upper = (np.array([limits.get(name, (-np.inf, np.inf))[side] for name in names]) for side in (0, 1))
    points = torch.from_numpy(sensors.points)

    def instance(values: Tensor) -> Instances:
        own = dict(zip(names, values.unbind(-1), strict=True))
        parameters = {name: own.get(name, known.parameters[name].reshape(())).reshape(1) for name in known.parameters}
        return Instances(torch.stack([parameters[name] for name in population.shapes], -1), parameters)

    def residuals(values: Tensor) -> Tensor:
        here = instance(values)
        latent = network.encode(here, *clouds(setup.lift, here, cloud, seed=0))
        found = network.values_at(latent, here, setup.lift, points)[:, 0]
        misfit = (found - torch.from_numpy(sensors.values)) / sensors.noise
        belief = [(values[names.index(name)] - d.mean) / d.std for name, d in prior.items()]
        return torch.cat([misfit, torch.stack(belief)]) if belief else misfit

    def jacobian(values: Array) -> Array:
        at, columns = torch.from_numpy(values), []
        for direction in torch.eye(len(names), dtype=torch.float64):
            with forward_ad.dual_level():
                found = residuals(forward_ad.make_dual(at, direction))
                columns.append(forward_ad.unpack_dual(found).tangent.detach())
        return torch.stack(columns, -1).numpy()

    best, evaluations = None, 0
    drawn = population.draw(starts, seed)
    for index in range(starts):
        start = np.array([float(drawn.parameters[name][index]) for name in names])
        found = least_squares(
            lambda values: residuals(torch.from_numpy(values)).detach().numpy(),
            start,
            jacobian,
            bounds=(lower, upper),
            x_scale="jac",
            max_nfev=40,
        )
        evaluations += int(found.njev)
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None  # there is one start at least
    recovered = instance(torch.from_numpy(best.x))
    by_fem = (_by_fem(setup, recovered, sensors.points) - sensors.values) / sensors.noise
    misfit = best.fun[: len(sensors.values)]
    return Recovery(recovered, float(np.sqrt(np.mean(misfit**2))), float(np.sqrt(np.mean(by_fem**2))), evaluations)


def _by_fem(setup: OperatorSetup, instance: Instances, points: Array) -> Array:
    solution = solve_instances(setup, setup.truth_lift, instance)
    mesh = setup.truth_lift.shape_map.mesh.moved(setup.truth_lift.shape_map.nodes(instance.theta[0]).numpy())
    return interpolation_matrix(mesh, points) @ solution.fields[0, :, 0].numpy()
