"""An operator for all shapes as the model of a study: no samples, no training.

A design of the study becomes a dimensionless problem on its mapped mesh; the operator gives fields, and the solution is
the best in their span. Functionals are evaluated on the study's own mesh in double precision. Two forms of the
gradient: ``lagrangian`` differentiates all but the operator, whose nodal fields are held (for a self-adjoint objective
this is the derivative of J + R at the predicted state and adjoint); ``through_operator`` differentiates it too.

Finite-element solutions of other designs of the study join the span, carried along with the nodes of the mesh: there
the model is exact, and between them it is a reduced basis (A. Quarteroni, A. Manzoni, F. Negri, *Reduced Basis Methods
for Partial Differential Equations* (2016), chapter 3) that the operator completes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shapewright.geometries.design.dirichlet_lift import DirichletLift, Prescribed, build_dirichlet_lift
from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Function, Natural, Problem
from shapewright.geometries.fields.quantities import Component, Quantities, positions
from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.jacobians import area_vectors
from shapewright.geometries.mesh.simplex import SIMPLICES
from shapewright.studies.problem.linear_physics import PHYSICS, PHYSICS_OF
from shapewright.studies.problem.models import Array, designs_of, no_answers, unfolded
from shapewright.studies.problem.setup import Setup
from shapewright.studies.schema.loader import StudyError
from shapewright.surrogate.mgno.latent_grid import OutsideGridError
from shapewright.surrogate.models.functionals import integrate_all
from shapewright.surrogate.models.galerkin import LinearPhysics, assemble, solve
from shapewright.surrogate.models.point_quantities import at_points
from shapewright.surrogate.models.shape_descriptors import describe, novelty
from shapewright.surrogate.models.shape_operator import ShapeOperator
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard, load_shape_operator
from shapewright.surrogate.models.shapes import Frame, Shapes, dimensionless
from shapewright.surrogate.models.weights_file import SurrogateFileError

GradientForm = Literal["lagrangian", "through_operator"]
FOLDER = Path(__file__).resolve().parents[1] / "operators"
OPERATORS = {"poisson_2d": FOLDER / "poisson_2d.safetensors"}
"""Shipped operators."""
AT_ONCE = 4
"""Designs evaluated together."""
LAST = 12
"""Solutions of the study that join the span, at most: the last ones."""


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

    def shapes(self, nodes: Tensor) -> tuple[Shapes, Tensor]:
        """Problems on the mesh with nodes (B, N, 2), in the study's units, and (B,) stiffness."""
        problem, mesh, count = self.setup.problem, self.setup.shape_map.mesh, len(nodes)
        components = problem.physics.components
        stiffness, ratio = 1.0, []
        if problem.physics.name == "poisson":
            stiffness = self.coefficient("conductivity")
        else:
            stiffness, nu = self.coefficient("youngs_modulus"), self.coefficient("poisson_ratio")
            if self.plane_strain:
                stiffness, nu = stiffness / (1 - nu**2), nu / (1 - nu)
            ratio = [nu]
        values = {(d.component, d.tag): partial(at_points, d.value, parameters={}) for d in problem.dirichlet}
        lifting = self.lift.lifting(nodes, values)

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

        def at(*state: float) -> Tensor:
            fields = {c: torch.full_like(points[..., 0], v) for c, v in zip(components, state, strict=False)}
            return self._at(condition.value, points, {**normal, **fields})

        unit = [float(k == component) for k in range(len(components))]
        value = at(*[0.0] * len(components))
        film = value - at(*unit)
        for state in ((0.7, -1.3), (-2.0, 0.4)):
            rest = (at(*state) - value + film * state[component]).detach().abs().max()
            if bool(rest > 1e-9 * (value.detach().abs().max() + film.detach().abs().max())):
                raise ValueError(f"the condition of '{condition.component}' on '{condition.tag}' is not linear in it")
        return value, film


def _value(value: Tensor) -> Tensor:
    return value


def _no_slope() -> tuple[Tensor, ...]:
    raise ValueError("a natural condition that depends on derivatives of the fields")


@dataclass(frozen=True)
class OperatorModel:
    """The operator as a model of all functionals of a study; see :class:`models.Model`."""

    setup: Setup
    network: ShapeOperator | None
    gradient: GradientForm = "lagrangian"
    solutions: Callable[[], Sequence[Tensor]] = tuple
    """(N, c) finite-element solutions of designs of the study so far, in its units."""

    @cached_property
    def problem(self) -> ProblemOnMesh:
        """The study's problem as arrays."""
        return ProblemOnMesh(self.setup)

    def evaluate(self, theta: ArrayLike) -> tuple[Array, Array]:
        """See :class:`models.Model`."""
        theta = designs_of(self.setup, theta)
        values, gradients = no_answers(self.setup, theta)
        good = np.flatnonzero(unfolded(self.setup, torch.from_numpy(theta)))
        for part in np.array_split(good, max(1, -(-len(good) // AT_ONCE))):
            if len(part):
                values[part], gradients[part] = self._functionals(theta[part])
        return values, gradients

    def fields(self, theta: Tensor) -> Tensor:
        """(N, c) fields of one design (P,), float64."""
        with torch.no_grad():
            return self._solution(self.setup.shape_map.nodes(theta[None]))[0]

    def _functionals(self, theta: Array) -> tuple[Array, Array]:
        designs = torch.from_numpy(theta).requires_grad_()
        try:
            values, gradients = self._through(designs) if self.gradient == "through_operator" else self._held(designs)
        except OutsideGridError:
            if len(theta) == 1:
                return no_answers(self.setup, theta)
            alone = [self._functionals(design[None]) for design in theta]  # the others do have an answer
            return np.concatenate([a[0] for a in alone]), np.concatenate([a[1] for a in alone])
        return values.detach().numpy(), torch.stack(gradients, 1).numpy()

    def _through(self, designs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, J) values, and J gradients (B, P) of all that they depend on."""
        nodes = self.setup.shape_map.nodes(designs)
        values = self._integrals(nodes, self._solution(nodes))
        return values, [_gradient(values[:, j].sum(), designs) for j in range(values.shape[1])]

    def _held(self, designs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same with the fields held at the nodes, by the adjoint y of the amplitudes x.

        With A x = b and A y = -dJ/dx, the gradient is that of J + y . (A x - b) with x and y held.
        """
        nodes = self.setup.shape_map.nodes(designs)
        shapes, frame = dimensionless(*self.problem.shapes(nodes))
        with torch.no_grad():
            basis = self._span(shapes, frame)
            system = assemble(self.problem.physics, shapes, basis)
        x = solve(system).requires_grad_()
        values, gradients = self._integrals(nodes, _combined(shapes, frame, basis, x)), []
        for j in range(values.shape[1]):
            by_x, direct = torch.autograd.grad(values[:, j].sum(), (x, designs), retain_graph=True)
            y = -solve(replace(system, load=by_x))
            both = torch.einsum("bnck,bkf->bncf", basis, torch.stack([x.detach(), y], -1))
            pair = assemble(self.problem.physics, shapes, both)
            gradients.append(direct + _gradient((pair.matrix[:, 0, 1] - pair.load[:, 1]).sum(), designs))
        return values, gradients

    def _integrals(self, nodes: Tensor, fields: Tensor) -> Tensor:
        """(B, J) functionals."""
        setup = self.setup
        return integrate_all(setup.problem.functionals, setup.space, setup.shape_map.mesh, nodes, fields)

    def _solution(self, nodes: Tensor) -> Tensor:
        """(B, N, c) fields in the study's units for nodes (B, N, 2)."""
        shapes, frame = dimensionless(*self.problem.shapes(nodes))
        basis = self._span(shapes, frame)
        return _combined(shapes, frame, basis, solve(assemble(self.problem.physics, shapes, basis)))

    def _span(self, shapes: Shapes, frame: Frame) -> Tensor:
        """(B, N, c, K + S) fields of the operator, then solutions of the study."""
        return torch.cat([self._basis(shapes), self._known(shapes, frame)], -1)

    def _known(self, shapes: Shapes, frame: Frame) -> Tensor:
        """(B, N, c, S) last solutions less the liftings, held at the nodes; zero where a component is prescribed."""
        last = [solution.to(shapes.nodes) for solution in self.solutions()[-LAST:]]
        if not last:
            return shapes.nodes.new_zeros(*shapes.factor.shape, 0)
        load, free = frame.load.detach()[:, None, None], (shapes.factor != 0).to(shapes.nodes)
        return torch.stack([(one / load - shapes.lifting.detach()) * free for one in last], -1)

    def _basis(self, shapes: Shapes) -> Tensor:
        """(B, N, c, K) fields of the operator, none without one."""
        if self.network is None:
            return shapes.nodes.new_zeros(*shapes.factor.shape, 0)
        like = next(self.network.parameters())
        with torch.set_grad_enabled(self.gradient == "through_operator" and torch.is_grad_enabled()):
            return self.network.basis(shapes.to(like)).to(shapes.nodes)


def _combined(shapes: Shapes, frame: Frame, basis: Tensor, x: Tensor) -> Tensor:
    """(B, N, c) lifting and fields with amplitudes x (B, K), in the study's units."""
    return (shapes.lifting + torch.einsum("bnck,bk->bnc", basis, x)) * frame.load[:, None, None]


def _gradient(value: Tensor, designs: Tensor) -> Tensor:
    return torch.autograd.grad(value, designs, retain_graph=True)[0]


def load_operator_for(setup: Setup, name: str) -> tuple[ShapeOperator, ShapeOperatorCard]:
    """A shipped operator by its name, or that of a file, relative to the study's folder.

    Raises:
        StudyError: there is none, or its file cannot be read.
    """
    path = OPERATORS.get(name, setup.study.folder / name)
    if name not in OPERATORS and path.suffix != ".safetensors":
        raise setup.study.error("model.operator", f"'{name}'", f"{', '.join(OPERATORS)}, or a .safetensors file")
    if not path.is_file():
        raise setup.study.error("model.operator", f"'{name}', but no file {path}", "an operator that is there")
    try:
        return load_shape_operator(path, PHYSICS)
    except SurrogateFileError as error:
        raise StudyError(f"{setup.study.location('model.operator')}: model.operator: {error}") from error


def reduced_basis(setup: Setup, solutions: Callable[[], Sequence[Tensor]]) -> OperatorModel | None:
    """The model of a study in the span of its own finite-element solutions; None where it is no linear problem."""
    linear = any(setup.problem.physics.name in served for served in PHYSICS_OF.values())
    if not linear or not isinstance(linear_problem(setup, "a reduced basis"), Shapes):
        return None
    return OperatorModel(setup, None, solutions=solutions)


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


def unfit(setup: Setup, card: ShapeOperatorCard) -> list[str]:
    """Why a study lies outside what an operator was made for, with what is allowed; empty where it does not."""
    served = PHYSICS_OF[card.operator]
    if setup.problem.physics.name not in served:
        name = setup.problem.physics.name
        return [f"physics is '{name}'; operator {card.operator} serves {', '.join(served)}"]
    shapes = linear_problem(setup, f"operator {card.operator}")
    if not isinstance(shapes, Shapes):
        return shapes
    found = []
    for name, value in zip(card.parameters, shapes.parameters[0].tolist(), strict=True):
        low, high = card.parameters[name]
        if not low <= value <= high:
            found.append(f"{name} (in plane stress) is {value:.4g}; operator {card.operator} knows [{low:g}, {high:g}]")
    if bool((shapes.robin < 0).any()):
        found.append("a Robin condition has a negative coefficient; allowed are those that cool")
    if bool((shapes.robin > 0).any()) and card.limits["cooled share of the boundary"][1] == 0:
        found.append(f"a Robin condition is given; operator {card.operator} knows none")
    return found


def operator_novelty(setup: Setup, card: ShapeOperatorCard, theta: Tensor) -> dict[str, float]:
    """Descriptor -> by how much of the population's range the design theta (P,) lies outside it."""
    shapes, _ = dimensionless(*ProblemOnMesh(setup).shapes(setup.shape_map.nodes(theta[None])))
    return novelty(describe(shapes)[0], card.limits)
