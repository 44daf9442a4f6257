"""A study's linear boundary-value problem as arrays on its mapped mesh: what an operator or a reduced basis sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.design.dirichlet_lift import DirichletLift, Prescribed, build_dirichlet_lift
from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Function, Natural, Problem
from shapewright.geometries.fields.quantities import Component, Quantities, positions
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.jacobians import area_vectors
from shapewright.geometries.mesh.simplex import SIMPLICES
from shapewright.studies.problem.linear_physics import PHYSICS, PHYSICS_OF
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.models.galerkin import LinearPhysics
from shapewright.surrogate.models.point_quantities import at_points
from shapewright.surrogate.models.shapes import Shapes, dimensionless
from shapewright.surrogate.models.sparse_solution import Pattern, pattern_of


@dataclass(frozen=True)
class ProblemOnMesh:
    """A study's boundary-value problem as arrays on its mapped mesh."""

    setup: Setup

    @cached_property
    def lift(self) -> DirichletLift:
        """Factors and liftings of the prescribed values."""
        problem = self.setup.problem
        tags = {c: tuple(d.tag for d in problem.dirichlet if d.component == c) for c in problem.physics.components}
        prescribed = [Prescribed(component, tuple(dict.fromkeys(on))) for component, on in tags.items() if on]
        return build_dirichlet_lift(self.setup.shape_map, problem.physics.components, prescribed)

    @property
    def physics(self) -> LinearPhysics:
        """Of the operators that serve the study."""
        name = self.setup.problem.physics.name
        return next(PHYSICS[operator] for operator, served in PHYSICS_OF.items() if name in served)

    @property
    def plane_strain(self) -> bool:
        """Whether Hooke's law is that of plane strain, which is that of plane stress with other numbers."""
        return self.setup.problem.physics.name == "plane_strain"

    def coefficient(self, name: str) -> float:
        """Value of a constant coefficient; ValueError if it varies in space."""
        problem = self.setup.problem
        default = next(c.default for c in problem.physics.coefficients if c.name == name)
        if name not in problem.coefficients:
            return default
        at = torch.rand(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        try:
            value = problem.coefficients[name](torch, positions(at) | dict(problem.parameters))
        except KeyError as error:
            raise ValueError(f"coefficient '{name}' depends on {error.args[0]}") from error
        values = torch.as_tensor(value, dtype=torch.float64).expand(8)
        if not bool((values == values[0]).all()):
            raise ValueError(f"coefficient '{name}' varies in space")
        return float(values[0])

    @cached_property
    def _linear_ones(self) -> list[Natural]:
        """Natural conditions that were found linear."""
        return []

    @cached_property
    def free(self) -> Tensor:
        """(N, c) one where a component is not prescribed, zero where it is."""
        return (self.lift.factor != 0).double()

    @cached_property
    def pattern(self) -> Pattern:
        """Of the matrix of the equations."""
        return pattern_of(self.shapes(self.setup.shape_map.reference_nodes[None])[0])

    def lifting(self, nodes: Tensor) -> Tensor:
        """(B, N, c) fields with the prescribed values for nodes (B, N, 2)."""
        given = self.setup.problem.dirichlet
        return self.lift.lifting(
            nodes, {(d.component, d.tag): partial(at_points, d.value, parameters={}) for d in given}
        )

    def unit_shapes(self, nodes: Tensor) -> Shapes:
        """Problems on the mesh with nodes (B, N, 2), their data divided by the stiffness."""
        shapes, stiffness = self.shapes(nodes)
        factor = 1 / stiffness[:, None, None]
        return replace(
            shapes,
            source=shapes.source * factor,
            flux=shapes.flux * factor[..., None],
            robin=shapes.robin * factor[..., 0],
        )

    def shapes(self, nodes: Tensor) -> tuple[Shapes, Tensor]:
        """Problems on the mesh with nodes (B, N, 2), in the study's units, and (B,) stiffness."""
        problem, mesh, count = self.setup.problem, self.setup.shape_map.mesh, len(nodes)
        components = problem.physics.components
        stiffness, ratio = 1.0, []
        if problem.physics.name == "poisson":
            stiffness = self.coefficient("conductivity")
        elif "p" in components:
            stiffness = self.coefficient("viscosity")
        else:
            stiffness, nu = self.coefficient("youngs_modulus"), self.coefficient("poisson_ratio")
            if self.plane_strain:
                stiffness, nu = stiffness / (1 - nu**2), nu / (1 - nu)
            ratio = [nu]
        lifting = self.lifting(nodes)

        def each(array: Any) -> Tensor:
            return constant(array, nodes, torch.int64).expand(count, *array.shape)

        held = np.zeros((len(mesh.facets), len(components)))
        for d in problem.dirichlet:
            held[mesh.facet_tags == mesh.tag_names.index(d.tag), components.index(d.component)] = 1.0
        source = [self._source(nodes, component) for component in components]
        flux, robin = self._natural(nodes)
        return Shapes(
            nodes=nodes,
            cells=each(mesh.cells),
            cell_mask=nodes.new_ones(count, len(mesh.cells)),
            facets=each(mesh.facets),
            facet_mask=nodes.new_ones(count, len(mesh.facets)),
            factor=self.lift.factor.to(nodes).expand(count, -1, -1),
            lifting=lifting,
            prescribed=constant(held, nodes).expand(count, -1, -1),
            source=torch.stack(source, -1),
            flux=flux,
            robin=robin,
            parameters=nodes.new_tensor(ratio).expand(count, -1),
        ), nodes.new_full((count,), stiffness)

    def _source(self, nodes: Tensor, component: str) -> Tensor:
        function = self.setup.problem.sources.get(component)
        return torch.zeros_like(nodes[..., 0]) if function is None else self._at(function, nodes, {})

    def _at(self, function: Function, points: Tensor, known: Mapping[str, Tensor]) -> Tensor:
        space = self.setup.space
        fields = {name: Component(partial(_value, value), _no_slope) for name, value in known.items()
                  if name in space.components}
        normal = [known[name] for name in names.normal(2)] if names.normal(2)[0] in known else []
        q = Quantities(torch, space, points.unbind(-1), fields, normal)
        return torch.as_tensor(function(torch, q), dtype=points.dtype).expand(points.shape[:-1])

    def _natural(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Fluxes (B, K, 3, c) at the nodes of the facets, at u = 0, and Robin coefficients (B, K).

        Raises:
            ValueError: a Robin condition that is not -h times its own component, with one h for all components.
        """
        problem, mesh = self.setup.problem, self.setup.shape_map.mesh
        components = problem.physics.components
        flux = nodes.new_zeros(len(nodes), *mesh.facets.shape, len(components))
        robin = nodes.new_zeros(len(nodes), len(mesh.facets), len(components))
        side = SIMPLICES[1]
        for condition in problem.natural:
            index = np.flatnonzero(mesh.facet_tags == mesh.tag_names.index(condition.tag))
            points = nodes[:, torch.from_numpy(mesh.facets[index])]
            tangents = torch.einsum("qmj,bkmd->bkqdj", constant(side.shape_gradients(side.nodes), nodes), points)
            area = area_vectors(tangents)
            normal = dict(zip(names.normal(2), (area / area.norm(dim=-1, keepdim=True)).unbind(-1), strict=True))
            c = components.index(condition.component)
            value, film = self._linear(condition, points, normal, c)
            flux[:, index, :, c] = flux[:, index, :, c] + value
            robin[:, index, c] = robin[:, index, c] + film.mean(-1)
        if bool((robin != robin[..., :1]).any()):
            raise ValueError("Robin conditions of the components differ")
        return flux, robin[..., 0]

    def _linear(
        self, condition: Natural, points: Tensor, normal: Mapping[str, Tensor], component: int
    ) -> tuple[Tensor, Tensor]:
        """Value (B, k, 3) of a natural condition at u = 0, and h of -h times its own component."""
        components = self.setup.problem.physics.components

        def at(state: Tensor) -> Tensor:
            return self._at(condition.value, points, {**normal, **dict(zip(components, state, strict=True))})

        with torch.enable_grad():  # a difference of values would round small springs beside large loads
            zero = points.new_zeros(len(components), *points.shape[:-1]).requires_grad_()
            value, slope = at(zero), torch.zeros_like(zero)
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value.sum(), zero, create_graph=True, materialize_grads=True)
        slope = slope[component]
        if not points.requires_grad:
            value, slope = value.detach(), slope.detach()
        if condition not in self._linear_ones:
            for state in ((0.7, -1.3, 0.4), (-2.0, 0.4, 1.1)):
                own = zero + points.new_tensor(state[: len(zero)])[:, None, None, None]
                rest = (at(own) - value - slope * state[component]).detach().abs().max()
                if bool(rest > 1e-9 * (value.detach().abs().max() + slope.detach().abs().max())):
                    on = f"'{condition.component}' on '{condition.tag}'"
                    raise ValueError(f"the condition of {on} is not linear in it")
            self._linear_ones.append(condition)
        return value, -slope


def _value(value: Tensor) -> Tensor:
    return value


def _no_slope() -> tuple[Tensor, ...]:
    raise ValueError("a natural condition that depends on derivatives of the fields")


def linear_problem(setup: Setup, model: str) -> Shapes | list[str]:
    """The dimensionless problem of the start design, or why ``model`` cannot take it."""
    problem: Problem = setup.problem
    found = []
    for what, entries in (
        ("pins", problem.pins), ("slip", problem.slip), ("load cases", tuple(problem.cases)),
        ("patch loads", problem.patches),
    ):  # fmt: skip
        if entries:
            found.append(f"{what} are given; {model} knows none")
    if found:
        return found
    try:
        nodes = setup.shape_map.nodes(setup.initial[None])
        return dimensionless(*ProblemOnMesh(setup).shapes(nodes))[0]
    except (ValueError, KeyError) as error:
        return [f"{error}; {model} takes constant coefficients and data of the position alone"]
