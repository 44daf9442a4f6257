"""The solution of a linear problem in the span of a few given fields: the method of Ritz and Galerkin.

For a symmetric form a(u, v) = int flux(u) : grad v + int h u v and a load l(v), the field G + sum_k x_k phi_k of least
energy has A x = b with A_kj = a(phi_k, phi_j) and b_k = l(phi_k) - a(G, phi_k). What it gains of energy over G,
b . x / 2, is at most what the finite-element solution on the same mesh gains, and misses that by half the square of its
error in the energy norm. So l(u) of it is the Lagrangian J(u) + R(u; p) of the self-adjoint objective, whatever the
amplitudes of the fields are, and its shape derivative with the nodal fields held is the adjoint one to the order of
that error. P. G. Ciarlet, *The Finite Element Method for Elliptic Problems* (1978), section 2.4; M. Pierce, M. Giles,
SIAM Review 42 (2000) 247.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from shapewright.geometries.fields.problem import Function, Physics
from shapewright.geometries.fields.quantities import Component, FieldSpace, Quantities, constant
from shapewright.surrogate.models.shapes import Points, Shapes, nodal_values


@dataclass(frozen=True)
class LinearPhysics:
    """A linear elliptic physics with an energy, as an operator for all shapes knows it.

    Attributes:
        physics: its flux is linear in the gradients of the fields.
        stiffness: coefficient that the flux is proportional to.
        parameters: coefficients that change from domain to domain, dimensionless.
    """

    physics: Physics
    stiffness: str
    parameters: tuple[str, ...] = ()

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the field components."""
        return self.physics.components


@dataclass(frozen=True)
class System:
    """Energy of K fields and the lifting, of B domains.

    Attributes:
        matrix: (B, K, K) a(phi_k, phi_j).
        load: (B, K) l(phi_k) - a(G, phi_k).
        lifting_matrix: (B,) a(G, G).
    """

    matrix: Tensor
    load: Tensor
    lifting_matrix: Tensor


def assemble(physics: LinearPhysics, shapes: Shapes, basis: Tensor, points_per_side: int = 3) -> System:
    """System of fields ``basis`` (B, N, c, K) that vanish where their components are prescribed; stiffness one."""
    count = basis.shape[-1]
    fields = torch.cat([basis, shapes.lifting[..., None]], -1).flatten(2)
    inside, around = (
        part.of_fields(fields, len(physics.components)) for part in element_arrays(physics, shapes, points_per_side)
    )
    matrix, load = inside[0] + around[0], inside[1] + around[1]
    of_lifting = matrix[:, count, :count]
    return System(
        matrix[:, :count, :count],
        load[:, :count] - of_lifting,
        matrix[:, count, count],
    )


@dataclass(frozen=True)
class ElementArrays:
    """Matrices and loads of E elements of n nodes, in B domains; c components of a node stand together.

    Attributes:
        elements: (B, E, n) nodes.
        matrices: (B, E, n c, n c).
        loads: (B, E, n c).
    """

    elements: Tensor
    matrices: Tensor
    loads: Tensor

    def of_fields(self, fields: Tensor, components: int) -> tuple[Tensor, Tensor]:
        """(B, F, F) forms and (B, F) loads of fields (B, N, c F)."""
        at_nodes = nodal_values(fields, self.elements).unflatten(-1, (components, -1))
        local = at_nodes.flatten(2, 3)
        forms = local.flatten(1, 2).mT @ (self.matrices @ local).flatten(1, 2)
        return forms, torch.einsum("ben,benf->bf", self.loads, local)


def element_arrays(
    physics: LinearPhysics, shapes: Shapes, points_per_side: int = 3
) -> tuple[ElementArrays, ElementArrays]:
    """Stiffness and sources of the cells, films and prescribed fluxes of the facets; stiffness one."""
    inside, around = shapes.cell_points(points_per_side), shapes.facet_points(points_per_side)
    if inside.gradients is None:
        raise ValueError("cells without gradients")
    eye = torch.eye(len(physics.components), dtype=shapes.nodes.dtype, device=shapes.nodes.device)
    gradients = torch.einsum("beqnd,fc->beqnfcd", inside.gradients, eye).flatten(3, 4)
    flux = flux_of_gradients(physics, shapes, inside, gradients)
    stiffness = torch.einsum("beqfcd,beqgcd,beq->befg", flux, gradients, inside.weights)
    source = torch.einsum("qn,beqc,beq->benc", inside.values, inside.interpolate(shapes.source), inside.weights)
    film = torch.einsum("qm,qn,bkq,bk->bkmn", around.values, around.values, around.weights, shapes.robin)
    of_film = torch.einsum("bkmn,cd->bkmcnd", film, eye).flatten(4, 5).flatten(2, 3)
    flux_in = torch.einsum("qm,bkqc,bkq->bkmc", around.values, shapes.flux_at(around), around.weights)
    return (
        ElementArrays(shapes.cells, stiffness, source.flatten(2)),
        ElementArrays(shapes.facets, of_film, flux_in.flatten(2)),
    )


def flux_of_gradients(physics: LinearPhysics, shapes: Shapes, inside: Points, gradients: Tensor) -> Tensor:
    """(B, E, Q, F, c, d) fluxes of fields with these gradients."""
    fixed = {c.name: constant(c.default) for c in physics.physics.coefficients}
    given = dict(zip(physics.parameters, shapes.parameters.unbind(-1), strict=True))
    varying = {name: _held(value[:, None, None, None]) for name, value in given.items()}
    space = FieldSpace(physics.components, fixed | {physics.stiffness: constant(1.0)} | varying)
    fields = {
        name: Component(partial(_unknown, name), partial(torch.unbind, gradients[..., index, :], -1))
        for index, name in enumerate(physics.components)
    }
    quantities = Quantities(torch, space, inside.points[..., None, :].unbind(-1), fields)
    flux: Mapping[str, Sequence[Tensor]] = physics.physics.flux(torch, quantities)
    return torch.stack([torch.stack(list(flux[name]), -1) for name in physics.components], -2)


def _held(value: Tensor) -> Function:
    return lambda ops, q: value


def _unknown(name: str) -> Tensor:
    raise ValueError(f"the flux asks for '{name}' itself; an operator for all shapes needs one of the gradients alone")


def solve(system: System) -> Tensor:
    """(B, K) amplitudes x with A x = b; fields that hardly stand out of the span of others are damped."""
    scaled, load, size = _scaled(system)
    damped = scaled + _least(scaled) * torch.eye(scaled.shape[-1], dtype=scaled.dtype, device=scaled.device)
    return torch.linalg.solve(damped, load) / size


def gain(system: System) -> Tensor:
    """(B,) b . x: twice the energy that the best field of the span has less than the lifting.

    By Gauss's elimination, written out: torch's own asks the device for numbers, which a CUDA graph must not. In
    double precision, and damped by more than the rounding of the entries, or dependent fields let it grow.
    """
    matrix, load, _ = _scaled(system)
    least, total = _least(matrix), torch.zeros_like(load[:, 0], dtype=torch.float64)
    matrix, load = matrix.double(), load.double()
    for _ in range(matrix.shape[-1]):
        pivot = matrix[:, 0, 0].clamp_min(0.0) + least
        row, first = matrix[:, 0, 1:], load[:, 0]
        total = total + first.square() / pivot
        share = row / pivot[:, None]
        matrix = matrix[:, 1:, 1:] - share[:, :, None] * row[:, None, :]
        load = load[:, 1:] - share * first[:, None]
    return total.to(system.load)


def _scaled(system: System) -> tuple[Tensor, Tensor, Tensor]:
    """Matrix and load of the fields scaled to energy one, and (B, K) their sizes."""
    size = system.matrix.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(system.matrix.dtype).tiny).sqrt()
    return system.matrix / (size[:, :, None] * size[:, None, :]), system.load / size, size


def _least(like: Tensor) -> float:
    """Share of its energy by which a field has to stand out of the span of the others: above the rounding."""
    return 1e-4 if like.dtype == torch.float32 else 1e-10


def energy_error(system: System, exact: Tensor) -> Tensor:
    """(B,) errors in the energy norm of the best fields, relative to the square root of a(G, G) + ``exact``.

    Args:
        system: of the fields.
        exact: (B,) gain of the finite-element solution on the same mesh.
    """
    return ((exact - gain(system)).clamp_min(0.0) / (exact + system.lifting_matrix)).sqrt()
