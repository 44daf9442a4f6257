"""Finite-element solutions of a problem on a moving mesh, with tangents and adjoint shape gradients.

With state u, mesh nodes X, residual R(u, X) = 0 on the free dofs and u = g(X) on the constrained ones:

- tangent along a nodal velocity V: (dR/du) du = -(dR/dX) V on the free dofs, du = grad g . V on the others;
- adjoint of a functional J: (dR/du)^T p = -dJ/du on the free dofs, p = 0 on the others, and
  dJ/dX = J_X + p . R_X + (dJ/du + (dR/du)^T p)_constrained grad g.

See M. B. Giles, N. A. Pierce, Flow Turbul. Combust. 65 (2000) 393 for the discrete adjoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.geometries.fields.problem import Function, Functional, Problem, ProblemError
from shapewright.geometries.fields.quantities import Quantities
from shapewright.geometries.fields.sampled import Profile, profile_of, sample_quantities
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints, cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.errors import SolveError, StaleSolutionError
from shapewright.solvers.fem.backend import fem
from shapewright.solvers.fem.boundary_values import boundary_values
from shapewright.solvers.fem.data_checks import check_coefficients, excesses, not_finite, refusal
from shapewright.solvers.fem.discretization import Discretization
from shapewright.solvers.fem.factorization import Elliptic, Factorization
from shapewright.solvers.fem.newton import Loads, Newton, NewtonHistory
from shapewright.solvers.fem.null_modes import NullMode, Walls, null_modes, rigid_motions
from shapewright.solvers.fem.pins import check_balance, check_regular
from shapewright.solvers.fem.weak_form import WeakForm

Array = NDArray[np.float64]
Index = NDArray[np.int64]

QUADRATURE_DEGREES = {2: 6, 3: 4}
"""Default degree of exactness by dimension: in space enough for the energy of quadratic fields on curved cells."""

PROFILE_POINTS = {2: (6, 16), 3: (3, 6)}
"""Gauss points a side of the cells, and of the facets, at which a profile looks for extremes, by dimension."""


@dataclass(frozen=True, eq=False)
class FemTangent:
    """Derivatives of a solution along a nodal velocity.

    Attributes:
        fields: field -> (N, n_components) material derivative at all mesh nodes.
        values: functional -> its derivative.
    """

    fields: Mapping[str, Array]
    values: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class FemSolution:
    """A solution; its fields and values stay, its derivatives are there until the solver solves again.

    Attributes:
        nodes: (N, d) positions of the mesh nodes.
        fields: field -> (N, n_components) values at all mesh nodes, in the order of the mesh; a field
            of degree 1 is interpolated to the middles of the edges.
        values: functional -> value.
        dofs: number of degrees of freedom, constrained ones included.
        residuals: norms of the free residual in the last load step, before its first Newton step and after each.
        steps: share of the load that each load step reached; (1.0,) where Newton converged at once.
        linear_solver: what solved the linear systems.
        linear_residual: norm of the free residual at the end, relative to the largest of its first ones.
        parameters: name -> value it was solved with.
    """

    nodes: Array
    fields: Mapping[str, Array]
    values: Mapping[str, float]
    dofs: int
    residuals: tuple[float, ...]
    steps: tuple[float, ...]
    linear_solver: str
    linear_residual: float
    parameters: Mapping[str, float]
    _solver: FemSolver = field(repr=False)
    _solve_number: int = field(repr=False)
    _position: int = field(repr=False)
    _state: Array = field(repr=False)
    _loads: Loads = field(repr=False)
    _scale: float = field(repr=False)

    def gradient(self, name: str) -> Array:
        """(N, d) derivative of the functional ``name`` by the node positions, from one adjoint solve.

        Raises StaleSolutionError after a later solve, ProblemError for an unknown functional.
        """
        return self._solver._gradient(self, name)

    def adjoint(self, name: str) -> Mapping[str, Array]:
        """Field -> (N, n_components) adjoint of the functional ``name``, minus its derivative by the load.

        Raises StaleSolutionError after a later solve, ProblemError for an unknown functional.
        """
        return self._solver._fields(self._solver._adjoint(self, name))

    def tangent(self, velocity: Array) -> FemTangent:
        """Material derivatives for nodes that move with ``velocity`` (N, d), by one back-substitution.

        Raises StaleSolutionError after a later solve, ProblemError for a velocity of a wrong shape.
        """
        return self._solver._tangent(self, velocity)

    def profile(self, quantity: Function, on: str | None = None) -> Profile:
        """``quantity(ops, q)`` at Gauss points: its true extremes, its average and its flatness.

        Args:
            quantity: formula; derivatives of the fields on a boundary are those of the cell behind it.
            on: boundary region, with 16 points on each facet (in space 36); None for the domain, with 36 points in each
                cell (in space 27).

        Raises KeyError for an unknown region or quantity.
        """
        mesh, nodes = self._solver.mesh, torch.from_numpy(self.nodes)
        inside, along = PROFILE_POINTS[mesh.dimension]
        quadrature = cell_points(mesh, nodes, inside) if on is None else facet_points(mesh, nodes, on, along)
        return profile_of(quadrature, quantity(torch, self._solver._sample(quadrature, self.fields, self.parameters)))


@dataclass(frozen=True, eq=False)
class StateLayout:
    """Where the dofs of a discretization sit.

    Attributes:
        dofs: their number.
        component_dofs: component -> (N, 2) dofs whose mean is its value at each mesh node.
    """

    dofs: int
    component_dofs: Mapping[str, Index]

    def of_nodal(self, nodal: Array) -> Array:
        """(D,) dof values of nodal values (N, c) of quadratic fields, in the order of the components."""
        state = np.zeros(self.dofs)
        for column, dofs in zip(nodal.T, self.component_dofs.values(), strict=True):
            state[dofs[:, 0]] = column
        return state


class FemSolver:
    """Solves one problem on one mesh whose nodes move; forms and symbolic factorisation are made once.

    Args:
        problem: what to solve.
        mesh: reference mesh with tagged boundary.
        quadrature_degree: polynomial degree that the quadrature integrates exactly on straight cells; by default 6 in
            the plane, 4 in space, where smooth maxima have 6.
        tolerance: Newton stops when the free residual has fallen by this factor, or to its rounding error.
        max_iterations: Newton steps before trying smaller load steps.
        factorization: makes what solves the linear systems, of the form and the constrained dofs; by default the
            cheapest that is exact.

    Raises:
        ProblemError: unknown tag, or a mesh that is not one.
        SolveError: folded mesh.
    """

    def __init__(
        self,
        problem: Problem,
        mesh: Mesh,
        *,
        quadrature_degree: int | None = None,
        tolerance: float = 1e-10,
        max_iterations: int = 25,
        factorization: Callable[[fem.Form, Index], Factorization] | None = None,
    ) -> None:
        unknown = sorted(problem.tags() - set(mesh.tag_names))
        if unknown:
            known = ", ".join(mesh.tag_names)
            raise ProblemError(f"unknown boundary tag '{unknown[0]}'; this mesh has {known}")
        if problem.physics.dimension != mesh.dimension:
            raise ProblemError(
                f"the mesh has {mesh.dimension} dimensions, the physics '{problem.physics.name}' has"
                f" {problem.physics.dimension}; allowed are the same number"
            )
        if problem.slip and mesh.dimension != 2:
            raise ProblemError(
                f"'{problem.slip[0]}' is a wall of a solid along which a field slips; allowed is that in the plane"
            )
        if problem.cases:
            raise ProblemError("a problem with load cases is solved by shapewright.solvers.fem.load_cases.CaseSolver")
        self.problem = problem
        self.mesh = mesh
        self._discretization = Discretization(mesh, problem.physics.fields)
        self._boundary = boundary_values(problem.dirichlet, problem.pins, self._discretization)
        degree = quadrature_degree or QUADRATURE_DEGREES[mesh.dimension]
        self._form = WeakForm(problem, self._discretization, degree)
        self._functionals = {f.name: self._form.functional(f) for f in problem.functionals}
        jacobian, constrained = self._form.jacobian, self._boundary.dofs
        if factorization is None:
            self._factorization = Factorization(jacobian, constrained, self._elliptic())
        else:
            self._factorization = factorization(jacobian, constrained)
        self._newton = Newton(
            self._form,
            self._discretization,
            self._factorization,
            self._boundary.dofs,
            tolerance,
            max_iterations,
            self._check_regular,
            self._check_admissible,
            self._not_finite,
        )
        self._unpinned = boundary_values(problem.dirichlet, (), self._discretization).dofs
        self._left_open: list[NullMode] = []
        self._solve_number = self._solves = self._position = 0
        self._factored_at = -1
        self._linearized_at = -1
        self._outer_slopes: dict[str, float] = {}
        self._slopes = np.zeros((len(self._boundary.dofs), mesh.dimension))
        self._partials: dict[str, tuple[Array, Array]] = {}
        self._adjoints: dict[str, Array] = {}

    def _elliptic(self) -> Elliptic | None:
        """Of a linear problem with one field and an energy, in space."""
        fields, discretization = self.problem.physics.fields, self._discretization
        suits = self._form.linear and len(fields) == 1 and self.problem.physics.energy is not None
        if not suits or self.mesh.dimension == 2:
            return None
        return Elliptic(discretization.dofs, lambda: rigid_motions(discretization, fields[0])[0])

    def solve(
        self,
        nodes: Array | None = None,
        *,
        parameters: Mapping[str, float] | None = None,
        start: FemSolution | None = None,
    ) -> FemSolution:
        """Solve with the mesh nodes at ``nodes`` (N, d), by default where the reference mesh has them.

        Where Newton's method does not converge at once, the loads grow in steps; see ``steps`` of the solution.

        Args:
            nodes: positions.
            parameters: values of the problem's parameters; those left out have their defaults.
            start: earlier solution of this solver to start from; load steps then lead from its boundary values and
                parameters to those wanted.

        Raises:
            ProblemError: nodes of a wrong shape, unknown parameters, a start of another solver, boundary values that
                are not finite.
            SolveError: folded mesh, singular problem, no convergence, values that are not finite.
        """
        nodes = np.array(self.mesh.nodes if nodes is None else nodes, dtype=np.float64)
        self._discretization.check_nodes(nodes)
        values = self.problem.parameter_values(parameters)
        if start is not None and start._solver is not self:
            raise ProblemError("the solution to start from is of another solver; allowed is one of this solver")
        for found in excesses(self.problem, self.mesh, nodes, values):
            raise SolveError(refusal(found))
        self._solves += 1
        self._solve_number = self._solves
        if self._position == 0 or not np.array_equal(nodes, self._discretization.nodes()):
            self._position += 1
            self._discretization.move(nodes)
            for patch in self._form.patches:
                patch.move(nodes)
        # a matrix that knows neither state nor parameters is that of the last solution on these nodes
        self._newton.keep_matrix = self._form.fixed_matrix and self._factored_at == self._position
        self._factored_at = -1
        boundary, self._slopes = self._boundary.evaluate(nodes, values)
        self._partials.clear()
        self._adjoints.clear()
        loads = Loads(boundary, values)
        history = self._solve_loads(loads, start)
        state = self._form.state.x.array
        self._linearized_at = self._solve_number if self._form.linear else -1
        self._factored_at = self._position
        fields = self._fields(state)
        for name, nodal in fields.items():
            _finite(f"the field '{name}' of the solution", nodal)
        self._check_balance(fields, values)
        return FemSolution(
            nodes=nodes,
            fields=fields,
            values={functional.name: self._value(functional) for functional in self.problem.functionals},
            dofs=self._discretization.dofs,
            residuals=history.residuals,
            steps=history.steps,
            linear_solver=self._factorization.method,
            linear_residual=history.residuals[-1] / history.scale if history.scale else 0.0,
            parameters=values,
            _solver=self,
            _solve_number=self._solve_number,
            _position=self._position,
            _state=state.copy(),
            _loads=loads,
            _scale=history.scale,
        )

    @property
    def states(self) -> StateLayout:
        """How dof values and nodal values correspond."""
        return StateLayout(self._discretization.dofs, self._discretization.component_dofs)

    def revisit(self, solution: FemSolution) -> None:
        """Make an earlier solution on the present nodes the present one again, so that its derivatives are there.

        Raises StaleSolutionError where the mesh has moved since.
        """
        if solution._solver is not self or solution._position != self._position:
            raise StaleSolutionError("the mesh has moved since this was solved; take derivatives before")
        if solution._solve_number == self._solve_number:
            return
        self._solve_number = solution._solve_number
        self._form.state.x.array[:] = solution._state
        for name, value in solution.parameters.items():
            self._form.parameters[name].value[...] = value
        _, self._slopes = self._boundary.evaluate(solution.nodes, solution.parameters)
        self._partials.clear()
        self._adjoints.clear()
        for functional in self.problem.functionals:
            self._value(functional)
        self._linearized_at = self._solve_number if self._form.fixed_matrix else -1

    def _solve_loads(self, loads: Loads, start: FemSolution | None) -> NewtonHistory:
        state = self._form.state.x.array
        if start is None:
            state[:] = 0.0
            return self._newton.solve(loads.unloaded(), loads)
        state[:] = start._state
        return self._newton.solve(start._loads, loads, start._scale)

    def _check_regular(self) -> None:
        """Refuse a singular problem; keep what it leaves open without its pins."""
        matrix, walls = self._factorization.entries(), self._walls()
        found = null_modes(matrix, self._discretization, self._boundary.dofs, walls)
        pinned = bool(self.problem.pins)
        self._left_open = null_modes(matrix, self._discretization, self._unpinned, walls) if pinned else found
        check_regular(self.problem, found, self._left_open)

    def _walls(self) -> Walls | None:
        """Where a field slips, with the operator as it is without."""
        if not self.problem.slip:
            return None
        self._form.walls.value[...] = 0.0
        matrix = self._factorization.present_entries()
        self._form.walls.value[...] = 1.0
        return Walls(self.problem.slip_field, self.problem.slip, matrix)

    def _check_balance(self, fields: Mapping[str, Array], values: Mapping[str, float]) -> None:
        """Refuse data that do not balance where pins would hide it; a moment only at small rotations."""
        modes = [mode for mode in self._left_open if self._form.linear or not mode.turn]
        if self.problem.pins and modes:
            nodes = self._discretization.nodes()
            check_balance(self.problem, modes, self.mesh, nodes, self._components(fields), values)

    def _present(self) -> tuple[Array, dict[str, Array], dict[str, float]]:
        """Nodes, fields and parameters of the iterate."""
        parameters = {name: float(constant.value) for name, constant in self._form.parameters.items()}
        return self._discretization.nodes(), self._fields(self._form.state.x.array), parameters

    def _not_finite(self) -> str:
        """Which data are not finite at the iterate."""
        nodes, fields, parameters = self._present()
        found = not_finite(self.problem, self.mesh, nodes, self._components(fields), parameters)
        return found or "look at coefficients, sources and boundary fluxes"

    def _check_admissible(self) -> None:
        nodes, fields, parameters = self._present()
        check_coefficients(self.problem, self.mesh, nodes, self._components(fields), parameters)
        admissible = self.problem.physics.admissible
        if admissible is None:
            return
        quadrature = cell_points(self.mesh, torch.from_numpy(nodes))
        least = float(admissible(torch, self._sample(quadrature, fields, parameters)).min())
        if not least > 0:
            raise SolveError(
                f"a solution of '{self.problem.physics.name}' is not admissible: what must stay positive is {least:.3g}"
            )

    def _sample(
        self, quadrature: CellPoints | FacetPoints, fields: Mapping[str, Array], parameters: Mapping[str, float]
    ) -> Quantities:
        return sample_quantities(self.problem, quadrature, self._components(fields), parameters)

    def _components(self, fields: Mapping[str, Array]) -> dict[str, Array]:
        """Component -> (N,) values."""
        return {
            c: np.ascontiguousarray(fields[f.name][:, k])
            for f in self.problem.physics.fields
            for k, c in enumerate(f.components)
        }

    def _assemble(self, form: fem.Form | None, size: int | None = None) -> Array:
        """The vector of a linear form; for None zero, by default in the mixed space."""
        if form is None:
            return np.zeros(self._discretization.dofs if size is None else size)
        return fem.assemble_vector(form).array

    def _value(self, functional: Functional) -> float:
        form = self._functionals[functional.name].value
        integral = 0.0 if form is None else fem.assemble_scalar(form).real
        value, self._outer_slopes[functional.name] = _outer(functional, integral)
        if not np.isfinite(value):
            advice = "" if functional.maximum_of is None else (
                "; a smooth maximum overflows where its quantity is far above 1: measure it in a typical size"
                " (stresses by the coefficient reference_stress)"
            )  # fmt: skip
            raise SolveError(f"the functional '{functional.name}' is not finite: {value}{advice}")
        return value

    def _fields(self, state: Array) -> dict[str, Array]:
        nodal = self._discretization.nodal
        fields = self.problem.physics.fields
        return {f.name: np.stack([nodal(c, state) for c in f.components], -1) for f in fields}

    def _linearize(self, solution: FemSolution) -> None:
        """Make sure that the factorisation is that of ``solution``."""
        if solution._solve_number != self._solve_number:
            raise StaleSolutionError(
                "the solver has solved again since; take gradients and tangents before the next solve"
            )
        if self._linearized_at != self._solve_number:
            self._factorization.assemble()
            self._linearized_at = self._solve_number

    def _partial(self, name: str) -> tuple[Array, Array]:
        """Partial derivatives of a functional by the state and by the nodes, at the present solution."""
        if name not in self._partials:
            functional, slope = self._functionals[name], self._outer_slopes[name]
            by_state = slope * self._assemble(functional.by_state)
            by_nodes = slope * self._assemble(functional.by_nodes, self.mesh.nodes.size)
            _finite(f"the derivative of the functional '{name}' by the fields", by_state)
            _finite(f"the derivative of the functional '{name}' by the node positions", by_nodes)
            self._partials[name] = by_state, by_nodes
        return self._partials[name]

    def _adjoint(self, solution: FemSolution, name: str) -> Array:
        """Degrees of freedom of an adjoint at the present solution, solved for once."""
        if name not in self._functionals:
            known = ", ".join(self._functionals) or "none"
            raise ProblemError(f"unknown functional '{name}'; this problem has {known}")
        self._linearize(solution)
        if name not in self._adjoints:
            right = -self._partial(name)[0]
            right[self._boundary.dofs] = 0.0
            adjoint = self._factorization.solve_transposed(right)
            for part, values in self._fields(adjoint).items():
                _finite(f"the adjoint '{part}' of the functional '{name}'", values)
            self._adjoints[name] = adjoint
        return self._adjoints[name]

    def _gradient(self, solution: FemSolution, name: str) -> Array:
        adjoint = self._adjoint(solution, name)
        by_state, by_nodes = self._partial(name)
        dofs = self._boundary.dofs
        self._form.adjoint.x.array[:] = adjoint
        by_nodes = by_nodes + self._assemble(self._form.adjoint_by_nodes)
        gradient = self._discretization.nodes_from_space(by_nodes)
        for patch in self._form.patches:
            gradient += patch.by_nodes(adjoint)
        reaction = (by_state + self._factorization.multiply_transposed(adjoint))[dofs]
        np.add.at(gradient, self._boundary.nodes, reaction[:, None] * self._slopes)
        _finite(f"the gradient of the functional '{name}' by the node positions", gradient)
        return gradient

    def _tangent(self, solution: FemSolution, velocity: Array) -> FemTangent:
        velocity = np.asarray(velocity, dtype=np.float64)
        if velocity.shape != solution.nodes.shape:
            raise ProblemError(f"velocity has shape {velocity.shape}; this mesh needs {solution.nodes.shape}")
        self._linearize(solution)
        direction = self._discretization.nodes_to_space(velocity)
        self._form.velocity.x.array[:] = direction
        prescribed = np.zeros(self._discretization.dofs)
        prescribed[self._boundary.dofs] = (self._slopes * velocity[self._boundary.nodes]).sum(-1)
        moved = self._assemble(self._form.residual_by_velocity)
        _finite("the derivative of the equations along the velocity of the nodes", moved)
        right = -moved - self._factorization.multiply(prescribed)
        for patch in self._form.patches:
            right += patch.rate(velocity)
        right[self._boundary.dofs] = prescribed[self._boundary.dofs]
        state = self._factorization.solve(right)
        values = {}
        for name in self._functionals:
            by_state, by_nodes = self._partial(name)
            values[name] = float(by_nodes @ direction + by_state @ state)
        return FemTangent(self._fields(state), values)


def _finite(what: str, values: Array) -> None:
    """SolveError that names ``what`` where it holds values that are not finite."""
    lost = int((~np.isfinite(values)).sum())
    if lost:
        raise SolveError(f"{what} is not finite: {lost} of its {values.size} values are not")


def _outer(functional: Functional, integral: float) -> tuple[float, float]:
    """The functional's value, and its derivative, by its integral."""
    if functional.outer is None:
        return integral, 1.0
    argument = torch.tensor(integral, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        value = functional.outer(torch, argument)
    (slope,) = torch.autograd.grad(value, argument)
    return float(value.detach()), float(slope)
