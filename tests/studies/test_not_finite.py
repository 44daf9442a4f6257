"""What is not a number is never taken for zero, for success or for the best."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.solver import FemSolver
from shapewright.solvers.physics.catalogue import POISSON, Dirichlet, Functional, Natural, Problem
from shapewright.studies.certify.taylor import taylor_test
from shapewright.studies.optimize.optimizer import ExitReason, optimize
from shapewright.studies.problem.constraints import worst_violation
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.infill import regressed
from shapewright.studies.run.pipeline import OptimizationError, Run, find_optimum
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.studies.schema.study import Optimizer
from shapewright.surrogate.models.model_card import Accuracy
from tests.solvers.solver_cases import TORSION, zero
from tests.solvers.solver_meshes import mapped_square
from tests.studies.study_cases import setup_of, write_tiny

MESH = mapped_square(3)


class NoSlope:
    """A model whose values are numbers and whose gradients are not."""

    def evaluate(self, theta):
        return np.ones((len(theta), 1)), np.full((len(theta), 1, theta.shape[1]), math.nan)

    @property
    def counts(self):
        return {}


def test_a_gradient_that_is_not_finite_is_not_called_zero():
    found = optimize(setup_of(), NoSlope(), Optimizer(starts=1))
    assert found.best.reason is ExitReason.NO_GRADIENT
    assert "not finite" in found.best.reason.value
    assert not found.ok


def test_a_condition_that_is_not_a_number_is_not_met():
    setup = setup_of()
    values = np.array([condition.target for condition in setup.constraints])
    assert worst_violation(setup, values) <= 1
    values[-1] = math.nan
    assert worst_violation(setup, values) == math.inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["field", "objective", "gradient"])
def test_an_error_that_is_not_a_number_counts_as_forgotten(part, bad):
    errors = {"field": 0.1, "objective": 0.1, "gradient": 0.1}
    after = errors | {part: bad}
    before, after = (Accuracy({"u": e["field"]}, e["objective"], e["gradient"], 0.99, 8) for e in (errors, after))
    assert regressed(before, after, 0.02)


def test_a_function_that_is_not_finite_fails_its_taylor_test():
    for function in (lambda h: math.nan, lambda h: 1 + h if abs(h) < 1e-2 else math.nan):
        test = taylor_test("f", function, 1.0)
        assert not test.passed
        assert "not finite" in test.explanation


@pytest.mark.parametrize(
    ("problem", "named"),
    [
        (Problem(POISSON, coefficients={"conductivity": lambda ops, q: ops.log(q["x"])}), "coefficient 'conductivity'"),
        (Problem(POISSON, sources={"u": lambda ops, q: ops.sqrt(q["y"] - 0.5)}), "the source of 'u' is nan at x = "),
        (
            Problem(POISSON, natural=(Natural("u", "top", lambda ops, q: ops.log(q["x"] - 0.6)),)),
            "the boundary flux of 'u' on 'top' is nan at x = ",
        ),
    ],
)
def test_data_that_are_not_finite_are_named(problem, named):
    held = Problem(
        POISSON, problem.coefficients, problem.sources, (Dirichlet("u", "left", zero),), problem.natural
    )
    with pytest.raises(SolveError, match=named):
        FemSolver(held, MESH).solve()


def test_derivatives_that_are_not_finite_are_named():
    """Values at which a root has no slope."""
    solution = FemSolver(
        Problem(
            POISSON,
            dirichlet=TORSION.dirichlet,
            functionals=(Functional("root", lambda ops, q: ops.sqrt(q["u"] ** 2), "1", ""),),
        ),
        MESH,
    ).solve()
    for derive in (lambda: solution.gradient("root"), lambda: solution.tangent(MESH.nodes)):
        with pytest.raises(SolveError, match="the derivative of the functional 'root' by the fields is not finite"):
            derive()


def test_a_failure_of_finite_elements_at_the_start_comes_without_advice_about_folding(tmp_path):
    free = write_tiny(tmp_path, ("  dirichlet:\n    - {on: wall, u: 0.0}\n", ""))
    run = Run(build_setup(load_study(free, ("optimizer.on=fem",))), Workspace(tmp_path / "out"))
    with pytest.raises(OptimizationError) as caught:
        find_optimum(run)
    text = str(caught.value)
    assert "finite elements fail at the start: the problem is singular, it determines 'u' only up to a constant" in text
    assert "fold" not in text
