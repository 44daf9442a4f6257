"""Inverse design with an operator: a shape whose stored energy at given loads meets a target.

The energy's derivatives with respect to a load are forces, so its values at several loads prescribe how the part
answers. Of the operator the energy is a differentiable function of the shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

from shapewright.geometries.design.dirichlet_lift import DirichletLift
from shapewright.geometries.mesh.integration import cell_points
from shapewright.studies.problem.operator_setup import OperatorSetup, solve_instances
from shapewright.surrogate.models.instances import Instances
from shapewright.surrogate.models.point_quantities import quantities
from shapewright.surrogate.models.problem_operator import ProblemOperator, clouds, nodal_derivatives
from shapewright.surrogate.training.physics_loss import energy

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Load:
    """A number of the instances, and the values (L,) at which a response is wanted."""

    name: str
    values: Array


@dataclass(frozen=True)
class Match:
    """A shape that meets a target.

    Attributes:
        theta: (m,) design parameters.
        surrogate, fem: (L,) its energies, by the operator and by finite elements on the resolved mesh.
        evaluations: of the operator with its Jacobian, over all starts.
    """

    theta: Array
    surrogate: Array
    fem: Array
    evaluations: int


def surrogate_energies(
    setup: OperatorSetup, network: ProblemOperator, theta: Tensor, load: Load, cloud: int = 1000
) -> Tensor:
    """(L,) energies of one shape (m,), differentiable in it."""
    instances, lift = _under(setup, theta, load), setup.lift
    quadrature = cell_points(lift.shape_map.mesh, lift.shape_map.nodes(instances.theta))
    latent = network.encode(instances, *clouds(lift, instances, cloud, seed=0))
    fields = network.fields(latent, instances, lift, quadrature)
    found = quantities(network.data, quadrature.points.flatten(1, 2), fields, instances.parameters)
    return energy(network.data, found, quadrature)


def fem_energies(setup: OperatorSetup, theta: Array, load: Load, lift: DirichletLift | None = None) -> Array:
    """(L,) energies of the finite-element solutions, on the resolved mesh if no other is given.

    Raises:
        SolveError.
    """
    lift = lift or setup.truth_lift
    instances = _under(setup, torch.from_numpy(theta), load)
    solutions = solve_instances(setup, lift, instances)
    quadrature = cell_points(lift.shape_map.mesh, lift.shape_map.nodes(instances.theta))
    fields = nodal_derivatives(quadrature, solutions.fields)
    found = quantities(setup.data, quadrature.points.flatten(1, 2), fields, instances.parameters)
    return energy(setup.data, found, quadrature).numpy()


def match_energies(
    setup: OperatorSetup,
    network: ProblemOperator,
    load: Load,
    target: Array,
    starts: Sequence[Array],
    cloud: int = 1000,
) -> Match:
    """The shape within the family's bounds whose energies are nearest to the target (L,), relative to it.

    Args:
        setup: of the study.
        network: trained operator in float64.
        load: under which the energies are wanted.
        target: wanted energies.
        starts: designs (m,) from which the search begins.
        cloud: points of the input cloud.
    """
    wanted = torch.from_numpy(target)

    def residuals(values: Array) -> Array:
        with torch.no_grad():
            return (surrogate_energies(setup, network, torch.from_numpy(values), load, cloud) / wanted - 1).numpy()

    def jacobian(values: Array) -> Array:
        theta = torch.from_numpy(values).requires_grad_()
        found = surrogate_energies(setup, network, theta, load, cloud) / wanted
        rows = [torch.autograd.grad(one, theta, retain_graph=True)[0] for one in found]
        return torch.stack(rows).numpy()

    lower, upper = setup.population.bounds.T.numpy()
    options = {"bounds": (lower, upper), "x_scale": upper - lower, "max_nfev": 30, "gtol": 1e-12}
    runs = [least_squares(residuals, start, jacobian, **options) for start in starts]
    best = min(runs, key=lambda run: run.cost)
    return Match(
        theta=best.x,
        surrogate=target * (1 + best.fun),
        fem=fem_energies(setup, best.x, load),
        evaluations=sum(int(run.njev) for run in runs),
    )


def _under(setup: OperatorSetup, theta: Tensor, load: Load) -> Instances:
    """The shape under each value of the load."""
    rows = theta.expand(len(load.values), -1)
    shape = dict(zip(setup.population.shapes, rows.unbind(-1), strict=True))
    return Instances(rows, shape | {load.name: torch.from_numpy(load.values).to(theta)})
