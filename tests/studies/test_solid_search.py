"""Promise: gradients of a solid's functionals by its parameters are exact, and the reduced basis is what it says.

A design that is meshed afresh from its CAD is compared in tests of the whole run.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shapewright.solvers.fem.load_cases import solver_of
from shapewright.studies.optimize.solid_search import ReducedModel, SolidStore, search_on_mesh
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.solid_setup import build_solid_setup
from tests.studies.solid_cases import HEAT, beam, load, written


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    return beam(tmp_path_factory.mktemp("beam"))


@pytest.fixture(scope="module")
def store(setup, tmp_path_factory):
    return SolidStore(setup, tmp_path_factory.mktemp("solutions"))


def design(setup, seed, share=0.5):
    unit = np.random.default_rng(seed).uniform(-1, 1, len(setup.initial))
    return share * unit * setup.family.bounds[:, 1].numpy()


def test_gradients_against_solvers_built_afresh(setup):
    theta, direction = torch.from_numpy(design(setup, 0)), torch.from_numpy(design(setup, 1))
    values, gradients, _ = FemModel(setup).functionals(theta)
    steps = 0.05 * 0.5 ** np.arange(3)
    names = [functional.name for functional in setup.problem.functionals]
    moved = []
    for h in steps:
        mesh = setup.shape_map.mesh.moved(setup.shape_map.nodes(theta + h * direction).numpy())
        found = solver_of(setup.problem, mesh).solve().values
        moved.append([found[name] for name in names])
    slopes = gradients @ direction.numpy()
    remainders = np.abs(np.array(moved) - values - steps[:, None] * slopes)
    assert (np.abs(slopes) > 1e-3 * np.abs(values)).all()
    assert np.log2(remainders[-2] / remainders[-1]) == pytest.approx([2.0] * len(names), abs=0.1)


def test_reduced_basis_is_exact_where_it_knows_and_close_elsewhere(setup, store):
    model, known = ReducedModel(setup, store), design(setup, 2)
    solved = store(known)
    values, gradients = model.evaluate(known[None])
    assert values[0] == pytest.approx(solved.values[0].numpy(), rel=1e-6)
    np.testing.assert_allclose(gradients[0], solved.gradients[0].numpy(), rtol=0, atol=1e-5 * np.abs(gradients).max())
    other = design(setup, 3)
    before = model.evaluate(other[None])
    exact = FemModel(setup).evaluate(other[None])
    # a basis of Ritz: compliances come from below, and tangents make the error one of second order
    assert (before[0][0, 1:] <= exact[0][0, 1:] * (1 + 1e-9)).all()
    assert before[0][0] == pytest.approx(exact[0][0], rel=0.05)
    near = known + 0.1 * (other - known)
    errors = [abs(model.evaluate(at[None])[0] - FemModel(setup).evaluate(at[None])[0])[0, 0] for at in (near, other)]
    assert errors[0] < 0.01 * errors[1]


def test_gradients_of_the_reduced_model_are_those_of_its_values(setup, store):
    store(design(setup, 2))
    model, theta, direction = ReducedModel(setup, store), design(setup, 4), design(setup, 5)
    h = 1e-3
    up, down = (model.evaluate((theta + sign * h * direction)[None])[0][0] for sign in (1, -1))
    slopes = model.evaluate(theta[None])[1][0] @ direction
    assert (up - down) / (2 * h) == pytest.approx(slopes, rel=1e-4)


def test_the_search_needs_fewer_solves_than_finite_elements_alone(setup, tmp_path):
    """The same optimum to 0.05 % by both."""
    found = {}
    for model in ("reduced_basis", "fem"):
        optimizer = setup.study.model.optimizer.model_copy(update={"model": model, "kkt_tolerance": 0.01})
        study = setup.study.updated(optimizer=optimizer)
        store = SolidStore(replace(setup, study=study), tmp_path / model, model == "reduced_basis")
        search = search_on_mesh(store.setup, store, setup.initial.numpy())
        assert search.reason.ok, search.reason
        assert search.violation <= 1.0
        found[model] = search.objective, len(store.solved)
    first = float(FemModel(setup).functionals(setup.initial)[0][0])
    assert found["reduced_basis"][0] < 0.9 * first
    assert found["reduced_basis"][0] == pytest.approx(found["fem"][0], rel=5e-4)
    assert found["reduced_basis"][1] < found["fem"][1]


def test_finite_elements_alone_measure_the_volume_against_the_part_as_it_came(setup, tmp_path):
    """Wherever the search starts: the volume is scaled so that the part as it came has that of its CAD."""
    optimizer = setup.study.model.optimizer.model_copy(update={"model": "fem", "max_iterations": 1})
    own = replace(setup, study=setup.study.updated(optimizer=optimizer))
    start = design(setup, 1)
    search = search_on_mesh(own, SolidStore(own, tmp_path, False), start)
    position = [condition.quantity for condition in own.constraints].index("volume")
    expected = float(setup.quantity("volume", torch.from_numpy(start)))
    assert abs(expected / float(setup.quantity("volume", setup.initial)) - 1) > 1e-3
    assert search.history[0].quantities[position] == pytest.approx(expected, rel=1e-12)


def test_heat_with_convection(tmp_path):
    """Conduction needs no load cases; the reduced basis takes the film of the air as it takes everything symmetric."""
    heated = build_solid_setup(load(written(tmp_path, HEAT)))
    assert [functional.name for functional in heated.problem.functionals] == ["integral"]
    store = SolidStore(heated, tmp_path / "solutions")
    found = search_on_mesh(heated, store, heated.initial.numpy())
    start = FemModel(heated).evaluate(heated.initial.numpy()[None])[0][0, 0]
    assert found.reason.ok
    assert found.violation <= 1.0
    assert found.objective < start
    values, gradients = ReducedModel(heated, store).evaluate(found.theta[None])
    exact = FemModel(heated).functionals(found.theta)
    assert values[0, 0] == pytest.approx(exact[0][0], rel=1e-7)
    np.testing.assert_allclose(gradients[0], exact[1], rtol=0, atol=1e-3 * np.abs(exact[1]).max())


def test_a_store_goes_on_from_its_files(setup, store):
    theta = design(setup, 2)
    first = store(theta)
    again = SolidStore(setup, store.folder)
    again._solver = None  # nothing is solved
    second = again(theta)
    assert torch.equal(first.values, second.values)
    np.testing.assert_array_equal(first.snapshots, second.snapshots)
    assert again.solves == {"forward": 1, "adjoint": 2, "tangent": 8}
