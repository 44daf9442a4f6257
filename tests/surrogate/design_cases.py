"""A family with a curved lid, fields known in closed form with their tangents, and a small surrogate for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from shapewright.geometries.design.extension import harmonic_extension
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import Parameter
from shapewright.geometries.family.spline import Curve
from shapewright.geometries.fields.problem import Function
from shapewright.geometries.fields.quantities import FieldSpace
from shapewright.surrogate.mgno.graded_coordinates import GradedCoordinates
from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.design_surrogate import DesignSurrogate, Normalization, latent_grid_for
from shapewright.surrogate.models.functionals import integrate_all
from shapewright.surrogate.training.dataset import Dataset
from tests.solvers.solver_meshes import mapped_square


@dataclass(frozen=True)
class Integral:
    """A functional."""

    name: str
    integrand: Function
    on: str | None = None
    outer: Function | None = None
    lifting: str | None = None


SPACE = FieldSpace(("u", "p"), {"k": lambda ops, q: 1 + 0.5 * q["x"] ** 2})
FUNCTIONALS = (
    Integral("energy", lambda ops, q: q["k"] * q["u"] + 0.1 * ops.sin(q["p"])),
    Integral("flux", lambda ops, q: q["u_x"] * q["nx"] + q["u_y"] * q["ny"] + 0.3 * q["p"], "top"),
)


def _control_points(theta: Tensor) -> Tensor:
    """Straight floor and walls of a unit box; theta (..., 3) are the heights of the lid's inner control points."""
    zero, one = theta.new_zeros(theta.shape[:-1]), theta.new_ones(theta.shape[:-1])
    floor = [(zero, zero), (one, zero), (one, zero), (one, one)]
    lid = [(one, one), *((one * (1 - k / 4), theta[..., k - 1]) for k in (1, 2, 3)), (zero, one)]
    return torch.stack([torch.stack(point, -1) for point in [*floor, *lid, (zero, one), (zero, zero)]], -2)


def lid_family() -> Family:
    """Box with a curved lid."""
    curves = (Curve("bottom", 2, 1), Curve("right", 2, 1), Curve("top", 5), Curve("left", 2, 1))
    parameters = tuple(Parameter(f"h{k}", 1.1, 0.7, 1.3) for k in (1, 2, 3))
    return Family("lid", "box with a curved lid", parameters, (curves,), _control_points)


@cache
def shape_map() -> ShapeMap:
    """On 18 cells and 49 nodes."""
    family, mesh = lid_family(), mapped_square(3)
    middle = family.control_points(family.reference).numpy()
    return ShapeMap(family, mesh, torch.from_numpy(harmonic_extension(family, middle, mesh, 0.3)))


def exact_fields(theta: Tensor) -> Tensor:
    """(..., N, 2) fields at the nodes: u vanishes on the boundary, p does not."""
    x, y = shape_map().reference_nodes.unbind(-1)
    bubble = torch.sin(torch.pi * x) * torch.sin(torch.pi * y)
    rise = theta.mean(-1, keepdim=True) - 1
    tilt = theta[..., :1] - theta[..., 2:]
    u = bubble * (1 + 2 * rise + rise**2 + 0.3 * tilt * x)
    p = 1 + x + (torch.sin(2 * rise) + 0.3 * tilt * x) * y
    return torch.stack([u, p], -1)


def exact_values(theta: Tensor) -> Tensor:
    """(B, 2) functionals of the exact fields."""
    mesh = shape_map().mesh
    return integrate_all(FUNCTIONALS, SPACE, mesh, shape_map().nodes(theta), exact_fields(theta))


def random_designs(count: int, seed: int) -> Tensor:
    """(count, 3) within the bounds."""
    generator = torch.Generator().manual_seed(seed)
    return 0.7 + 0.6 * torch.rand(count, 3, generator=generator, dtype=torch.float64)


def exact_dataset(count: int, seed: int, tangents: int = 2, axes: bool = False) -> Dataset:
    """Designs with exact fields, values, gradients, and tangents along random directions, or random parameters."""
    theta = random_designs(count, seed)
    shape_map()  # a family is checked by differentiating it, which cannot be done within jvp
    generator = torch.Generator().manual_seed(seed + 1)
    directions = torch.randn(count, tangents, 3, generator=generator, dtype=torch.float64)
    if axes:
        directions = torch.nn.functional.one_hot(directions.argmax(-1), 3).double()
    slopes = [torch.func.jvp(exact_fields, (theta,), (directions[:, t],))[1] for t in range(tangents)]
    gradients = torch.func.vmap(torch.func.jacrev(lambda one: exact_values(one[None])[0]))(theta)
    return Dataset(
        theta=theta,
        solution=exact_fields(theta).float(),
        values=exact_values(theta),
        gradients=gradients,
        directions=directions,
        tangents=torch.stack(slopes, 1).float(),
    )


def small_surrogate(
    seed: int = 0, mollifier: str = "octic", grading: GradedCoordinates | None = None
) -> DesignSurrogate:
    """Float64, with fresh weights; knows the fields of the middle of the bounds."""
    torch.manual_seed(seed)
    x, y = shape_map().reference_nodes.unbind(-1)
    factor = torch.stack([16 * x * (1 - x) * y * (1 - y), torch.ones_like(x)], -1)
    reference = exact_fields(shape_map().family.reference)
    scale = torch.tensor([0.3, 0.3], dtype=torch.float64)
    config = OperatorConfig(width=8, hidden=8, modes=(3, 3), layers=2, mollifier=mollifier)
    grid = latent_grid_for(shape_map(), (14, 14), radius=2, grading=grading)
    normalization = Normalization(reference, factor, scale)
    surrogate = DesignSurrogate(shape_map(), SPACE, FUNCTIONALS, config, grid, normalization, grading)
    return surrogate.double()


def lively_surrogate(
    seed: int = 0, mollifier: str = "octic", grading: GradedCoordinates | None = None
) -> DesignSurrogate:
    """The same with a hundred times the scale: fresh weights alone hardly change the fields."""
    surrogate = small_surrogate(seed, mollifier, grading)
    surrogate.scale.mul_(100)
    return surrogate
