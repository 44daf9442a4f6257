"""Promise: the unit of length changes neither a search nor a verdict.

Every shipped design study, a thousand times smaller and larger with its data scaled alike, ends for the same reason at
the same shape, by finite elements on coarse meshes.
"""

from functools import cache
from math import log
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch

from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.optimize.stationarity import stationarity
from shapewright.studies.problem.constraints import constraint_values
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.pipeline import Run, validate
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from tests.studies.scaled_study import POWERS, write_scaled
from tests.studies.study_cases import setup_of

STUDIES = Path(__file__).parents[2] / "studies"
FEM = ("optimizer.on=fem", "optimizer.method=slsqp", "optimizer.starts=1", "optimizer.max_iterations=25")
SIZES = {"torsion": 0.35, "stokes_body": 0.1, "stokes_square": 0.09, "plate_hole": 0.4, "ns_body": 0.1}


@cache
def setup_at(name, factor):
    folder = Path(mkdtemp(prefix="scaled-"))
    path = write_scaled(STUDIES / f"{name}.yaml", factor, folder, f"geometry.mesh_size={SIZES[name]}", *FEM)
    return build_setup(load_study(path, ()))


@cache
def optimum_at(name, factor):
    setup = setup_at(name, factor)
    model = FemModel(setup)
    best = optimize(setup, model, setup.study.model.optimizer).best
    values, gradients, _ = model.functionals(torch.from_numpy(best.theta))
    gradient = torch.from_numpy(gradients[0])
    return best, stationarity(setup, torch.from_numpy(best.theta), gradient, gradient, (values, gradients))


def in_bounds(setup, theta):
    lower, upper = setup.family.bounds.numpy().T
    return (theta - lower) / (upper - lower)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
@pytest.mark.parametrize("name", POWERS)
def test_a_study_ends_alike_in_every_unit(name, factor):
    (here, first), (there, second) = optimum_at(name, 1.0), optimum_at(name, factor)
    assert there.reason is here.reason
    assert (there.violation <= 1.0) == (here.violation <= 1.0)
    np.testing.assert_allclose(
        in_bounds(setup_at(name, factor), there.theta), in_bounds(setup_at(name, 1.0), here.theta), atol=5e-3
    )
    # a smooth maximum is 1/30 log int exp(30 s), an integral along a curve
    shift = log(factor) / 30 if name == "plate_hole" else 0.0
    assert there.objective == pytest.approx(here.objective * factor ** POWERS[name] + shift, rel=1e-4, abs=0)
    limit = setup_at(name, factor).study.model.validation.kkt_residual
    assert first.residual <= limit
    assert second.residual <= limit
    assert set(second.multipliers) == set(first.multipliers)
    assert [stop.parameter for stop in second.stops] == [stop.parameter for stop in first.stops]


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_the_certificate_says_the_same_in_every_unit(factor, tmp_path):
    workspace = Workspace(tmp_path)
    with workspace.lock():
        found = validate(Run(setup_at("torsion", factor), workspace))
    assert found["accepted"] is True
    assert found["reasons"] == ["all checks passed"]
    area = next(row for row in found["constraints"] if row["name"] == "area equals")
    assert area["allowed"] == pytest.approx(1e-6 * np.pi * factor**2, rel=1e-6, abs=0)
    assert found["objective"]["fem"] == pytest.approx(np.pi / 2 * factor**4, rel=2e-3, abs=0)


def test_a_small_part_that_misses_its_area_is_told_so():
    """A part of a millimetre in metres met 'area at least 2.6e-6' and 'at most 2.0e-6' at once."""
    small = ("geometry.options.radius=1e-3", "geometry.mesh_size=4e-4", "geometry.thickness=null")
    wanted = "{quantity: area, at_least: 2.6e-6}, {quantity: area, at_most: 2.0e-6}"
    setup = setup_of(*small, f"constraints=[{wanted}]")
    values, _ = constraint_values(setup, setup.initial.numpy())
    met = [condition.satisfied(value) for condition, value in zip(setup.constraints, values, strict=True)]
    assert sum(met) <= 1
    assert not any(condition.satisfied(2.3e-6) for condition in setup.constraints)


SCALES = {
    "{quantity: area, equals: 2e-9}": 2e-9,
    "{quantity: centroid_x, equals: 0.0}": "size",
    "{quantity: centroid_y, equals: initial}": "size",
    "{quantity: clearance, at_least: 0.0}": "start",
    "{quantity: jacobian, at_least: 0.0}": "start",
}


@pytest.mark.parametrize("entry", SCALES)
def test_the_scale_is_the_target_or_what_takes_its_place(entry):
    small = "geometry={family: body_in_channel, options: {length: 2, height: 1, radius: 0.2, control_points: 12}}"
    setup = setup_of(small, "geometry.mesh_size=0.2", f"constraints=[{entry}]", *BODY)
    (condition,) = setup.constraints
    family = setup.family
    extent = np.ptp(family.outline(family.control_points(setup.initial).numpy(), family.part), axis=0).max()
    start = float(setup.quantity(condition.quantity, setup.initial))
    wanted = {"size": max(extent, abs(condition.target)), "start": abs(start)}
    assert condition.scale == pytest.approx(wanted.get(SCALES[entry], SCALES[entry]), rel=1e-5, abs=0)


BODY = (
    "physics={name: stokes, dirichlet: [{on: inlet, u: 1.0, v: 0.0}, {on: [wall, body], u: 0.0, v: 0.0}]}",
    "objective={minimize: dissipation}",
)


def test_a_functional_that_has_to_vanish_is_judged_beside_its_start_or_its_change():
    """Lift on a body below the middle, and on one in the middle, which has none to begin with."""
    study = STUDIES / "ns_body.yaml"
    for centre, symmetric in (("[0.6, 0.42]", False), ("[0.6, 0.5]", True)):
        setup = build_setup(load_study(study, ("geometry.mesh_size=0.1", f"geometry.options.center={centre}", *FEM)))
        lift = next(c for c in setup.constraints if c.quantity == "lift")
        values, gradients, _ = FemModel(setup).functionals(setup.initial)
        lower, upper = setup.family.bounds.numpy().T
        change = np.linalg.norm(gradients[1] * (upper - lower))
        if not symmetric:
            assert lift.scale == pytest.approx(abs(values[1]), rel=1e-5)
        assert 1e-2 * change < lift.scale < 10 * change or not symmetric
