"""The weak form of a boundary-value problem on a moved mesh in torch, tested with and solved in spans of nodal fields.

For nodal fields U and a test field V it is R(U; V) = int flux(U) : grad V - source(U) . V - int_boundary natural . V,
that of the finite elements, with the physics' own formulas. In the span G + sum_k x_k Phi_k Newton's method finds x
with R(U; Phi_j) = 0: a Galerkin method, whose error in a functional J is the product of the errors of the state and of
the adjoint in that span, whether the form is symmetric or not (R. Becker, R. Rannacher, Acta Numerica 10 (2001) 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
class SpanAtPoints:
    """K fields of a span at P quadrature points, with their S values and derivatives that the equations know.

    Attributes:
        density: of S values at the points (S, P) to the (S, P) that those of a test are multiplied by.
        weights: (P,) of the points.
        lifting: (S, P) of the fields with the prescribed values.
        basis: (S, P, K) of the fields, which are the tests.
    """

    density: Callable[[Tensor], Tensor]
    weights: Tensor
    lifting: Tensor
    basis: Tensor

    def residual(self, x: Tensor) -> Tensor:
        """(K,) integrals of the density, at amplitudes x (K,), times the tests."""
        inner = self.density(self.lifting + self.basis @ x) * self.weights
        return inner.flatten() @ self.basis.flatten(0, 1)

    def jacobian(self, x: Tensor) -> Tensor:
        """(K, K) derivative of that by x."""
        state = self.lifting + self.basis @ x
        moved: dict[int, Tensor] = {}
        for t in range(len(state)):
            if not bool(self.basis[t].any()):
                continue
            direction = torch.zeros_like(state)
            direction[t] = 1.0
            slopes = jvp(self.density, (state,), (direction,))[1] * self.weights
            for s in torch.nonzero(slopes.abs().amax(1))[:, 0].tolist():
                by_state = slopes[s, :, None] * self.basis[t]
                moved[s] = moved[s].add_(by_state) if s in moved else by_state
        total = state.new_zeros(len(x), len(x))
        for s, columns in moved.items():
            total.addmm_(self.basis[s].T, columns)
        return total


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
        parts = self.parts(state, test)
        return torch.stack([part.residual(state.new_zeros(test.shape[-1])) for part in parts]).sum(0)

    def parts(self, lifting: Tensor, basis: Tensor) -> list[SpanAtPoints]:
        """What integrals over cells and regions need of nodal fields (N, c), and of (N, c, K) that are the tests."""
        every = torch.cat([lifting[..., None], basis], -1)
        at = self._inside(every).flatten(1, 2)
        found = [SpanAtPoints(self._density, self.cells.weights.flatten(), at[..., 0], at[..., 1:].contiguous())]
        for tag, facets in self.regions.items():
            on = torch.einsum("qi,fick->cfqk", facets.values, every[facets.facets]).flatten(1, 2)
            load = partial(self._load, tag)
            found.append(SpanAtPoints(load, -facets.weights.flatten(), on[..., 0], on[..., 1:].contiguous()))
        return found

    def solve(self, lifting: Tensor, basis: Tensor, start: Tensor) -> tuple[Tensor, Tensor] | None:
        """Amplitudes (K,) of fields (N, c, K), and the Jacobian (K, K) there; None without convergence.

        Args:
            lifting: (N, c) fields with the prescribed values.
            basis: fields that vanish where their components are prescribed.
            start: (K,) amplitudes to begin with.
        """
        parts = self.parts(lifting, basis)

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

    def _inside(self, fields: Tensor) -> Tensor:
        """(c + c d, M, Q, K) values, then gradients, of nodal fields (N, c, K) in the cells."""
        cells = self.cells
        local = fields[cells.cells]
        values = torch.einsum("qi,mick->cmqk", cells.values, local)
        slopes = torch.einsum("qij,mqjd->mqid", cells.gradients, cells.inverse_jacobian)
        gradients = torch.einsum("mqid,mick->cdmqk", slopes, local)
        return torch.cat([values, gradients.flatten(0, 1)])

    def _density(self, at: Tensor) -> Tensor:
        """(c + c d, M Q): less the sources, by which values of tests are multiplied, then the fluxes, of gradients."""
        count, shape = len(self.components), self.cells.weights.shape
        values, slopes = at[:count].unflatten(-1, shape), at[count:].unflatten(-1, shape)
        q = self._quantities(self.cells, values, slopes.unflatten(0, (count, -1)))
        physics, zero = self.problem.physics, torch.zeros_like(values[0])
        fluxes, sources = physics.flux(torch, q), dict(physics.source(torch, q))
        for component, function in self.problem.sources.items():
            sources[component] = sources.get(component, 0.0) + function(torch, q)
        produced = [zero - sources.get(c, 0.0) for c in self.components]
        still = (0.0,) * self.nodes.shape[-1]
        through = [zero + part for c in self.components for part in fluxes.get(c, still)]
        return torch.stack([*produced, *through]).flatten(1)

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
