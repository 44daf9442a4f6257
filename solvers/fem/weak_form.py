"""From a problem to UFL: residual, functionals, and their derivatives by the state and by the mesh nodes.

The discrete Lagrangian is L(u, p, X) = J(u, X) + R(u, p, X), where X are the mesh nodes and u, p dof
vectors. UFL differentiates after the pull-back to the reference cell, so that dof values stay fixed while
nodes move: D. Ham, L. Mitchell, A. Paganini, F. Wechsung, Struct. Multidiscip. Optim. 60 (2019) 1813.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import ufl
from ufl.core.expr import Expr

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Field, Functional, Problem, ProblemError
from shapewright.geometries.fields.vectors import dot
from shapewright.solvers.fem import ufl_ops
from shapewright.solvers.fem.backend import fem
from shapewright.solvers.fem.discretization import Discretization
from shapewright.solvers.fem.jit import compile_form
from shapewright.solvers.fem.patch_load import PatchLoad
from shapewright.solvers.fem.slip import slip_terms


class Quantities(dict[str, Any]):
    """The named quantities of a formula; an unknown name is a ProblemError that lists the known ones."""

    def __missing__(self, name: str) -> Any:
        raise ProblemError(f"unknown quantity '{name}'; known here are {', '.join(self)}")


class CompiledFunctional:
    """The compiled value of a functional and its partial derivatives.

    Attributes:
        value: scalar form; None if the integrand is zero.
        by_state: linear form in the mixed space; None if the functional does not depend on the state.
        by_nodes: linear form in the space of the coordinates; None if the integrand is zero.
    """

    def __init__(self, form: ufl.Form, state: fem.Function, node_space: fem.FunctionSpace) -> None:
        self._form, self._state, self._node_space = form, state, node_space
        self.value: fem.Form | None = None if form.empty() else compile_form(form)

    @cached_property
    def by_state(self) -> fem.Form | None:
        if self.value is None:
            return None
        derivative = ufl.derivative(self._form, self._state)
        expanded = ufl.algorithms.expand_derivatives(derivative)
        return None if expanded.empty() else compile_form(derivative)

    @cached_property
    def by_nodes(self) -> fem.Form | None:
        return None if self.value is None else compile_form(_by_nodes(self._form, ufl.TestFunction(self._node_space)))


class WeakForm:
    """The forms of one problem on one discretization; each is compiled when first used.

    Attributes:
        state: the solution u, a function of the mixed space.
        adjoint: the multiplier p, likewise.
        velocity: nodal velocity of the mesh, a function of the space of the coordinates.
        parameters: the problem's parameters by name; the forms see new values without being compiled again.
        load: factor of sources and natural conditions in the residual, 1 but on the way to a solution.
        walls: factor of what walls do along which the field slips, 1 but to see what the problem is without.
        linear: whether the residual is affine in the state.
        fixed_matrix: whether it is, with a derivative that knows none of the parameters either.
        patches: loads that follow the mesh.
    """

    def __init__(self, problem: Problem, discretization: Discretization, quadrature_degree: int) -> None:
        self._problem, self._discretization = problem, discretization
        mesh, space = discretization.mesh, discretization.space
        rule = {"quadrature_degree": quadrature_degree}
        self._dx = ufl.Measure("dx", mesh, metadata=rule)
        self._ds = ufl.Measure("ds", mesh, subdomain_data=discretization.facet_tags, metadata=rule)
        self.state = fem.Function(space)
        self.adjoint = fem.Function(space)
        self.velocity = fem.Function(discretization.node_space)
        self.parameters = {name: fem.Constant(mesh, float(v)) for name, v in problem.parameters.items()}
        self.load = fem.Constant(mesh, 1.0)
        components = _component_expressions(problem.physics.fields, ufl.TestFunction(space))
        self.patches = tuple(
            PatchLoad(p, discretization, self._on(p.tag), components, self.parameters) for p in problem.patches
        )
        self.walls = fem.Constant(mesh, 1.0)
        self._residual = self._weak_residual()
        self._jacobian = ufl.derivative(self._residual, self.state)
        expanded = ufl.algorithms.expand_derivatives(self._jacobian)
        self.linear: bool = self.state not in expanded.coefficients()
        known = set(self.parameters.values())
        self.fixed_matrix: bool = self.linear and not known & set(expanded.constants())

    @cached_property
    def _interior(self) -> Quantities:
        """The quantities known inside the domain."""
        physics = self._problem.physics
        x = ufl.SpatialCoordinate(self._discretization.mesh)
        axes = names.coordinates(physics.dimension)
        components = _component_expressions(physics.fields, self.state)
        q = Quantities(dict(zip(axes, x, strict=True)), **components, **self.parameters)
        for coefficient in physics.coefficients:
            given = self._problem.coefficients.get(coefficient.name)
            q[coefficient.name] = coefficient.default if given is None else given(ufl_ops, q)
        sources = {
            names.source(c): self._problem.sources[c](ufl_ops, q) if c in self._problem.sources else 0.0
            for c in physics.components
        }
        return Quantities(q, **sources)

    @cached_property
    def _boundary(self) -> Quantities:
        """The quantities known on the boundary."""
        n = ufl.FacetNormal(self._discretization.mesh)
        return Quantities(self._interior, **dict(zip(names.normal(len(n)), n, strict=True)))

    def _lifted(self, tag: str) -> Quantities:
        """The quantities inside the domain and the lifting of a boundary region."""
        space = fem.functionspace(self._discretization.mesh, ("Lagrange", 2))
        lifting = fem.Function(space)
        lifting.x.array[self._discretization.scalar_dofs(space, tag)] = 1.0
        return Quantities(self._interior, **_with_derivatives(names.LIFTING, lifting, ufl.grad(lifting)))

    def _weak_residual(self) -> ufl.Form:
        physics, q = self._problem.physics, self._interior
        test = _component_expressions(physics.fields, ufl.TestFunction(self._discretization.space))
        fluxes = self._known(physics.flux(ufl_ops, q))
        integrand = sum(
            dot(flux, [test[slope] for slope in names.derivatives(c, physics.dimension)]) for c, flux in fluxes.items()
        )
        for component, source in self._known(physics.source(ufl_ops, q)).items():
            integrand -= source * test[component]
        for component in self._problem.sources:
            integrand -= self.load * q[names.source(component)] * test[component]
        residual = integrand * self._dx
        for natural in self._problem.natural:
            flux = natural.value(ufl_ops, self._boundary)
            residual -= self.load * flux * test[natural.component] * self._on(natural.tag)
        for patch in self.patches:
            for component in patch.patch.totals:
                flux = patch.traction(component)
                residual -= self.load * flux * test[component] * self._on(patch.patch.tag)
        if self._problem.slip:
            walls = slip_terms(physics, self._boundary, self.state, test, self.walls)
            residual += walls * self._on(*self._problem.slip)
        return residual

    def _known(self, by_component: Mapping[str, Any]) -> Mapping[str, Any]:
        physics = self._problem.physics
        for component in by_component:
            if component not in physics.components:
                known = ", ".join(physics.components)
                raise ProblemError(f"physics '{physics.name}' has no component '{component}'; it has {known}")
        return by_component

    def _on(self, *tags: str) -> ufl.Measure:
        numbers = tuple(self._discretization.tagged.tag_names.index(tag) for tag in tags)
        return self._ds(numbers if len(numbers) > 1 else numbers[0])

    def functional(self, functional: Functional) -> CompiledFunctional:
        """The compiled functional."""
        if functional.on is not None:
            known, measure = self._boundary, self._on(functional.on)
        else:
            known = self._interior if functional.lifting is None else self._lifted(functional.lifting)
            measure = self._dx
        integrand = ufl.as_ufl(functional.integrand(ufl_ops, known))
        form = ufl.Form([]) if isinstance(integrand, ufl.constantvalue.Zero) else integrand * measure
        return CompiledFunctional(form, self.state, self._discretization.node_space)

    @cached_property
    def residual(self) -> fem.Form:
        """R(u, .), a linear form in the mixed space."""
        return compile_form(self._residual)

    @cached_property
    def jacobian(self) -> fem.Form:
        """dR/du, a bilinear form in the mixed space."""
        return compile_form(self._jacobian)

    @cached_property
    def adjoint_by_nodes(self) -> fem.Form:
        """dR(u, p)/dX, a linear form in the space of the coordinates, with p = ``adjoint``."""
        form = ufl.action(self._residual, self.adjoint)
        return compile_form(_by_nodes(form, ufl.TestFunction(self._discretization.node_space)))

    @cached_property
    def residual_by_velocity(self) -> fem.Form:
        """dR(u, .)/dX applied to ``velocity``, a linear form in the mixed space."""
        return compile_form(_by_nodes(self._residual, self.velocity))


def _by_nodes(form: ufl.Form, direction: Expr) -> ufl.Form:
    return ufl.derivative(form, ufl.SpatialCoordinate(form.ufl_domain()), direction)


def _component_expressions(fields: tuple[Field, ...], function: Expr) -> dict[str, Expr]:
    """Component and its derivatives by name -> scalar UFL expressions.

    ``function`` is a function or argument of the mixed space of ``fields``.
    """
    components = [c for f in fields for c in f.components]
    slope = ufl.grad(function)
    named = {}
    scalar = function.ufl_shape == ()
    for i, name in enumerate(components):
        named |= _with_derivatives(name, function if scalar else function[i], slope, () if scalar else (i,))
    return named


def _with_derivatives(name: str, value: Expr, slope: Expr, index: tuple[int, ...] = ()) -> dict[str, Expr]:
    """A scalar and its derivatives slope[index, :] by name."""
    derivatives = names.derivatives(name, slope.ufl_shape[-1])
    return {name: value} | {d: slope[(*index, k)] for k, d in enumerate(derivatives)}
