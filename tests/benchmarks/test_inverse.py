"""Inverse problems on operators: exact Jacobians, recovery of what made the data, judgement by finite elements."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.inverse import Sensors, measure, recover, sensor_points
from benchmarks.target_response import Load, fem_energies, match_energies, surrogate_energies
from shapewright.studies.problem.operator_setup import build_operator_setup, load_operator_study, solve_instances
from shapewright.surrogate.models.problem_operator import clouds
from tests.studies.operator_cases import write_operator

LOAD = Load("level", np.array([0.5, 1.0]))


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    path = write_operator(tmp_path_factory.mktemp("inverse"), ("  strength: {normal: [1, 2]}\n", ""), ("strength*", ""))
    return build_operator_setup(load_operator_study(path))


@pytest.fixture(scope="module")
def network(setup):
    return setup.network().double().requires_grad_(False)


def test_energies_of_the_operator_have_exact_shape_derivatives(setup, network):
    theta = setup.population.draw(1, 3).theta[0].requires_grad_()
    found = surrogate_energies(setup, network, theta, LOAD, cloud=60)
    exact = torch.stack([torch.autograd.grad(one, theta, retain_graph=True)[0] for one in found])
    for k, unit in enumerate(torch.eye(len(theta), dtype=torch.float64)):
        with torch.no_grad():
            ahead, behind = (surrogate_energies(setup, network, theta + h * unit, LOAD, 60) for h in (1e-6, -1e-6))
        np.testing.assert_allclose(exact[:, k], (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


def test_a_shape_is_found_whose_energies_are_those_of_a_hidden_one(setup, network):
    bounds = setup.population.bounds
    hidden = bounds[:, 0] + 0.7 * (bounds[:, 1] - bounds[:, 0])
    with torch.no_grad():
        target = surrogate_energies(setup, network, hidden, LOAD, cloud=60).numpy()
    starts = [(bounds[:, 0] + share * (bounds[:, 1] - bounds[:, 0])).numpy() for share in (0.3, 0.6)]  # one at a trap
    found = match_energies(setup, network, LOAD, target, starts, cloud=60)
    np.testing.assert_allclose(found.theta, hidden, rtol=1e-4)
    np.testing.assert_allclose(found.surrogate, target, rtol=1e-6)
    np.testing.assert_allclose(found.fem, fem_energies(setup, found.theta, LOAD), rtol=1e-12)
    assert (found.theta >= bounds[:, 0].numpy()).all()
    assert (found.theta <= bounds[:, 1].numpy()).all()


def test_energies_of_finite_elements_fall_to_their_limit_as_the_mesh_is_refined(setup):
    """The energy is least at the solution, so that of a coarser mesh, on nearly the same domain, is no less."""
    theta = setup.population.draw(1, 3).theta[0].numpy()
    coarse, fine = (fem_energies(setup, theta, LOAD, setup.lift_at(size)) for size in (0.6, 0.25))
    finest = fem_energies(setup, theta, LOAD, setup.lift_at(0.12))
    np.testing.assert_allclose(fine, finest, rtol=1e-3)
    assert (abs(fine - finest) < 0.2 * abs(coarse - finest)).all()


def test_sensors_of_the_operator_itself_give_back_its_instance(setup, network):
    instance = setup.population.draw(1, 11)
    points = sensor_points(20, 0.4)
    with torch.no_grad():
        latent = network.encode(instance, *clouds(setup.lift, instance, 60, seed=0))
        values = network.values_at(latent, instance, setup.lift, torch.from_numpy(points))[:, 0].numpy()
    found = recover(setup, network, Sensors(points, values, 1e-3), instance, ["c1", "level"], starts=1, cloud=60)
    assert found.misfit < 1e-3
    assert float(found.instance.parameters["level"]) == pytest.approx(float(instance.parameters["level"]), abs=1e-3)


def test_measurements_are_finite_element_values_with_noise(setup):
    instance = setup.population.draw(1, 11)
    points = setup.truth_lift.shape_map.nodes(instance.theta[0]).numpy()[:40] * 0.9
    exact = measure(setup, instance, points, 0.0, seed=1).values
    noisy = measure(setup, instance, points, 0.1, seed=1).values
    fields = solve_instances(setup, setup.truth_lift, instance).fields[0, :, 0]
    assert exact.min() >= float(fields.min()) - 1e-9
    assert exact.max() <= float(fields.max()) + 1e-9
    assert 0.05 < np.std(noisy - exact) < 0.15
