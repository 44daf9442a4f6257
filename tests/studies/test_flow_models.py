"""The reduced basis of a flow, against finite elements, their adjoints and differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shapewright.studies.optimize.optimizer import ExitReason
from shapewright.studies.optimize.trust_region import Region, minimize_by_trust_region
from shapewright.studies.optimize.trust_region_search import (
    SolutionStore,
    scaling_at,
    search_by_trust_region,
    trust_region_problem,
)
from shapewright.studies.problem.flow_models import FlowModel, flow_basis, velocity_problem
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operators import open_operator
from shapewright.studies.problem.samples import stack_fields
from shapewright.studies.schema.yaml_source import StudyError
from shapewright.surrogate.models.flow_solution import flow_solutions
from shapewright.surrogate.models.shapes import dimensionless
from tests.studies.flow_cases import beside, channel, solved, tiny_operator
from tests.studies.study_cases import write_tiny_operator

PUSHED = (
    "  dirichlet:",
    "  source: {v: 0.1*x}\n  natural:\n    - {on: outlet, u: -0.3 - 0.2*u}\n  dirichlet:",
)
SLIP = ("{on: [wall, body], u: 0.0, v: 0.0}", "{on: body, u: 0.0, v: 0.0}\n  slip: [wall]")


@pytest.mark.parametrize("physics", ["stokes", "navier_stokes"])
def test_at_a_solved_design_the_basis_gives_what_finite_elements_give(physics: str, tmp_path: Path) -> None:
    setup = channel(tmp_path, physics, *([PUSHED] if physics == "stokes" else []))
    theta = beside(setup, 0.3)
    store = solved(setup, tmp_path, setup.initial, theta)
    model = FlowModel(setup, store.spans)
    values, gradients, solution = FemModel(setup).functionals(theta)
    found, slopes = model.evaluate(theta.numpy()[None])
    exact = stack_fields(solution, setup)
    np.testing.assert_allclose(found[0], values, rtol=2e-4)  # by another rule of quadrature, on coarse curved cells
    np.testing.assert_allclose(model.fields(theta), exact, atol=2e-3 * np.abs(exact).max())
    np.testing.assert_allclose(slopes[0, 0], gradients[0], atol=2e-3 * np.abs(gradients[0]).max())


@pytest.mark.parametrize(("physics", "operator"), [("stokes", False), ("navier_stokes", False), ("stokes", True)])
def test_gradients_are_those_of_the_values(physics: str, operator: bool, tmp_path: Path) -> None:
    setup = channel(tmp_path, physics)
    store = solved(setup, tmp_path, setup.initial)
    network = tiny_operator() if operator else None
    model, theta = FlowModel(setup, store.spans, network, "through_operator"), beside(setup, 0.4).numpy()
    direction = np.random.default_rng(0).standard_normal(len(theta)) * np.ptp(setup.family.bounds.numpy(), axis=1)
    step = 1e-5
    values, _ = model.evaluate(np.stack([theta + step * direction, theta - step * direction]))
    _, gradients = model.evaluate(theta[None])
    np.testing.assert_allclose(gradients[0] @ direction, (values[0] - values[1]) / (2 * step), rtol=1e-6)


def test_an_operator_alone_gives_a_flow_and_its_fields_complete_those_of_solutions(tmp_path: Path) -> None:
    setup = channel(tmp_path, "stokes")
    theta = beside(setup, 0.8)
    store = solved(setup, tmp_path, setup.initial, spans=False)
    exact = solved(setup, tmp_path / "exact", theta).known()[0].solution[0, :, :2]
    alone, basis, both = (
        FlowModel(setup, known, network)
        for known, network in ((tuple, tiny_operator()), (store.spans, None), (store.spans, tiny_operator()))
    )
    missed = [float((model.fields(theta)[:, :2] - exact).norm()) for model in (alone, basis, both)]
    assert missed[2] < missed[1] < missed[0] < float(exact.norm())


def test_with_all_tangents_the_dissipation_is_exact_to_third_order(tmp_path: Path) -> None:
    setup = channel(tmp_path, "stokes")
    store = solved(setup, tmp_path, setup.initial)
    model, missed = FlowModel(setup, store.spans), []
    for distance in (0.8, 0.4):
        theta = beside(setup, distance)
        exact = FlowModel(setup, solved(setup, tmp_path, theta).spans)  # in the same quadrature
        field = float((model.fields(theta) - exact.fields(theta)).norm())
        value, wanted = (one.evaluate(theta.numpy()[None])[0][0, 0] for one in (model, exact))
        missed.append((field, abs(value - wanted)))
    (far, value_far), (near, value_near) = missed
    assert 3.5 < far / near < 5
    assert value_far / value_near > 10


def test_the_basis_needs_fewer_solves_than_the_interpolation(tmp_path: Path) -> None:
    setup = channel(tmp_path, "stokes")
    store = SolutionStore(setup, tmp_path / "basis")
    found = search_by_trust_region(setup, None, setup.study.model.optimizer, store, tmp_path / "basis.json")
    alone = SolutionStore(setup, tmp_path / "alone")
    scaling = scaling_at(setup, alone(setup.initial.numpy()))
    problem = trust_region_problem(setup, None, alone, scaling)
    other = minimize_by_trust_region(problem, scaling.z(setup.initial.numpy()), Region())
    assert found.best.reason is other.reason is ExitReason.STATIONARY
    assert found.best.objective == pytest.approx(scaling.objective * other.centre.values[0], rel=1e-5)
    assert len(store.solved) <= 4 < len(alone.solved)


def test_solutions_to_learn_from_are_those_of_the_solver(tmp_path: Path) -> None:
    pushed = (PUSHED[0], PUSHED[1].replace(" - 0.2*u", ""))
    setup = channel(tmp_path, "stokes", pushed)
    nodes = setup.shape_map.nodes(setup.initial)
    shapes, viscosity = velocity_problem(setup, nodes[None])
    problem, frame = dimensionless(shapes, viscosity)
    velocity, pressure = (part[0] * frame.load for part in flow_solutions(problem))
    found = torch.cat([velocity, (pressure * viscosity / frame.size)[:, None]], -1)
    exact = torch.from_numpy(stack_fields(FemModel(setup).solve(setup.initial), setup))
    torch.testing.assert_close(found, exact, atol=2e-3 * float(exact.abs().max()), rtol=0)


def test_flows_that_slip_and_other_physics_have_no_basis(tmp_path: Path) -> None:
    setup = channel(tmp_path, "stokes", SLIP)
    assert flow_basis(setup, list) is None


def test_a_trust_region_on_an_operator_of_flows_ends_at_an_optimum_of_finite_elements(tmp_path: Path) -> None:
    write_tiny_operator(tmp_path / "tiny.safetensors", "stokes_2d")
    changes = ("objective:", "model: {operator: tiny.safetensors}\nobjective:"), ("mesh_size: 0.22", "mesh_size: 0.4")
    setup = channel(tmp_path, "stokes", *changes)
    store, named = solved(setup, tmp_path, setup.initial), setup.study.model.operator
    assert named is not None
    operator = open_operator(setup, named)
    assert operator.outside(setup.initial).share == 0
    scaling = scaling_at(setup, store(setup.initial.numpy()))
    problem = trust_region_problem(setup, operator.knowing(store), store, scaling)
    found = minimize_by_trust_region(problem, scaling.z(setup.initial.numpy()), Region(0.5, tolerance=1e-2))
    assert found.reason is ExitReason.STATIONARY
    assert len(store.solved) <= 4


REFUSED = {
    "slip": (SLIP, "slip are given; operator stokes_2d knows none"),
    "film": (PUSHED, "Robin conditions of the components differ"),
    "pressure": (("  dirichlet:", "  dirichlet:\n    - {on: outlet, p: 0.0}"), "the pressure is given on outlet"),
    "viscosity": (("viscosity: 0.05", "viscosity: 1 + x"), "coefficient 'viscosity' varies in space"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_operator_of_flows_does_not_know_is_refused(name: str, tmp_path: Path) -> None:
    write_tiny_operator(tmp_path / "tiny.safetensors", "stokes_2d")
    change, message = REFUSED[name]
    setup = channel(tmp_path, "stokes", change, ("objective:", "model: {operator: tiny.safetensors}\nobjective:"))
    assert setup.study.model.operator is not None
    with pytest.raises(StudyError, match=message):
        open_operator(setup, setup.study.model.operator)
