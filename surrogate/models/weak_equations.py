"""The weak form of a boundary-value problem on a moved mesh in torch, tested with and solved in spans of nodal fields.

For nodal fields U and a test field V it is R(U; V) = int flux(U) : grad V - source(U) . V - int_boundary natural . V,
that of the finite elements, with the physics' own formulas. In the span G + sum_k x_k Phi_k Newton's method finds x
with R(U; Phi_j) = 0: a Galerkin method, whose error in a functional J is the product of the errors of the state and of
the adjoint in that span, whether the form is symmetric or not (R. Becker, R. Rannacher, Acta Numerica 10 (2001) 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from shapewright.geometries.fields.problem import Problem
from shapewright.geometries.fields.quantities import Component, FieldSpace, Quantities, field_space
from shapewright.geometries.forward_mode import jvp
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints, cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh

STEPS = 20
"""Newton steps at most."""
CONVERGED = 1e-11
"""Residual, relative to that at the start or without any field, at which Newton's method ends."""
KEPT = 0.05
"""Share to which a step has to reduce the residual if the next one is to use its Jacobian again."""
SAME = 1e-7
"""The same if the Jacobian before it is to count as that after it."""


@dataclass(frozen=True)
class FieldsAtPoints:
    """K nodal fields (N, c, K) at P quadrature points, which move with the mesh: they are the same on any nodes.

    Attributes:
        blocks: for each of S values, c of the fields and c d of their derivatives in reference coordinates, the slice
            of the fields that have any, and (P, k) values of these.
        count: K.
    """

    blocks: tuple[tuple[slice, Tensor], ...]
    count: int

    def combined(self, x: Tensor) -> Tensor:
        """(S, P) values of the sum with amplitudes x (K,)."""
        return torch.stack([at @ x[columns] for columns, at in self.blocks])

    def tested(self, density: Tensor) -> Tensor:
        """(K,) sums over points of densities (S, P) times the fields."""
        total = density.new_zeros(self.count)
        for (columns, at), own in zip(self.blocks, density, strict=True):
            total[columns] += own @ at
        return total

    def both(self, slopes: Mapping[tuple[int, int], Tensor]) -> Tensor:
        """(K, K) sums over points of tests times slopes (P,) times fields, by the pair of their values."""
        summed: dict[tuple[int, int, int], Tensor] = {}
        for (s, t), slope in slopes.items():
            columns, at = self.blocks[t]
            key, own = (s, columns.start, columns.stop), slope[:, None] * at
            summed[key] = summed[key].add_(own) if key in summed else own
        total = torch.zeros(self.count, self.count, dtype=self.blocks[0][1].dtype)
        for (s, start, stop), moved in summed.items():
            rows, tests = self.blocks[s]
            total[rows, start:stop] += tests.T @ moved
        return total


def values_at_points(problem: Problem, mesh: Mesh, fields: Tensor) -> list[Tensor]:
    """(S, P, K) of nodal fields (N, c, K) in the cells, then (c, P, K) on each region with natural conditions.

    In cells S is c values, then c d derivatives in reference coordinates: none of it knows where the nodes are.
    """
    reference = fields.new_tensor(mesh.nodes)
    cells = cell_points(mesh, reference)
    local = fields[cells.cells]
    values = torch.einsum("qi,mick->cmqk", cells.values, local)
    derivatives = torch.einsum("qij,mick->cjmqk", cells.gradients, local)
    found = [torch.cat([values, derivatives.flatten(0, 1)]).flatten(1, 2)]
    for tag in dict.fromkeys(condition.tag for condition in problem.natural):
        facets = facet_points(mesh, reference, tag)
        found.append(torch.einsum("qi,fick->cfqk", facets.values, fields[facets.facets]).flatten(1, 2))
    return found


def fields_at_points(problem: Problem, mesh: Mesh, fields: Tensor) -> list[FieldsAtPoints]:
    """Nodal fields (N, c, K) in the cells and on the regions with natural conditions, on whatever nodes."""
    return [FieldsAtPoints(_blocks(at), fields.shape[-1]) for at in values_at_points(problem, mesh, fields)]


def _blocks(at: Tensor) -> tuple[tuple[slice, Tensor], ...]:
    """Of values (S, P, K) those columns, from the first to the last, that are not zero."""
    found = []
    for own in at:
        used = torch.nonzero(own.abs().amax(0))[:, 0]
        columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
        found.append((columns, own[:, columns].contiguous()))
    return tuple(found)


@dataclass(frozen=True)
class SpanAtPoints:
    """A span in cells or on a region.

    Attributes:
        density: of S values at the points (S, P) to the (S, P) that those of a test are multiplied by.
        weights: (P,) of the points.
        lifting: (S, P) of the fields with the prescribed values.
        basis: of the fields, which are the tests.
    """

    density: Callable[[Tensor], Tensor]
    weights: Tensor
    lifting: Tensor
    basis: FieldsAtPoints

    def residual(self, x: Tensor) -> Tensor:
        """(K,) integrals of the density, at amplitudes x (K,), times the tests."""
        return self.basis.tested(self.density(self.lifting + self.basis.combined(x)) * self.weights)

    def jacobian(self, x: Tensor) -> Tensor:
        """(K, K) derivative of that by x."""
        state = self.lifting + self.basis.combined(x)
        used = [t for t, (columns, _) in enumerate(self.basis.blocks) if columns.stop > columns.start]
        every = torch.eye(len(state), dtype=state.dtype)[used, :, None].expand(-1, *state.shape)
        moved = torch.func.vmap(lambda direction: jvp(self.density, (state,), (direction,))[1])(every) * self.weights
        pairs = torch.nonzero(moved.abs().amax(-1)).tolist()
        slopes = {(s, used[t]): moved[t, s] for t, s in pairs}
        return self.basis.both(slopes)


@dataclass(frozen=True)
class WeakEquations:
    """Of a problem on a mesh with nodes (N, d); c components.

    Raises:
        KeyError: a formula asks for what is not known where it is evaluated.
    """

    problem: Problem
    mesh: Mesh
    nodes: Tensor

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the field components."""
        return self.problem.physics.components

    @cached_property
    def space(self) -> FieldSpace:
        """What the formulas may ask for."""
        return field_space(self.problem)

    @cached_property
    def cells(self) -> CellPoints:
        """Quadrature inside."""
        return cell_points(self.mesh, self.nodes)

    @cached_property
    def regions(self) -> Mapping[str, FacetPoints]:
        """Quadrature on the regions with natural conditions."""
        tags = dict.fromkeys(condition.tag for condition in self.problem.natural)
        return {tag: facet_points(self.mesh, self.nodes, tag) for tag in tags}

    def residual(self, state: Tensor, test: Tensor) -> Tensor:
        """(J,) residuals of nodal fields (N, c) against tests (N, c, J)."""
        every = torch.cat([state[..., None], test], -1)
        found = []
        points = values_at_points(self.problem, self.mesh, every)
        for (density, weights), at in zip(self._densities, points, strict=True):
            found.append(torch.einsum("sp,spj->j", density(at[..., 0]) * weights, at[..., 1:]))
        return torch.stack(found).sum(0)

    def solve(self, lifting: Tensor, basis: Sequence[FieldsAtPoints], start: Tensor) -> tuple[Tensor, Tensor] | None:
        """Amplitudes (K,) of fields of a span, and the Jacobian (K, K) there; None without convergence.

        Args:
            lifting: (N, c) fields with the prescribed values.
            basis: of the fields, which vanish where their components are prescribed: :func:`fields_at_points`.
            start: (K,) amplitudes to begin with.
        """
        held = values_at_points(self.problem, self.mesh, lifting[..., None])
        parts = [
            SpanAtPoints(density, weights, at[..., 0], fields)
            for (density, weights), at, fields in zip(self._densities, held, basis, strict=True)
        ]

        def residual(x: Tensor) -> Tensor:
            return torch.stack([part.residual(x) for part in parts]).sum(0)

        def jacobian(x: Tensor) -> Tensor:
            return torch.stack([part.jacobian(x) for part in parts]).sum(0)

        x, missed = start, residual(start)
        size = first = float(missed.norm())
        small = CONVERGED * max(first, float(residual(torch.zeros_like(start)).norm()))
        slope, changed = jacobian(x), 0.0  # and by what share, about, it has changed since
        for _ in range(STEPS):
            step, info = torch.linalg.solve_ex(slope, missed)
            if int(info) or not bool(step.isfinite().all()):
                return None
            x, last = x - step, size
            missed = residual(x)
            size = float(missed.norm())
            changed += size / last if last > small else 0.0
            if size <= small:
                return x, slope if changed <= SAME else jacobian(x)
            if size > KEPT * last:
                slope, changed = jacobian(x), 0.0
        return None

    @property
    def _densities(self) -> list[tuple[Callable[[Tensor], Tensor], Tensor]]:
        """Of cells, then of the regions with natural conditions, and the (P,) weights of the points."""
        found: list[tuple[Callable[[Tensor], Tensor], Tensor]] = [(self._density, self.cells.weights.flatten())]
        return found + [(partial(self._load, tag), -f.weights.flatten()) for tag, f in self.regions.items()]

    def _density(self, at: Tensor) -> Tensor:
        """(c + c d, M Q): less the sources, by which values of tests are multiplied, then the fluxes, of derivatives.

        Derivatives are those in reference coordinates.
        """
        count, shape, inverse = len(self.components), self.cells.weights.shape, self.cells.inverse_jacobian
        values, reference = at[:count].unflatten(-1, shape), at[count:].unflatten(-1, shape).unflatten(0, (count, -1))
        slopes = torch.einsum("ckmq,mqkd->cdmq", reference, inverse)
        q = self._quantities(self.cells, values, slopes)
        physics, zero = self.problem.physics, torch.zeros_like(values[0])
        fluxes, sources = physics.flux(torch, q), dict(physics.source(torch, q))
        for component, function in self.problem.sources.items():
            sources[component] = sources.get(component, 0.0) + function(torch, q)
        produced = torch.stack([zero - sources.get(c, 0.0) for c in self.components])
        still = (0.0,) * self.nodes.shape[-1]
        through = torch.stack([zero + part for c in self.components for part in fluxes.get(c, still)])
        pulled = torch.einsum("cdmq,mqkd->ckmq", through.unflatten(0, (count, -1)), inverse)
        return torch.cat([produced, pulled.flatten(0, 1)]).flatten(1)

    def _load(self, tag: str, values: Tensor) -> Tensor:
        """(c, F Q) natural fluxes on a region, from the values of the fields."""
        facets = self.regions[tag]
        values = values.unflatten(-1, facets.weights.shape)
        q = self._quantities(facets, values, None)
        total = dict.fromkeys(self.components, torch.zeros_like(values[0]))
        for condition in self.problem.natural:
            if condition.tag == tag:
                total[condition.component] = total[condition.component] + condition.value(torch, q)
        return torch.stack(list(total.values())).flatten(1)

    def _quantities(self, points: CellPoints | FacetPoints, values: Tensor, slopes: Tensor | None) -> Quantities:
        fields = {
            name: Component(partial(_item, values, k), partial(_items, slopes, k))
            for k, name in enumerate(self.components)
        }
        normal = points.normals.unbind(-1) if isinstance(points, FacetPoints) else ()
        return Quantities(torch, self.space, points.points.unbind(-1), fields, normal)


def _item(values: Tensor, index: int) -> Tensor:
    return values[index]


def _items(slopes: Tensor | None, index: int) -> tuple[Tensor, ...]:
    if slopes is None:
        raise KeyError("derivatives of the fields in a natural condition")
    return slopes[index].unbind(0)
