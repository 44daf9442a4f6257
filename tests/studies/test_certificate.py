"""Promise: the certificate says what a sceptic asks, accepts the known optimum and refuses what is none.

The bar of given area that is stiffest in torsion is the disc, with A^2 / (2 pi), and so A / pi more for each unit
of area.
"""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import pyvista
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from shapewright.geometries.cad.step import CadCheck
from shapewright.geometries.fields.problem import Functional
from shapewright.geometries.fields.sampled import Profile
from shapewright.solvers.physics.catalogue import PHYSICS
from shapewright.studies.certify.certificate import certify, check
from shapewright.studies.certify.comparison import compare, gradient_checks
from shapewright.studies.certify.convergence import (
    NOT_FINER,
    NOT_FINITE,
    NOT_MONOTONE,
    TOO_COARSE,
    Level,
    Refined,
    extrapolate,
    extrapolated,
    reference,
)
from shapewright.studies.certify.export import Exported, export_cad
from shapewright.studies.certify.final_solutions import solve
from shapewright.studies.certify.model import Gradient
from shapewright.studies.certify.objective_entry import corner_note
from shapewright.studies.certify.peak import _around, describe_peak
from shapewright.studies.certify.refinement import family_mesher
from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.optimize.stationarity import (
    VANISHED,
    least_squares_multipliers,
    relative_residual,
    stationarity,
)
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.samples import stack_fields
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import build_surrogate
from shapewright.studies.run.pipeline import Run, validate
from shapewright.studies.run.verify import contradictions
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.studies.schema.study import Optimizer
from tests.studies.study_cases import Analytic, quadratic, setup_of

TORSION = Path(__file__).parents[2] / "studies" / "torsion.yaml"
COARSE = ("geometry.mesh_size=0.35", "optimizer.on=fem", "optimizer.starts=1", "optimizer.tolerance=1e-11")


@pytest.fixture(scope="module")
def torsion():
    return build_setup(load_study(TORSION, COARSE))


@pytest.fixture(scope="module")
def validated(torsion, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torsion")
    workspace = Workspace(folder)
    with workspace.lock():
        return validate(Run(torsion, workspace)), folder


@pytest.fixture(scope="module")
def certificate(validated):
    return validated[0]


@pytest.fixture(scope="module")
def optimum(certificate):
    return torch.tensor([entry["value"] for entry in certificate["parameters"].values()])


def test_the_disc_is_found_and_accepted(certificate):
    exact = math.pi**2 / (2 * math.pi)
    objective = certificate["objective"]
    assert certificate["accepted"] is True
    assert certificate["reasons"] == ["all checks passed"]
    assert objective["fem"] == pytest.approx(exact, rel=1e-3)
    # B-splines of eight points approach the disc, and stay below it
    assert objective["fem_extrapolated"] == pytest.approx(exact, rel=2e-5)
    assert objective["fem_extrapolated"] <= exact * (1 + 1e-9)
    assert objective["improvement"] == pytest.approx(objective["fem"] / objective["initial_fem"] - 1)
    radii = [entry["value"] for entry in certificate["parameters"].values()]
    np.testing.assert_allclose(radii, np.mean(radii), rtol=1e-3)


def test_it_has_every_entry_that_is_promised(certificate):
    promised = {
        "version", "study", "accepted", "verdict", "reasons", "parameters", "objective", "constraints",
        "field_relative_l2_error", "gradient", "kkt_residual", "cad", "timings", "fem_solves", "design", "model",
        "limits", "multipliers", "warnings", "sources", "files",
    }  # fmt: skip
    assert promised <= set(certificate)
    objective = {
        "name", "unit", "initial_fem", "surrogate", "fem", "fem_levels", "fem_extrapolated", "observed_order",
        "surrogate_relative_error", "sense", "discretization_error", "improvement", "grid_convergence_index",
        "reference", "start_feasible",
    }  # fmt: skip
    assert objective <= set(certificate["objective"])
    assert all({"size", "h", "dofs", "value"} <= set(level) for level in certificate["objective"]["fem_levels"])
    stated = {"name", "value", "target", "miss", "tolerance", "scale", "allowed", "satisfied", "unit"}
    assert all(stated <= set(c) for c in certificate["constraints"])
    assert {"file", "area_or_volume_reread", "max_deviation"} <= set(certificate["cad"])
    for entry in certificate["parameters"].values():
        assert {"value", "bound_hit", "lower", "upper", "initial", "unit", "sensitivity", "tolerance"} <= set(entry)
    assert set(certificate["fem_solves"]) == {"forward", "adjoint", "tangent"}
    for line in certificate["design"]["checks"]:
        assert set(line) == {"name", "value", "relation", "limit", "meaning", "satisfied"}
    assert json.loads(json.dumps(certificate, allow_nan=False)) == certificate


def test_meshes_refine_and_the_order_is_that_of_quadratic_elements(certificate):
    levels = certificate["objective"]["fem_levels"]
    assert len(levels) == 3
    assert all(coarse["h"] > 1.7 * fine["h"] for coarse, fine in pairwise(levels))
    assert all(coarse["dofs"] < fine["dofs"] for coarse, fine in pairwise(levels))
    assert 3.3 < certificate["objective"]["observed_order"] < 5  # energy converges as h^4


def test_the_cad_is_the_design(certificate):
    cad = certificate["cad"]
    assert cad["kind"] == "solid"
    assert cad["area_or_volume_reread"] == pytest.approx(math.pi * 0.5, rel=1e-6)
    assert cad["max_deviation"] < 1e-9
    assert cad["stl"]["watertight"]
    assert cad["b_spline_edges"] > 0


def test_constraints_are_met_with_their_units(certificate):
    by_name = {constraint["name"]: constraint for constraint in certificate["constraints"]}
    assert by_name["area equals"]["value"] == pytest.approx(math.pi, rel=1e-6)
    assert by_name["area equals"]["unit"] == "m^2"
    assert all(constraint["satisfied"] for constraint in by_name.values())


def test_fields_are_written_for_paraview(validated):
    for name in ("optimum", "initial"):
        grid = pyvista.read(validated[1] / f"{name}.vtu")
        assert set(grid.celltypes) == {pyvista.CellType.QUADRATIC_TRIANGLE}
        assert grid.point_data["u_fem"].min() > -1e-12
    assert grid.point_data["u_fem"].max() > 0.1
    assert (validated[1] / "optimum.msh").stat().st_size > 0


def test_the_residual_is_small_at_the_optimum_and_large_at_the_start(torsion, certificate, optimum):
    model = FemModel(torsion)
    _, at_start, _ = model.value_and_gradient(torsion.initial)
    assert certificate["kkt_residual"] < 1e-3
    assert stationarity(torsion, torsion.initial, at_start, at_start).residual > 0.1
    nearby = optimum.clone()
    nearby[0] += 0.05
    _, gradient, _ = model.value_and_gradient(nearby)
    assert stationarity(torsion, nearby, gradient, at_start).residual > 10 * certificate["kkt_residual"]


def test_the_multiplier_is_what_another_unit_of_area_is_worth(torsion, certificate):
    """Measured by optimizing anew for another area; by the formula of the disc it is A / pi = 1."""
    step = 0.02
    model = FemModel(torsion)
    values = []
    for target in (math.pi - step, math.pi + step):
        setup = build_setup(load_study(TORSION, [*COARSE, f"constraints.0.equals={target!r}"]))
        values.append(optimize(setup, model, setup.study.model.optimizer).best.objective)
    measured = (values[1] - values[0]) / (2 * step)
    assert measured == pytest.approx(1.0, rel=1e-3)
    assert certificate["multipliers"]["area equals"] == pytest.approx(measured, rel=1e-3)
    assert abs(certificate["multipliers"]["centroid_x equals"]) < 1e-2


def shipped_with(objective, *constraints):
    return setup_of(f"objective={{{objective}: torsional_constant}}", f"constraints=[{', '.join(constraints)}]")


@pytest.mark.parametrize("objective", ["minimize", "maximize"])
@pytest.mark.parametrize("kind", ["equals", "at_least", "at_most"])
def test_multipliers_are_slopes_of_the_optimum_in_the_target(objective, kind):
    """By re-optimization of |theta - c|^2 (or its negative) at two targets, for each kind of constraint."""
    sign = 1 if objective == "minimize" else -1
    centre = [1.0] * 6  # of an area between the targets, so that both kinds of inequality are active
    target = 3.0 if kind != "at_most" else 1.8
    function = quadratic(centre).function
    model = Analytic(lambda design: sign * function(design))
    config = Optimizer(starts=1, tolerance=1e-13)
    found = {}
    for value in (target - 1e-3, target, target + 1e-3):
        setup = shipped_with(objective, f"{{quantity: area, {kind}: {value!r}}}")
        best = optimize(setup, model, config).best
        gradient = torch.from_numpy(model.evaluate(best.theta[None])[1][0, 0])
        start = torch.from_numpy(model.evaluate(setup.initial.numpy()[None])[1][0, 0])
        found[value] = best.objective, stationarity(setup, torch.from_numpy(best.theta), gradient, start)
    slope = (found[target + 1e-3][0] - found[target - 1e-3][0]) / 2e-3
    (multiplier,) = found[target][1].multipliers.values()
    assert found[target][1].residual < 1e-4
    assert multiplier == pytest.approx(slope, rel=1e-3)


def test_stationarity_knows_bounds_and_inactive_constraints():
    setup = shipped_with("minimize", "{quantity: area, at_least: 1.0}")
    centre = np.array([0.2, 0.9, 2.0, 1.1, 1.0, 1.0])
    theta = torch.from_numpy(np.clip(centre, 0.6, 1.5))
    gradient = 2 * (theta - torch.from_numpy(centre))
    far = torch.ones(6, dtype=torch.float64)
    found = stationarity(setup, theta, gradient, far)
    assert found.residual < 1e-12
    assert found.multipliers == {}
    assert stationarity(setup, theta, -gradient, far).residual == pytest.approx(1.0)  # pulled inwards


def test_an_optimum_inside_all_constraints_is_stationary():
    """The objective's own gradient vanishes there and can be no measure; that of the start is."""
    setup = shipped_with("minimize")
    inside = torch.ones(6, dtype=torch.float64)
    small, large = torch.full((6,), 1e-8, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    assert stationarity(setup, inside, small, large).residual < 1e-7
    assert stationarity(setup, inside, large, small).residual == 1.0


@given(
    gradient=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    at_start=st.floats(0, 100),
    active=st.booleans(),
)
def test_the_residual_of_the_trust_region_is_never_less_than_the_certificates(gradient, at_start, active):
    """They differ by the floor alone, and only where the gradient is less than that share of the one at the start."""
    objective, columns = np.array(gradient), np.array([[1.0], [1.0], [0.0]])[:, : int(active)]
    balance = least_squares_multipliers(np.full(3, 0.5), objective, columns, np.full(int(active), -np.inf))
    strict, floored = (relative_residual(balance, objective, lambda: at_start, floor) for floor in (0.0, VANISHED))
    assert floored <= strict * (1 + 1e-12)
    if not active or np.linalg.norm(objective) >= max(VANISHED * at_start, 1e-300):
        assert floored == pytest.approx(strict)


def test_a_bad_design_is_refused_with_reasons(torsion, tmp_path):
    theta = torsion.initial + torch.linspace(0, 0.1, 8, dtype=torch.float64)
    content = certify(torsion, theta, export_cad(torsion, theta, tmp_path), tmp_path, None)
    assert content.accepted is False
    reasons = "\n".join(content.reasons)
    assert "KKT residual" in reasons
    assert "constraint 'area equals'" in reasons
    assert "constraint 'centroid_x equals'" in reasons
    failed = {check.name for check in content.design.checks if not check.satisfied}
    assert failed == {line.partition(":")[0] for line in content.reasons if not line.startswith("constraint")}
    assert content.model is None


def test_a_part_that_is_worse_than_the_start_is_refused(torsion, tmp_path):
    """All else being in order, a needle-like bar is no improvement."""
    theta = torch.tensor([1.5, 0.62, 0.62, 0.62] * 2, dtype=torch.float64)
    content = certify(torsion, theta, export_cad(torsion, theta, tmp_path), tmp_path, None)
    assert content.objective.improvement < 0
    assert any(reason.startswith("improvement: -") for reason in content.reasons)


CAD = CadCheck(solid=True, valid=True, measure=1.0, max_deviation=0.0, b_spline_edges=4)


class Exact:
    """Finite elements in place of a surrogate, on the mesh that the optimizer moves; ``off`` scales the gradient."""

    box: ClassVar = {}

    def __init__(self, setup, off=1.0):
        self.fem, self.off = FemModel(setup), off
        self.surrogate = build_surrogate(setup).double().requires_grad_(False)

    def evaluate(self, theta):
        values, gradients = self.fem.evaluate(theta)
        return values, self.off * gradients

    def fields(self, theta):
        return torch.from_numpy(stack_fields(self.fem.solve(theta), self.fem.setup))


@pytest.fixture(scope="module")
def bar():
    return setup_of("optimizer.on=fem", "geometry.mesh_size=0.5")


@pytest.fixture(scope="module")
def solved(bar):
    return solve(bar, bar.initial, family_mesher(bar, bar.initial))


def test_solve_needs_no_file(bar, solved):
    """The start is taken for the optimum, so that both have the same solutions."""
    assert solved.finest == pytest.approx(solved.at_start, rel=1e-9)
    assert solved.reference == pytest.approx(solved.finest)
    assert solved.limit.value == pytest.approx(solved.finest, rel=1e-3)
    torch.testing.assert_close(solved.gradient, solved.gradient_at_start)
    assert solved.curvature == pytest.approx(solved.curvature.T)
    assert solved.solves["forward"] == 2 + len(bar.family.parameters) + len(solved.levels) + 1


def test_compare_finds_no_error_in_finite_elements_themselves_and_a_wrong_gradient(bar, solved):
    """What a passing test does not prove: that the novelty is right, which is that of fresh weights here."""
    same, opposite = (compare(bar, bar.initial, solved, Exact(bar, off)) for off in (1.0, -2.0))
    assert same.field_errors == {"u": pytest.approx(0.0, abs=1e-12)}
    assert same.objective_error == pytest.approx(abs(solved.values[0] - solved.limit.value) / solved.reference)
    assert (same.gradient.cosine, same.gradient.relative_error) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
    assert (opposite.gradient.cosine, opposite.gradient.relative_error) == (pytest.approx(-1.0), pytest.approx(3.0))
    assert same.novelty.correlation is None
    assert same.outside == ()


def test_check_concludes_from_values_alone(bar, solved):
    """The start is no optimum; a part that is read back as invalid, or larger than designed, fails besides."""
    good = check(bar, bar.initial, solved, None, Exported(CAD, 1.0, (), None))
    assert good.design.reasons == good.reasons
    assert {reason.partition(":")[0] for reason in good.reasons} >= {"KKT residual"}
    assert not any("CAD" in reason for reason in good.reasons)
    assert good.model is good.gradient is good.objective.surrogate is None
    assert contradictions(good) == []
    bad = check(bar, bar.initial, solved, None, Exported(replace(CAD, valid=False, measure=1.1), 1.0, (), None))
    assert set(bad.reasons) - set(good.reasons) == {reason for reason in bad.reasons if reason.startswith("CAD")}
    assert len(bad.reasons) == len(good.reasons) + 2


def test_check_takes_over_what_was_compared(bar, solved):
    compared = compare(bar, bar.initial, solved, Exact(bar))
    found = check(bar, bar.initial, solved, compared, Exported(CAD, 1.0, (), None))
    assert found.gradient == compared.gradient
    assert found.field_relative_l2_error == compared.field_errors
    assert found.objective.surrogate == compared.functionals[0]
    assert {line.name for line in found.model.checks} >= {"objective", "fields"}
    assert found.novelty == compared.novelty


def levels(sizes, values):
    return [Level(h, h, int(50 / h**2), int(100 / h**2), value) for h, value in zip(sizes, values, strict=True)]


ratios = st.floats(1.5, 3.0)
sizes = st.builds(
    lambda fine, first, second: [fine * first * second, fine * first, fine], st.just(0.02), ratios, ratios
)


@given(
    sizes=sizes,
    order=st.floats(0.6, 4.35),
    limit=st.floats(-10, 10).filter(lambda v: abs(v) > 0.1),
    slope=st.sampled_from([-1, 1]),
)
def test_extrapolation_finds_order_and_limit_of_manufactured_sequences(sizes, order, limit, slope):
    """value = limit + C h^p exactly, on meshes whose ratios need not be equal."""
    factor = slope * 0.05 * abs(limit) / sizes[0] ** order
    values = [limit + factor * h**order for h in sizes]
    first, second = values[1] - values[0], values[2] - values[1]
    assume(abs(second) < 0.95 * abs(first) and abs(second) > 1e-9 * abs(limit))
    found = extrapolate(levels(sizes, values))
    assert found.order == pytest.approx(order, rel=1e-4)
    assert found.value == pytest.approx(limit, rel=1e-6)
    assert found.error == pytest.approx(abs(values[2] - limit), rel=1e-3, abs=1e-9)
    # Roache 1994: 1.25 |e| / (r^p - 1), with e the change between the two finest meshes
    assert found.gci == pytest.approx(1.25 * abs(second) / ((sizes[1] / sizes[2]) ** found.order - 1), rel=1e-6)
    assert ("corner" in found.note) == (found.order < 2.8)


@given(values=st.tuples(*[st.floats(-1e3, 1e3)] * 3))
def test_extrapolation_claims_no_order_where_there_is_none(values):
    """Alternating, growing or equal differences: the finest value stands with an error that is not understated."""
    first, second = values[1] - values[0], values[2] - values[1]
    assume(first * second <= 0 or abs(second) >= abs(first))
    found = extrapolate(levels([0.4, 0.2, 0.1], values))
    assert found.order is None
    assert found.value == values[2]
    assert found.error >= abs(second)
    assert found.gci == pytest.approx(3 * found.error)
    assert found.note


def test_extrapolation_of_equal_values_has_no_order():
    found = extrapolate(levels([0.4, 0.2, 0.1], [2.0, 2.0, 2.0]))
    assert found.order is None
    assert found.value == 2.0
    assert found.error == 0.0
    assert extrapolate(levels([0.4, 0.2, 0.1], [0.0, 0.0, 0.0])).error == 0.0


def test_two_equal_values_are_as_uncertain_as_the_third_makes_them():
    found = extrapolate(levels([0.4, 0.2, 0.1], [2.01, 2.0, 2.0]))
    assert (found.order, found.value) == (None, 2.0)
    assert found.error == pytest.approx(0.01 / 16)
    found = extrapolate(levels([0.4, 0.2, 0.1], [2.0, 2.0, 2.01]))
    assert (found.order, found.error, found.note) == (None, pytest.approx(0.01), NOT_MONOTONE)


@pytest.mark.parametrize("sizes", [[0.1, 0.1, 0.1], [0.4, 0.1, 0.1], [0.1, 0.1, 0.05], [0.1, 0.2, 0.4]])
def test_meshes_that_are_no_finer_tell_nothing_of_the_error(sizes):
    for values in ([2.0, 2.0, 2.0], [2.1, 2.01, 2.0]):
        found = extrapolate(levels(sizes, values))
        assert (found.error, found.gci, found.note) == (math.inf, math.inf, NOT_FINER)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_tell_nothing_of_the_error(at, value):
    values = [2.1, 2.01, 2.0]
    values[at] = value
    assert extrapolate(levels([0.4, 0.2, 0.1], values)).error == math.inf
    assert extrapolate(levels([0.4, 0.2, 0.1], values)).note == NOT_FINITE


def test_values_far_from_their_limit_show_no_order_that_is_believed():
    """40 % and then 4 %: the error is the largest change, three times that the band."""
    found = extrapolate(levels([0.4, 0.2, 0.1], [1.44, 1.04, 1.0]))
    assert (found.value, found.order, found.note) == (1.0, None, TOO_COARSE)
    assert found.error == pytest.approx(0.4)
    assert found.gci == pytest.approx(1.2)
    beside = extrapolate(levels([0.4, 0.2, 0.1], [1.44, 1.04, 1.0]), scale=100.0)  # where a change of 40 % is small
    assert beside.order == pytest.approx(math.log2(10))


@given(value=st.floats(-10, 10), start=st.floats(-10, 10))
def test_errors_are_relative_to_the_value_or_its_change_whichever_is_larger(value, start):
    assert reference(value, start) == max(abs(value), abs(value - start))


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=5), fine=st.floats(1e-3, 1.0))
def test_extrapolation_always_answers(values, fine):
    sizes = [fine * 2.0**k for k in reversed(range(len(values)))]
    found = extrapolate(levels(sizes, values))
    assert math.isfinite(found.value)
    assert found.error >= 0


def test_a_vanishing_gradient_is_judged_by_its_error_there_and_by_its_direction_at_the_start():
    seen = {"cosine": -1.0, "cosine_at_start": 0.99, "size_to_start": 0.002, "error_to_start": 0.04}
    seen["relative_error"] = 20.0

    def found(**changes):
        return {check.name: check.satisfied for check in gradient_checks(Gradient(**seen | changes), 0.98)}

    assert found() == {"gradient cosine at the start": True, "gradient error": True}
    assert found(error_to_start=0.25) == {"gradient cosine at the start": True, "gradient error": False}
    assert found(cosine_at_start=-1.0) == {"gradient cosine at the start": False, "gradient error": True}
    assert found(size_to_start=0.2) == {"gradient cosine": False}
    for name in ("cosine_at_start", "error_to_start"):  # no number satisfies nothing
        assert not all(found(**{name: math.nan}).values())
    assert found(size_to_start=math.nan, cosine=math.nan) == {"gradient cosine": False}


@given(angle=st.floats(0.01, 1.5), allowed=st.floats(0.01, 1.5))
def test_both_ways_of_judging_a_gradient_agree_on_an_error_at_a_right_angle(angle, allowed):
    """A gradient as long as that at the start, turned by an error at a right angle to the surrogate's."""
    assume(abs(angle - allowed) > 1e-6)
    size = {"cosine": math.cos(angle), "cosine_at_start": 1.0, "error_to_start": math.sin(angle), "relative_error": 0.0}
    for share in (1.0, 0.01):
        checks = gradient_checks(Gradient(**size | {"size_to_start": share}), math.cos(allowed))
        assert all(check.satisfied for check in checks) == (angle < allowed)


def test_an_order_that_quadratic_elements_cannot_have_is_not_believed():
    """Differences of 0.0499 and 0.0001: order 9 by chance, so the finest value stands, give or take 0.0499 / 2^4."""
    found = extrapolate(levels([0.4, 0.2, 0.1], [1.05, 1.0001, 1.0]))
    assert found.order == pytest.approx(math.log2(0.0499 / 0.0001), rel=1e-6)
    assert found.value == 1.0
    assert found.error == pytest.approx(0.0499 / 16, rel=1e-6)
    assert found.gci == pytest.approx(3 * found.error)
    assert "than the order 4 of the elements explains" in found.note


def test_of_derivatives_over_a_boundary_no_more_than_their_order_is_believed():
    """The plate's hoop stress is made of derivatives, the displacement of its edge is not."""
    values = [1 + 0.1 * h**3 for h in (0.4, 0.2, 0.1)]
    plane = PHYSICS["plane_stress"]
    hoop, area = plane.functional("ks_hoop_stress").at("hole"), plane.functional("area")
    edge = Functional("edge", lambda ops, q: q["u"], "m", "", on="right")
    refined = Refined({f.name: levels([0.4, 0.2, 0.1], values) for f in (hoop, area, edge)}, None)
    assert extrapolated(refined, hoop, 1.0).value == values[-1]
    assert extrapolated(refined, area, 1.0).value == extrapolated(refined, edge, 1.0).value == pytest.approx(1.0)


def test_corners_are_named_where_values_do_not_converge_and_only_there():
    assert corner_note(NOT_MONOTONE, [102.5]) == "; the part has a corner of 102 degrees, which may be why"
    assert corner_note(NOT_MONOTONE, []) == ""
    assert corner_note("the finest values agree to rounding", [102.5]) == ""


def test_a_profile_goes_once_around_its_boundary():
    """Of the plate's circular hole, whose hoop stress is 3 s1 - s2 at 90 degrees and 3 s2 - s1 at 0, if wide."""
    plate = build_setup(load_study(TORSION.with_name("plate_hole.yaml"), ("geometry.mesh_size=0.3",)))
    peak = describe_peak(plate.problem.objective, FemModel(plate).solve(plate.initial))
    angle, hoop = np.array(peak.profile).T
    assert (np.diff(angle) > 0).all()
    assert np.diff(angle).max() < 3
    assert hoop.min() == pytest.approx(peak.minimum, rel=1e-2)
    assert np.interp(0.0, angle, hoop) == pytest.approx(1.0, abs=0.2)
    assert np.interp(90.0, angle, hoop) == pytest.approx(5.0, rel=0.08)


def test_a_profile_of_two_holes_or_of_a_wall_is_none():
    circle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    hole = np.stack([np.cos(circle), np.sin(circle)], -1)
    arc = np.full(64, 2 * np.pi / 64)

    def around(points):
        count = len(points)
        return _around(Profile(points, np.full(count, 3e-8), np.resize(arc, count), None))

    assert [value for _, value in around(hole)] == [3e-8] * 64
    shift = np.array([2.0, 0.0])
    assert around(np.concatenate([hole - shift, hole + shift])) is None
    wall = np.stack([np.linspace(0, 2 * np.pi, 64), np.zeros(64)], -1)
    assert around(wall[np.random.default_rng(0).permutation(64)]) is None
