"""From a problem to UFL: residual, functionals, and their derivatives by the state and by the mesh nodes.

The discrete Lagrangian is L(u, p, X) = J(u, X) + R(u, p, X), where X are the mesh nodes and u, p dof
vectors. UFL differentiates after the pull-back to the reference cell, so that dof values stay fixed while
nodes move: D. Ham, L. Mitchell, A. Paganini, F. Wechsung, Struct. Multidiscip. Optim. 60 (2019) 1813.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import ufl
from ufl.core.expr import Expr

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Functional, Physics, Problem, ProblemError
from shapewright.geometries.fields.quantities import Component, Quantities, field_space
from shapewright.geometries.fields.vectors import dot
from shapewright.solvers.fem import ufl_ops
from shapewright.solvers.fem.backend import fem
from shapewright.solvers.fem.discretization import Discretization
from shapewright.solvers.fem.jit import compile_form
from shapewright.solvers.fem.patch_load import PatchLoad
from shapewright.solvers.fem.slip import slip_terms

LEAST_OF_MAXIMA = 6
"""Quadrature degree of smooth maxima, whose integrands are high powers."""


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
        self._dx, self._ds = self._measures(quadrature_degree)
        self._fine = self._measures(max(quadrature_degree, LEAST_OF_MAXIMA))
        self.state: fem.Function[np.float64] = fem.Function(space)
        self.adjoint: fem.Function[np.float64] = fem.Function(space)
        self.velocity: fem.Function[np.float64] = fem.Function(discretization.node_space)
        self.parameters: dict[str, fem.Constant[np.float64]] = {
            name: fem.Constant(mesh, float(v)) for name, v in problem.parameters.items()
        }
        self.load = fem.Constant(mesh, 1.0)
        components = _test_functions(problem.physics, ufl.TestFunction(space))
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

    def _measures(self, degree: int) -> tuple[ufl.Measure, ufl.Measure]:
        """Over the domain and its boundary."""
        mesh, tags, rule = self._discretization.mesh, self._discretization.facet_tags, {"quadrature_degree": degree}
        return ufl.Measure("dx", mesh, metadata=rule), ufl.Measure("ds", mesh, subdomain_data=tags, metadata=rule)

    @cached_property
    def _interior(self) -> Quantities:
        """The quantities known inside the domain."""
        return self._quantities({})

    @cached_property
    def _boundary(self) -> Quantities:
        """The quantities known on the boundary."""
        return self._quantities({}, tuple(ufl.FacetNormal(self._discretization.mesh)))

    def _lifted(self, tag: str) -> Quantities:
        """The quantities inside the domain and the lifting of a boundary region."""
        space = fem.functionspace(self._discretization.mesh, ("Lagrange", 2))
        lifting = fem.Function(space)
        lifting.x.array[self._discretization.scalar_dofs(space, tag)] = 1.0
        return self._quantities({names.LIFTING: _component(lifting)})

    def _quantities(self, more: Mapping[str, Component], normal: tuple[Expr, ...] = ()) -> Quantities:
        components = self._problem.physics.components
        fields = {name: _component(self.state, k) for k, name in enumerate(components)} | dict(more)
        space = field_space(self._problem, self.parameters)
        x = tuple(ufl.SpatialCoordinate(self._discretization.mesh))
        return Quantities(ufl_ops, space, x, fields, normal)

    def _weak_residual(self) -> ufl.Form:
        physics, q = self._problem.physics, self._interior
        test = _test_functions(physics, ufl.TestFunction(self._discretization.space))
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

    def _on(self, *tags: str, measure: ufl.Measure | None = None) -> ufl.Measure:
        numbers = tuple(self._discretization.tagged.tag_names.index(tag) for tag in tags)
        return (measure or self._ds)(numbers if len(numbers) > 1 else numbers[0])

    def functional(self, functional: Functional) -> CompiledFunctional:
        """The compiled functional."""
        inside, along = (self._dx, self._ds) if functional.outer is None else self._fine
        if functional.on is not None:
            known, measure = self._boundary, self._on(functional.on, measure=along)
        else:
            known = self._interior if functional.lifting is None else self._lifted(functional.lifting)
            measure = inside
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


def _component(function: Expr, index: int = 0) -> Component:
    """A scalar component of a function or argument of a mixed space."""
    at = () if function.ufl_shape == () else (index,)

    def gradient() -> tuple[Expr, ...]:
        slope = ufl.grad(function)
        return tuple(slope[(*at, k)] for k in range(slope.ufl_shape[-1]))

    return Component(lambda: function[index] if at else function, gradient)


def _test_functions(physics: Physics, function: Expr) -> dict[str, Expr]:
    """Components of a test function, and their derivatives, by name."""
    found = {}
    for k, name in enumerate(physics.components):
        component = _component(function, k)
        found[name] = component.value()
        found |= zip(names.derivatives(name, physics.dimension), component.gradient(), strict=True)
    return found
