"""Promise: means and worst cases over scattered loads, coefficients and boundaries are those that are known, and exact
gradients lead to designs that bear them.
"""

import json
import math

import numpy as np
import pytest
import torch

import shapewright as sw
from shapewright.geometries.family.offset import moving_tags, offset_points
from shapewright.geometries.family.spline import LoopQuadrature
from shapewright.studies.certify.taylor import check_study
from shapewright.studies.examples.bracket import Bracket
from shapewright.studies.optimize.optimizer import optimize
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.scatter import scenarios_of
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.pipeline import Run, design_stages, validate
from shapewright.studies.run.resolved import write_study
from shapewright.studies.run.robust import read_robust
from shapewright.studies.run.status import State, stage_states
from shapewright.studies.run.verify import verify
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, dump, load_study
from shapewright.studies.schema.scatter import Scatter
from tests.studies.study_cases import write_tiny

BAR = sw.families.closed_bar(control_points=8, start="disc")
ON_FEM = {"on": "fem", "starts": 1}


def bar(**sections):
    torsion = sw.Problem(sw.physics.poisson(dimension=2), source=2.0, dirichlet={"wall": 0.0})
    given = {"maximize": {"mean": "torsional_constant"}, "optimizer": ON_FEM} | sections
    return sw.Study(sw.Design(BAR, mesh_size=0.25), torsion, **given)


def plate(load, *, coefficients=None, **sections):
    """A clamped plate, pulled at its right side."""
    problem = sw.Problem(
        "plane_stress",
        coefficients={"youngs_modulus": 2.0, "poisson_ratio": 0.3} | (coefficients or {}),
        dirichlet={"left": {"u": 0.0, "v": 0.0}},
        natural={"right": load},
    )
    family = sw.families.plate_with_hole(width=4.0, height=3.0, radius=0.7, control_points=8)
    return sw.Study(sw.Design(family, mesh_size=0.5), problem, **({"optimizer": ON_FEM} | sections))


def values_of(study):
    setup = build_setup(study)
    return FemModel(setup).solve(setup.initial).values


def test_a_bar_whose_wall_is_offset_has_the_torsion_of_the_larger_disc():
    """J = pi r^4 / 2 of a disc, and the mean of (r + d)^4 over a normal d is r^4 + 6 r^2 s^2 + 3 s^4."""
    setup = build_setup(bar(scatter={"offset": {"normal": [0.0, 0.05]}}))
    found = FemModel(setup).solve(setup.initial).values
    outline = setup.family.outline(setup.family.control_points(setup.initial).numpy(), 0)
    r = float(np.hypot(*outline.T).mean())
    assert setup.problem.offset_on == ("wall",)
    for case, values in setup.problem.cases.items():
        exact = math.pi / 2 * (r + values["offset"]) ** 4
        assert found[f"torsional_constant ({case})"] == pytest.approx(exact, rel=2e-3)
    mean = math.pi / 2 * (r**4 + 6 * r**2 * 0.05**2 + 3 * 0.05**4)
    assert found["mean torsional_constant"] == pytest.approx(mean, rel=2e-3)


def test_mean_compliance_under_a_load_of_any_direction_is_half_the_trace():
    """C(a) = f S f of a load f = (cos a, sin a), whose mean over all directions is (S11 + S22)/2."""
    unit = [values_of(plate(load, minimize="compliance"))["compliance"] for load in ({"u": 1.0}, {"v": 1.0})]
    turning = plate(
        {"u": "cos(angle)", "v": "sin(angle)"},
        minimize={"mean": "compliance"},
        scatter={"variables": {"angle": {"uniform": [-math.pi, math.pi]}}, "points": 9},
    )
    assert values_of(turning)["mean compliance"] == pytest.approx(sum(unit) / 2, rel=1e-4)


def test_mean_compliance_of_a_scattered_modulus_is_that_of_its_inverse():
    alone = values_of(plate({"u": 1.0}, minimize="compliance"))["compliance"]
    soft = plate(
        {"u": 1.0},
        coefficients={"youngs_modulus": "2*factor"},
        minimize={"mean": "compliance"},
        scatter={"variables": {"factor": {"uniform": [0.8, 1.2]}}, "points": 5},
    )
    assert values_of(soft)["mean compliance"] == pytest.approx(alone * math.log(1.2 / 0.8) / 0.4, rel=1e-6)


def test_the_worst_is_the_largest_of_all_scenarios():
    found = values_of(
        plate(
            {"u": "cos(angle)", "v": "sin(angle)"},
            minimize={"worst": "compliance", "sharpness": 200},
            scatter={"variables": {"angle": {"values": [-0.3, 0.0, 0.3, 1.5]}}},
        )
    )
    each = [value for name, value in found.items() if name.startswith("compliance (")]
    size = math.sqrt(np.mean(np.square(each)))
    assert max(each) - size * math.log(len(each)) / 200 <= found["worst compliance"] <= max(each)


def test_every_derivative_under_scatter():
    study = plate(
        {"u": "factor", "v": 0.2},
        coefficients={"youngs_modulus": "2*factor"},
        minimize={"worst": "compliance"},
        constraints=[sw.at_most({"mean": {"name": "tip", "integrand": "v**2", "on": "right"}}, 9.0)],
        scatter={
            "variables": {"factor": {"normal": [1.0, 0.1]}},
            "offset": {"uniform": [-0.05, 0.05]},
            "points": 2,
        },
    )
    setup = build_setup(study)
    names = [functional.name for functional in setup.problem.functionals]
    assert names[:2] == ["worst compliance", "mean tip"]
    assert len(setup.problem.cases) == 5  # four, and the mean values, which are not among them
    assert setup.constraints[0].functional == 1
    tests = [test for test in check_study(setup) if test.name.startswith("FEM")]
    chosen = [test for test in tests if any(name in test.name for name in ("objective", "mean tip", "s03", "s04"))]
    assert len(chosen) >= 8
    for test in chosen:
        assert test.passed, f"{test.name}: {test.explanation}"


def moments(scenarios, name):
    at = np.array([s.values[name] for s in scenarios.values()])
    weights = np.array([s.weight for s in scenarios.values()])
    return [float(weights @ at**power) for power in range(5)]


def test_rules_have_the_moments_of_the_distributions():
    scatter = Scatter.model_validate(
        {"variables": {"a": {"normal": [1.0, 2.0]}, "b": {"uniform": [0.0, 2.0]}, "c": {"values": [0.0, 3.0]}}}
    )
    scenarios = scenarios_of(scatter)
    assert list(scenarios)[:2] == ["nominal", "s01"]
    assert scenarios["nominal"].values == {"a": 1.0, "b": 1.0, "c": 1.5}
    assert scenarios["nominal"].weight == 0.0
    np.testing.assert_allclose(moments(scenarios, "a"), [1, 1, 1 + 4, 1 + 3 * 4, 1 + 6 * 4 + 3 * 16])
    np.testing.assert_allclose(moments(scenarios, "b"), [1, 1, 4 / 3, 2, 16 / 5])
    np.testing.assert_allclose(moments(scenarios, "c"), [1, 1.5, 4.5, 13.5, 40.5])
    alone = scenarios_of(scatter.model_copy(update={"rule": "nominal"}))
    assert {name: s.weight for name, s in alone.items()} == {"nominal": 1.0}


def test_a_sobol_sequence_is_the_same_for_the_same_seed():
    def drawn(**changes):
        given = {"variables": {"a": {"normal": [1.0, 2.0]}, "b": {"values": [1.0, 2.0]}}, "rule": "sobol"}
        return scenarios_of(Scatter.model_validate(given | {"samples": 64} | changes))

    assert drawn() == drawn()
    assert drawn() != drawn(seed=1)
    assert len(drawn()) == 65
    first, mean, square, *_ = moments(drawn(), "a")
    assert (first, mean) == pytest.approx((1.0, 1.0), abs=0.05)
    assert square == pytest.approx(5.0, abs=0.3)
    assert moments(drawn(), "b")[1] == pytest.approx(1.5, abs=0.05)


def test_control_points_move_so_that_the_curve_is_offset():
    theta = BAR.default * torch.tensor([1.0, 1.2, 1.0, 0.9, 1.1, 1.0, 1.0, 1.2], dtype=torch.float64)
    points = BAR.control_points(theta)
    loop = LoopQuadrature(BAR.loops[0])
    area, perimeter = float(loop.area(points)), float(loop.perimeter(points))
    for distance in (-0.04, 0.04):
        grown = float(loop.area(offset_points(BAR, points, distance, ("wall",))))
        assert grown == pytest.approx(area + distance * perimeter + math.pi * distance**2, rel=5e-4)


def test_joints_slide_along_what_stays_and_holes_shrink():
    family = Bracket(control_points=4)
    points = family.control_points(family.default)
    moved = offset_points(family, points, 0.1, ("lower", "upper"))
    low, high = points.amin(0), points.amax(0)
    np.testing.assert_allclose(moved.amin(0), low - torch.tensor([0.0, 0.1]), atol=1e-6)
    np.testing.assert_allclose(moved.amax(0), high + torch.tensor([0.0, 0.1]), atol=1e-6)
    around = offset_points(family, points, 0.1, family.tags)
    np.testing.assert_allclose(around.amax(0), high + 0.1, atol=1e-6)
    assert moving_tags(family) == family.tags
    holed = sw.families.plate_with_hole(width=4.0, height=3.0, radius=0.7, control_points=8)
    assert moving_tags(holed) == ("hole",)
    points, hole = holed.control_points(holed.default), holed.loop_slices[1]
    moved = offset_points(holed, points, 0.1, ("hole",))
    assert float(moved[hole].norm(dim=-1).max()) < float(points[hole].norm(dim=-1).max()) - 0.09
    np.testing.assert_array_equal(moved[holed.loop_slices[0]], points[holed.loop_slices[0]])


TINY = (
    "optimizer.on=fem",
    "optimizer.starts=1",
    "validation.discretization_error=0.01",
    "objective={maximize: {worst: torsional_constant}}",
    "physics.source={u: 2.0*factor}",
    "scatter={variables: {factor: {values: [0.9, 1.1]}}, offset: {normal: [0.0, 0.03]}, points: 2}",
)


def test_a_study_with_scatter_ends_in_a_certificate_of_every_scenario(tmp_path):
    setup = build_setup(load_study(write_tiny(tmp_path), TINY))
    run = Run(setup, Workspace(tmp_path / "out"))
    run.workspace.folder.mkdir()
    write_study(setup.study, run.workspace, {})
    content = validate(run)
    assert content["accepted"], content["reasons"]
    cases = content["objective"]["cases"]
    assert list(cases["each"]) == ["nominal", "s01", "s02", "s03", "s04"]
    assert cases["each"]["s01"]["scenario"] == {"factor": 0.9, "offset": pytest.approx(-0.03)}
    assert cases["worst"]["case"] == "s01"  # the smaller bar under the smaller source
    assert cases["worst"]["value"] == min(case["fem"] for case in cases["each"].values())
    levels = cases["each"]["s01"]["fem_levels"]
    assert len(levels) == 3
    robust = read_robust(run.workspace.path("robust.json"))
    assert robust.robust.worst >= robust.nominal.worst * (1 - 1e-3)
    assert robust.scenarios["s01"].robust == pytest.approx(cases["each"]["s01"]["fem"], rel=0.02)
    assert all(finding.ok for finding in verify(run.workspace.folder))
    stages = design_states(run)
    assert stages == {"optimize": State.DONE, "compare": State.DONE, "export": State.DONE, "validate": State.DONE}


def design_states(run):
    return {state.stage: state.state for state in stage_states(run, design_stages(run.setup.study.model))}


def test_the_trust_region_ends_where_slsqp_does(tmp_path):
    study = bar(
        maximize={"mean": "torsional_constant"},
        constraints=[sw.equals("area", 3.0)],
        scatter={"offset": {"normal": [0.0, 0.05]}, "compare": False},
        optimizer=ON_FEM | {"method": "trust_region", "kkt_tolerance": 1e-3},
    )
    setup = build_setup(study)
    store = SolutionStore(setup, tmp_path)
    config = study.model.optimizer
    found = search_by_trust_region(setup, None, config, store, tmp_path / "starts.json").best
    alone = FemModel(setup)
    best = optimize(setup, alone, config.model_copy(update={"method": "slsqp"})).best
    assert found.objective == pytest.approx(best.objective, rel=1e-5)
    assert store.solves["forward"] % 3 == 0


def test_the_study_loads_back(tmp_path):
    study = load_study(write_tiny(tmp_path), TINY)
    path = tmp_path / "again.yaml"
    path.write_text(dump(study, tmp_path))
    assert load_study(path).model == study.model
    assert "scatter" not in json.loads(load_study(write_tiny(tmp_path)).model.model_dump_json())


BASE = "optimizer.on=fem", "objective={maximize: {mean: torsional_constant}}"
REFUSED = {
    "nothing": ("scatter={}", "scatter: found neither variables nor offset"),
    "two distributions": (
        "scatter={offset: {normal: [0, 1], uniform: [0, 1]}}",
        "scatter.offset: found normal and uniform of normal, uniform and values; expected one of them",
    ),
    "no deviation": ("scatter={offset: {normal: [0, 0]}}", "scatter.offset.normal: found the standard deviation 0"),
    "crossing": ("scatter={offset: {uniform: [1, 0]}}", "scatter.offset.uniform: found [1.0, 0.0]"),
    "one value": ("scatter={offset: {values: [1]}}", "scatter.offset.values: found a list of 1"),
    "a region": ("scatter={offset: {normal: [0, 0.1], on: rim}}", "scatter.offset.on: found 'rim'; expected"),
    "a name": ("scatter={variables: {x: {normal: [0, 1]}}}", "scatter.variables.x: found 'x', the name of"),
    "the offset's name": ("scatter={variables: {offset: {normal: [0, 1]}}}", "scatter.variables.offset: found"),
    "a name of words": ("scatter={variables: {my load: {normal: [0, 1]}}}", "scatter.variables.my load: found"),
    "too many": (
        "scatter={variables: {a: {normal: [0, 1]}, b: {normal: [0, 1]}, c: {normal: [0, 1]}}, points: 9}",
        "scatter: found 729 scenarios; expected at most 200",
    ),
    "points of sobol": (
        "scatter={offset: {normal: [0, 1]}, rule: sobol, points: 5}", "scatter.points: found it with rule sobol",
    ),
    "samples of gauss": ("scatter={offset: {normal: [0, 1]}, samples: 5}", "scatter.samples: found samples or seed"),
    "a typo": ("scatter={ofset: {normal: [0, 1]}}", "scatter.ofset: unknown key; did you mean 'offset'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_by_its_key(tmp_path, name):
    override, message = REFUSED[name]
    with pytest.raises(StudyError) as caught:
        build_setup(load_study(write_tiny(tmp_path), [*BASE, override]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


SCATTER = "scatter={offset: {normal: [0.0, 0.05]}}"
BESIDE = {
    "a plain objective": (
        ("optimizer.on=fem", SCATTER),
        "objective.maximize: found 'torsional_constant'; expected {mean: torsional_constant} or {worst: torsional",
    ),
    "a sum": (
        ("optimizer.on=fem", SCATTER, "objective={maximize: {sum: torsional_constant}}"),
        "objective.maximize: found 'sum of torsional_constant'; expected mean or worst",
    ),
    "a surrogate": ((SCATTER, BASE[1]), "optimizer.on: found 'surrogate' with scatter; expected fem"),
    "load cases": (
        (*BASE, SCATTER, "physics.cases={one: {source: {u: 1.0}}}"), "scatter: found it beside physics.cases",
    ),
    "a formula without scatter": (
        ("optimizer.on=fem", "physics.source={u: 2*factor}"), "physics.source.u: found the name 'factor'",
    ),
    "a mean without scatter": (BASE, "objective.maximize: found 'mean torsional_constant'; expected the name"),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_does_not_go_with_scatter_is_named(tmp_path, name):
    overrides, message = BESIDE[name]
    with pytest.raises(StudyError) as caught:
        build_setup(load_study(write_tiny(tmp_path), overrides))
    assert message in str(caught.value)
