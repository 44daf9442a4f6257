"""Taylor tests of every derivative between the design parameters and the objective.

A correct gradient g leaves |J(theta + h d) - J(theta) - h g.d| = O(h^2): the order is the slope of the remainder.
A test whose remainders are all rounding error, or whose derivative is zero, proves nothing and fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.design.measures import quantities_of
from shapewright.geometries.design.point_cloud import boundary_cloud
from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.solvers.fem.load_cases import solver_of
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import Setup
from shapewright.studies.problem.surrogates import build_surrogate, open_surrogate
from shapewright.surrogate.models.design_surrogate import DesignSurrogate

STEPS = tuple(10.0**-k for k in np.arange(1.5, 4.6, 0.5))


@dataclass(frozen=True)
class TaylorTest:
    """One derivative.

    Attributes:
        name: what is differentiated by what.
        order: slope of the remainder over the steps where it is above rounding; 2 is right.
        difference: of the derivative from a central difference, relative.
        steps: those used.
        exact: the function is linear along the direction, so that there is no remainder to measure.
        derivative: that was tested.
        value: of the function where it was tested.
    """

    name: str
    order: float
    difference: float
    steps: tuple[float, ...]
    exact: bool
    derivative: float
    value: float = 0.0

    @property
    def vanishes(self) -> bool:
        """Whether the derivative is so small that rounding hides what it predicts."""
        return abs(self.derivative) <= 1e-9 * abs(self.value)

    @property
    def passed(self) -> bool:
        """Order 2.0 +- 0.1 and agreement with the central difference."""
        right_order = self.exact or abs(self.order - 2.0) <= 0.1
        return not self.vanishes and self.difference < 1e-5 and right_order

    @property
    def explanation(self) -> str:
        """What a failure means."""
        if not math.isfinite(self.difference):
            return "the function or its derivative is not finite"
        if self.vanishes:
            return "the derivative is zero, so the test proves nothing"
        if self.difference >= 1e-5:
            return f"the derivative {self.derivative:.6g} is {self.difference:.1e} off the central difference"
        return f"the remainder falls with order {self.order:.2f}, not 2"


def taylor_test(name: str, function: Callable[[float], float], derivative: float, scale: float = 1.0) -> TaylorTest:
    """Test ``derivative`` of ``function`` at 0; steps are ``scale`` times :data:`STEPS`."""
    at = function(0.0)
    tiny = 1e-11 * scale
    noise = max(abs(function(k * tiny) - at - k * tiny * derivative) for k in (-2, -1, 1, 2)) + 2e-16 * abs(at)
    steps, remainders, differences = [], [], []
    for step in STEPS:
        h = scale * step
        above, below = function(h), function(-h)
        central = (above - below) / (2 * h)
        differences.append(abs(central - derivative) / max(abs(derivative), 1e-300))
        remainder = abs(above - at - h * derivative)
        if remainder > 100 * noise:
            steps.append(h)
            remainders.append(remainder)
    if not math.isfinite(noise + sum(differences)):
        return TaylorTest(name, math.nan, math.nan, STEPS, False, derivative, at)
    exact = len(steps) < 3
    # the largest steps may not be asymptotic yet: the slope is that of the smaller half
    kept = slice(-max(3, len(steps) // 2 + 1), None)
    order = math.nan if exact else float(np.polyfit(np.log(steps[kept]), np.log(remainders[kept]), 1)[0])
    return TaylorTest(name, order, min(differences), tuple(steps or STEPS), exact, derivative, at)


def check_study(setup: Setup, seed: int = 0) -> list[TaylorTest]:
    """Geometry, constraints, FEM adjoint and tangent, mGNO in queries and in input points, and the whole chain.

    The surrogate is the study's, where it ships one, or has fresh weights: a derivative is exact whatever they are.
    """
    generator = torch.Generator().manual_seed(seed)
    bounds = setup.family.bounds
    span = bounds[:, 1] - bounds[:, 0]
    # away from the start, where symmetric designs would hide errors, and inside the bounds
    theta = setup.initial + 0.1 * (setup.family.reference - setup.initial)
    theta = theta + 0.02 * span * torch.rand(len(span), generator=generator, dtype=torch.float64)
    direction = torch.randn(len(span), generator=generator, dtype=torch.float64)
    direction = 0.3 * direction / direction.norm() * span
    known = [*_geometry(setup, theta, direction), *_finite_elements(setup, theta, direction)]
    if setup.problem.cases:  # no surrogate learns load cases
        return known
    weights = setup.study.model.surrogate.weights
    if weights is not None:
        surrogate, _ = open_surrogate(setup, setup.study.folder / weights)
    else:
        surrogate = build_surrogate(setup).double().requires_grad_(False)
    return [*known, *_operator(surrogate, theta, generator), *_chain(setup, surrogate, theta, direction)]


def _by_autograd(name: str, function: Callable[[Tensor], Tensor], at: Tensor, direction: Tensor) -> TaylorTest:
    variable = at.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(variable), variable)
    return taylor_test(
        name, lambda h: float(function(at + h * direction).detach()), float((gradient * direction).sum())
    )


def _geometry(setup: Setup, theta: Tensor, direction: Tensor) -> Iterator[TaylorTest]:
    shape_map = setup.shape_map
    probe = torch.sin(torch.arange(len(shape_map.mesh.nodes), dtype=torch.float64))

    def weights(at: Tensor) -> Tensor:
        return (nodal_weights(shape_map.mesh, shape_map.nodes(at)) * probe).sum()

    def normals(at: Tensor) -> Tensor:
        cloud = boundary_cloud(shape_map, shape_map.nodes(at)[None])
        return (torch.sin(3 * cloud.points.sum(-1) + 1) * cloud.normals[:, 1] * cloud.weights).sum()

    yield _by_autograd("quadrature weights in theta", weights, theta, direction)
    yield _by_autograd("boundary points, normals and weights in theta", normals, theta, direction)
    wanted = {constraint.quantity for constraint in setup.constraints}
    for name, quantity in quantities_of(shape_map).items():
        if name in wanted:
            yield _by_autograd(f"{name} in theta", partial(quantity.evaluate, shape_map), theta, direction)


def _finite_elements(setup: Setup, theta: Tensor, direction: Tensor) -> Iterator[TaylorTest]:
    field = setup.problem.physics.fields[0].name
    _, gradients, solution = FemModel(setup).functionals(theta)
    tangent = setup.maps.tangent(solution, theta, direction)

    @cache
    def solved_anew(h: float) -> tuple[Mapping[str, float], NDArray[np.float64]]:
        """Values and the first field by a solver that shares no state with the one that gave the gradient."""
        design = theta + h * direction
        meshes = {offset: setup.shape_map.mesh.moved(nodes) for offset, nodes in setup.maps.nodes(design).items()}
        found = solver_of(setup.problem_at(design), meshes).solve()
        return found.values, found.fields[field]

    def anew(h: float, name: str) -> float:
        return solved_anew(h)[0][name]

    for index, (functional, gradient) in enumerate(zip(setup.problem.functionals, gradients, strict=True)):
        name, what = functional.name, functional.name if index else "objective"
        value = partial(anew, name=name)
        yield taylor_test(f"FEM {what} in theta (adjoint)", value, float(gradient @ direction.numpy()))
        yield taylor_test(f"FEM {what} in theta (tangent)", value, tangent.values[name])
    probe = np.cos(np.arange(tangent.fields[field].size)).reshape(tangent.fields[field].shape)

    def probed(h: float) -> float:
        return float((solved_anew(h)[1] * probe).sum())

    yield taylor_test(
        f"FEM {field} in theta (material derivative)", probed, float((tangent.fields[field] * probe).sum())
    )


def _operator(surrogate: DesignSurrogate, theta: Tensor, generator: torch.Generator) -> Iterator[TaylorTest]:
    interior, boundary = surrogate.clouds(surrogate.shape_map.nodes(theta)[None])
    operator = surrogate.operator
    size = float(interior.points.max() - interior.points.min())

    def draw(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    latent = operator.encode(interior, boundary)
    weights = draw(operator.decode(latent, interior.points, interior.shape_index))

    def in_queries(points: Tensor) -> Tensor:
        return (operator.decode(latent, points, interior.shape_index) * weights).sum()

    def in_input(points: Tensor) -> Tensor:
        moved = operator.encode(replace(interior, points=points), boundary)
        return (operator.decode(moved, interior.points, interior.shape_index) * weights).sum()

    smooth = 0.02 * size * torch.sin(5 * interior.points.flip(-1) / size)
    yield _by_autograd("mGNO in query points", in_queries, interior.points, smooth)
    yield _by_autograd("mGNO in input points", in_input, interior.points, smooth)


def _chain(setup: Setup, surrogate: DesignSurrogate, theta: Tensor, direction: Tensor) -> Iterator[TaylorTest]:
    _, gradients = surrogate.value_and_gradient(theta[None])

    def value(h: float, index: int) -> float:
        with torch.no_grad():
            return float(surrogate.evaluate((theta + h * direction)[None])[1][0, index])

    for index, functional in enumerate(setup.problem.functionals):
        name = f"surrogate {functional.name if index else 'objective'} in theta (whole chain)"
        yield taylor_test(name, partial(value, index=index), float(gradients[0, index] @ direction))
