"""Promise: a functional of one's own counts everywhere that a built-in one does, under a name that nothing else has.

Known values are of Saint-Venant's disc of radius R: u = (R^2 - r^2)/2 for source 2, its slope at the wall is -R.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from shapewright.studies.certify.certificate import certify
from shapewright.studies.certify.export import export_cad
from shapewright.studies.certify.taylor import check_study
from shapewright.studies.optimize.optimizer import Iterate, Optimum, Search, optimize
from shapewright.studies.optimize.stationarity import stationarity
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel, SurrogateModel
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import build_surrogate
from shapewright.studies.run.optimum import history_table
from shapewright.studies.run.pipeline import validate
from shapewright.studies.schema.loader import StudyError, dump, load_study
from shapewright.studies.schema.study import Optimizer
from tests.studies.study_cases import setup_of, tiny_run, write_tiny

TAKEN = {
    "drag": ("physics.name=stokes", "a functional of physics 'stokes'"),
    "compliance": ("", "a functional of physics 'poisson'"),
    "area": ("", "a functional of physics 'poisson'"),
    "thickness": ("", "a geometric quantity"),
    "clearance": ("", "a geometric quantity"),
    "u": ("", "a quantity of physics 'poisson'"),
    "u_x": ("", "a quantity of physics 'poisson'"),
    "x": ("", "a quantity of physics 'poisson'"),
    "conductivity": ("", "a quantity of physics 'poisson'"),
    "pi": ("", "the constant pi of formulas"),
}


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("key", ["objective", "constraint"])
def test_a_name_that_something_else_has_is_refused(tmp_path, name, key):
    """An own objective called drag would else take the place of the physics' drag under a condition."""
    override, owner = TAKEN[name]
    own = f"{{name: {name}, integrand: 'x**2'}}"
    if key == "objective":
        path = write_tiny(tmp_path, ("{maximize: torsional_constant}", f"{{minimize: {own}}}"))
        location = "F:12: objective.minimize.name"
    else:
        path = write_tiny(tmp_path, ("quantity: area, equals: 3.0", f"quantity: {own}, at_most: 3.0"))
        location = "F:14: constraints.0.quantity.name"
    changes = [override, "physics.source={}"] if override else []
    with pytest.raises(StudyError) as caught:
        build_setup(load_study(path, changes))
    text = str(caught.value).replace(str(path), "F")
    assert text == f"{location}: found '{name}', the name of {owner}; expected a name that nothing else has"


def test_two_integrals_of_one_name_are_refused_with_what_to_write():
    own = "{name: mean, integrand: u}"
    constraints = f"constraints=[{{quantity: {own}, at_most: 2}}, {{quantity: {own}, at_least: 1}}]"
    with pytest.raises(StudyError, match=r"constraints.1.quantity.name: found 'mean', .* say quantity: mean"):
        setup_of(constraints)


@pytest.mark.parametrize("integrand", ["0", "0*u", "u - u", "0.0", "x*0"])
def test_an_integrand_that_is_zero_is_refused(tmp_path, integrand):
    own = f"{{minimize: {{name: j, integrand: {integrand}}}}}"
    path = write_tiny(tmp_path, ("{maximize: torsional_constant}", own))
    with pytest.raises(StudyError, match=r"objective.minimize.integrand: found '.*', which is zero whatever the shape"):
        build_setup(load_study(path))


FLUX = "{name: flux, integrand: '(u_x*nx+u_y*ny)**2', on: wall, unit: m^3}"
INTEGRALS = {
    FLUX: 2 * math.pi,
    "{name: flow, integrand: 'u_x*nx + u_y*ny', on: wall}": -2 * math.pi,
    "{name: weight, integrand: 3}": 3 * math.pi,
    "{name: rim, integrand: 0.5, on: wall}": math.pi,
    "{name: inertia, integrand: 'x**2 + y**2'}": math.pi / 2,
    "{name: swept, integrand: 'x*nx', on: wall}": math.pi,
    "{name: mean, integrand: u}": math.pi / 4,
    "{name: positive, integrand: 'where(u > 0, u, 0)'}": math.pi / 4,
}
UNIT_DISC = 3 / (2 + math.cos(2 * math.pi / 12))
"""Radius of the control polygon of twelve points whose B-spline is the unit disc but for 2e-4."""


def test_the_certificate_judges_any_integral_on_the_cad(tmp_path):
    """Over the boundary, inside, of geometry alone, of constants, with conditions."""
    constrained = ", ".join(f"{{quantity: {integral}, at_most: 100.0}}" for integral in INTEGRALS)
    disc = ", ".join(f"r{k}: {UNIT_DISC}" for k in range(12))
    changes = (
        "geometry.options={control_points: 12, start: star}", f"geometry.initial={{{disc}}}", "geometry.mesh_size=0.3",
        f"constraints=[{constrained}]",
    )  # fmt: skip
    run = tiny_run(tmp_path, *changes)
    exported = export_cad(run.setup, run.setup.initial, tmp_path)
    content = certify(run.setup, run.setup.initial, exported, tmp_path, None).as_data()
    for row, (integral, value) in zip(content["constraints"], INTEGRALS.items(), strict=True):
        assert row["value"] == pytest.approx(value, rel=2e-3), integral
        assert len(row["evidence"]["fem_levels"]) == 3
    assert content["constraints"][0]["unit"] == "m^3"


HEAT = "{quantity: {name: heat, integrand: '(u_x*nx+u_y*ny)**2', on: wall, unit: m^3}, at_most: 6.0}"
BALANCED = "{quantity: centroid_x, equals: 0.0}, {quantity: centroid_y, equals: 0.0}"
LARGEST = (
    f"constraints=[{HEAT}, {BALANCED}]",
    "geometry.options.radius=0.95",
    "geometry.mesh_size=0.3",
    "optimizer.on=fem",
    "optimizer.starts=1",
    "optimizer.max_iterations=40",
    "constraints.0.tolerance=2e-2",
    "validation.kkt_residual=0.2",
)


def test_a_reference_by_name_is_the_same_integral():
    both = setup_of(f"constraints=[{HEAT}, {{quantity: heat, at_least: 1.0}}]")
    assert [f.name for f in both.problem.functionals] == ["torsional_constant", "heat"]
    assert [c.functional for c in both.constraints] == [1, 1]
    assert [c.name for c in both.constraints] == ["heat at most", "heat at least"]
    assert {c.unit for c in both.constraints} == {"m^3"}
    of_objective = setup_of(
        "objective={minimize: {name: weight, integrand: 2}}", "constraints=[{quantity: weight, at_least: 1.0}]"
    )
    assert of_objective.constraints[0].functional == 0


def test_a_surrogate_is_bound_to_the_integral_and_not_to_its_name():
    one, other = (setup_of(f"constraints=[{HEAT.replace('**2', power)}]") for power in ("**2", "**4"))
    assert one.trained_for()["constrained"][0]["integrand"] == "(u_x*nx+u_y*ny)**2"
    assert one.trained_for() != other.trained_for()


def test_the_study_loads_back(tmp_path):
    study = setup_of(f"constraints=[{HEAT}, {BALANCED}]").study
    path = tmp_path / "again.yaml"
    path.write_text(dump(study))
    assert load_study(path).model == study.model


def test_every_derivative_of_the_chain_with_an_integral_of_ones_own():
    """By FEM (adjoint, tangent, values anew) and through the surrogate, whose fields are integrated in torch."""
    setup = setup_of(f"constraints=[{HEAT}, {{quantity: area, equals: 3.0}}]")
    tests = {test.name: test for test in check_study(setup)}
    for name in ("FEM heat in theta (adjoint)", "FEM heat in theta (tangent)", "surrogate heat in theta (whole chain)"):
        assert tests[name].passed, tests[name].explanation
        assert not tests[name].exact


def test_finite_elements_meet_it_and_the_certificate_judges_it(tmp_path):
    content = validate(tiny_run(tmp_path, *LARGEST))
    row = content["constraints"][0]
    assert row["name"] == "heat at most"
    assert row["unit"] == "m^3"
    assert row["value"] == pytest.approx(6.0, rel=2e-2)  # the mesh that it was met on is coarse
    assert row["satisfied"]
    assert len(row["evidence"]["fem_levels"]) == 3
    assert row["evidence"]["discretization_error"] >= 0
    # a disc: heat 2 pi R^3 = 6, torsional constant pi R^4 / 2, worth (pi R^4 / 2)' / (2 pi R^3)' = R / 3 each
    radius = (row["value"] / (2 * math.pi)) ** (1 / 3)
    assert content["objective"]["fem"] == pytest.approx(math.pi * radius**4 / 2, rel=2e-2)
    assert content["multipliers"]["heat at most"] == pytest.approx(radius / 3, rel=5e-2)


def test_the_trust_region_meets_it_with_a_surrogate_that_knows_nothing(tmp_path):
    setup = setup_of(*LARGEST[:3])
    config = Optimizer(method="trust_region", starts=1, max_iterations=10, kkt_tolerance=1e-2)
    surrogate = SurrogateModel(setup, build_surrogate(setup).double().requires_grad_(False))
    values, _ = surrogate.evaluate(setup.initial.numpy()[None])
    assert values.shape == (1, 2)
    store = SolutionStore(setup, tmp_path)
    best = search_by_trust_region(setup, surrogate, config, store, tmp_path / "starts.json").best
    assert best.reason.ok
    values, gradients, _ = FemModel(setup).functionals(torch.from_numpy(best.theta))
    assert values[1] == pytest.approx(6.0, rel=1e-4)
    alone = optimize(setup, FemModel(setup), config.model_copy(update={"method": "slsqp"})).best
    assert best.objective == pytest.approx(alone.objective, rel=1e-3)
    at_start = torch.from_numpy(FemModel(setup).functionals(setup.initial)[1][0])
    found = stationarity(
        setup, torch.from_numpy(best.theta), torch.from_numpy(gradients[0]), at_start, (values, gradients)
    )
    assert found.residual < 2e-2


def test_it_is_learnt_and_met_by_the_surrogate(tmp_path):
    """The whole pipeline: sampled, trained, optimized; what the surrogate claims of it stands in the certificate."""
    changes = ("training.steps=4", "optimizer.starts=1", "sampling.designs=2", "sampling.held_out=1")
    run = tiny_run(tmp_path, f"constraints=[{HEAT}, {{quantity: jacobian, at_least: 0.1}}]", *changes)
    content = validate(run)
    row = content["constraints"][0]
    assert row["evidence"]["surrogate"] <= 6.0 * (1 + 1e-3)
    assert row["evidence"]["fem_mapped"] == pytest.approx(row["value"], rel=0.05)


def test_a_parameter_with_the_name_of_a_column_of_the_history_has_one_of_its_own():
    setup = setup_of()
    renamed = tuple(
        replace(p, name=name) for p, name in zip(setup.family.parameters, ["objective", "start", *"abcd"], strict=True)
    )
    setup = replace(setup, family=replace(setup.family, parameters=renamed))
    iterate = Iterate(0, 0, 1, 1.5, 0.1, (3.0, 0.5), tuple(np.arange(6.0)), None)
    search = Search(0, np.arange(6.0), 1.5, 0.0, None, (iterate,))
    heading = history_table(setup, Optimum(search, (search,))).splitlines()[0].split(",")
    assert len(set(heading)) == len(heading)
    assert heading[-6:] == ["parameter objective", "parameter start", *"abcd"]
