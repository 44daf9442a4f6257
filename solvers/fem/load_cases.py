"""Several load cases of one problem: one factorization where the matrix is shared, and functionals of all.

A case is a set of values of the problem's parameters. The solver takes them one after the other; in a linear problem
whose matrix knows no parameter, the factors of the first one serve all others, and all adjoints and tangents. Cases
whose boundary is offset have nodes of their own, and a solver for each offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shapewright.geometries.fields.problem import OFFSET, CaseFunctional, Function, Problem, ProblemError
from shapewright.geometries.fields.sampled import Profile
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.factorization import Factorization
from shapewright.solvers.fem.solver import FemSolution, FemSolver, FemTangent, StateLayout

Array = NDArray[np.float64]


def solver_of(
    problem: Problem, mesh: Mesh | Mapping[float, Mesh], factorization: Callable[..., Factorization] | None = None
) -> FemSolver | CaseSolver:
    """What solves the problem: the plain solver, or that of its load cases; arguments as of :class:`FemSolver`.

    The mesh may be given for each offset of the boundary in the cases.
    """
    if problem.cases:
        return CaseSolver(problem, mesh, factorization)
    return FemSolver(problem, mesh[0.0] if isinstance(mesh, Mapping) else mesh, factorization=factorization)


def tangents_of(solution: FemSolution | CaseSolution, velocities: Sequence[Array]) -> list[list[FemTangent]]:
    """Of each case, in its order, the derivatives along each nodal velocity (N, d)."""
    if isinstance(solution, FemSolution):
        return [[solution.tangent(velocity) for velocity in velocities]]
    return [solution.case_tangents(case, velocities) for case in solution.cases]


def fields_of(solution: FemSolution | CaseSolution) -> list[Mapping[str, Array]]:
    """Of each case, in its order, the nodal values (N, c) of the fields."""
    return [solution.fields] if isinstance(solution, FemSolution) else [one.fields for one in solution.cases.values()]


class CaseSolver:
    """Solves all load cases of a problem; arguments and errors as of :class:`solver.FemSolver`.

    Args:
        problem: with its cases.
        mesh: of all cases, or one for each offset of the boundary.
        factorization: see :class:`solver.FemSolver`.
    """

    def __init__(
        self,
        problem: Problem,
        mesh: Mesh | Mapping[float, Mesh],
        factorization: Callable[..., Factorization] | None = None,
    ) -> None:
        self.problem = problem
        single = problem.single()
        self._fems = {
            offset: FemSolver(
                single, mesh[offset] if isinstance(mesh, Mapping) else mesh, factorization=factorization
            )
            for offset in dict.fromkeys(offset_of(problem, case) for case in problem.cases)
        }

    @property
    def states(self) -> StateLayout:
        """How dof values and nodal values correspond."""
        return next(iter(self._fems.values())).states

    def solve(self, nodes: Array | Mapping[float, Array] | None = None) -> CaseSolution:
        """Solve every case with the mesh nodes at ``nodes`` (N, d), which may be given for each offset.

        SolveError names the case that fails.
        """
        solutions = {}
        for case, values in self.problem.cases.items():
            offset = offset_of(self.problem, case)
            own = nodes[offset] if isinstance(nodes, Mapping) else nodes
            try:
                solutions[case] = self._fems[offset].solve(own, parameters=values)
            except SolveError as error:
                raise SolveError(f"load case '{case}': {error}") from error
        return CaseSolution(self.problem, self._fems, solutions)


def offset_of(problem: Problem, case: str) -> float:
    """Distance by which the boundary lies further out in a case; 0 of a problem without offsets."""
    return problem.cases[case].get(OFFSET, 0.0) if problem.offset_on else 0.0


@dataclass(eq=False)
class CaseSolution:
    """Solutions of all cases; derivatives are there until the solver solves on other nodes.

    Attributes:
        problem: with its cases.
        cases: case -> its solution.
        adjoints: number of adjoint solves so far.
    """

    problem: Problem
    _fems: Mapping[float, FemSolver] = field(repr=False)
    cases: Mapping[str, FemSolution]
    adjoints: int = 0
    _gradients: dict[tuple[str, str], Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        first = next(iter(self.cases.values()))
        self.nodes, self.dofs, self.fields = first.nodes, first.dofs, first.fields
        """Of the mesh, and the fields of the first case."""
        found = {f.name: self._combined(f) for f in self.problem.case_functionals}
        self.values: Mapping[str, float] = {name: value for name, (value, _) in found.items()}
        self._slopes = {name: slopes for name, (_, slopes) in found.items()}

    def _combined(self, functional: CaseFunctional) -> tuple[float, Array]:
        """The functional's value, and its derivative (K,) by its values in all cases."""
        single = np.array([solution.values[functional.of] for solution in self.cases.values()])
        argument = torch.tensor(single, requires_grad=True)
        with torch.enable_grad():
            value = functional.combine(argument)
        (slopes,) = torch.autograd.grad(value, argument)
        return float(value.detach()), slopes.numpy()

    def gradients(self, name: str) -> dict[float, Array]:
        """Offset -> (N, d) derivative of the functional ``name`` by the positions of its nodes.

        One adjoint for each case that the functional needs.
        """
        functional = self._known(name)
        totals = {offset: np.zeros_like(self.nodes) for offset in self._fems}
        for case, slope in zip(self.cases, self._slopes[name], strict=True):
            if slope != 0.0:
                totals[offset_of(self.problem, case)] += slope * self._gradient(case, functional.of)
        return totals

    def gradient(self, name: str) -> Array:
        """(N, d) derivative of the functional ``name`` by the positions of the nodes that all cases share."""
        if len(self._fems) > 1:
            raise ProblemError("cases with offsets share no nodes; allowed are the gradients of each offset")
        (total,) = self.gradients(name).values()
        return total

    def _gradient(self, case: str, of: str) -> Array:
        if (case, of) not in self._gradients:
            self._fems[offset_of(self.problem, case)].revisit(self.cases[case])
            self._gradients[case, of] = self.cases[case].gradient(of)
            self.adjoints += 1
        return self._gradients[case, of]

    def tangent(self, velocity: Array | Mapping[float, Array]) -> FemTangent:
        """Derivatives for nodes that move with ``velocity`` (N, d), which may be given for each offset.

        The fields are those of the first case.
        """
        tangents = []
        for case, solution in self.cases.items():
            offset = offset_of(self.problem, case)
            self._fems[offset].revisit(solution)
            tangents.append(solution.tangent(velocity[offset] if isinstance(velocity, Mapping) else velocity))
        values = {}
        for functional in self.problem.case_functionals:
            single = np.array([tangent.values[functional.of] for tangent in tangents])
            values[functional.name] = float(self._slopes[functional.name] @ single)
        return FemTangent(tangents[0].fields, values)

    def case_tangents(self, case: str, velocities: Sequence[Array]) -> list[FemTangent]:
        """Derivatives of one case along nodal velocities (N, d) each."""
        self._fems[offset_of(self.problem, case)].revisit(self.cases[case])
        return [self.cases[case].tangent(velocity) for velocity in velocities]

    def profile(self, quantity: Function, on: str | None = None) -> Profile:
        """Of the first case; see :meth:`solver.FemSolution.profile`."""
        return next(iter(self.cases.values())).profile(quantity, on)

    def _known(self, name: str) -> CaseFunctional:
        found = [functional for functional in self.problem.case_functionals if functional.name == name]
        if not found:
            known = ", ".join(functional.name for functional in self.problem.functionals) or "none"
            raise ProblemError(f"unknown functional '{name}'; this problem has {known}")
        return found[0]


def smooth_maximum(values: Any, sharpness: float) -> Any:
    """Smooth maximum of values (K,): m + s/rho log mean exp(rho (v - m)/s), with their mean m and size s = |v|_rms.

    It is that of Kreisselmeier and Steinhauser with the mean in place of the sum, in units of the values' own size:
    equal values have themselves as maximum, and it lies below the true one by at most s log(K) / rho.
    """
    middle, size = values.mean(), torch.sqrt((values**2).mean())
    if not float(size.detach()) > 0:
        return values.max()
    scaled = sharpness * (values - middle) / size
    return middle + size / sharpness * (torch.logsumexp(scaled, 0) - np.log(len(values)))
