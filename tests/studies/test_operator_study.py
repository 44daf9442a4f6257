"""Promise: an operator study runs from file to errors, reuses only what belongs to it, and errors name the key."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from shapewright.geometries.mesh.jacobians import bernstein_jacobians
from shapewright.solvers.errors import SolveError
from shapewright.studies.problem.operator_setup import build_operator_setup, load_operator_study, solve_instances
from shapewright.studies.run.operator_run import (
    fem_cost,
    held_out,
    measure_errors,
    run_operator_study,
    seconds_per_solve,
)
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, load_study
from shapewright.surrogate.models.weights_file import SurrogateFileError
from tests.studies.first_keys import operator_keys
from tests.studies.operator_cases import write_operator
from tests.studies.study_cases import write_tiny
from tests.studies.test_operator_schema import SHIPPED


def setup_of(folder, *overrides, changes=()):
    return build_operator_setup(load_operator_study(write_operator(folder, *changes), overrides))


def run(folder, out, *overrides, report=lambda *progress: None):
    workspace = Workspace(out)
    with workspace.lock():
        return run_operator_study(load_operator_study(write_operator(folder), overrides), workspace, "cpu", report)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run: folder of the study, output folder, setup, network, card."""
    folder = tmp_path_factory.mktemp("operator")
    return folder, folder / "out", *run(folder, folder / "out")


FOLDS = pytest.mark.xfail(reason="corners of channel_flow's box fold: its bounds need narrowing", strict=True)
BOXES = [pytest.param(path, marks=FOLDS if path.stem == "channel_flow" else ()) for path in SHIPPED]


@pytest.mark.parametrize("path", BOXES, ids=lambda path: path.stem)
def test_shipped_studies_build_and_no_design_of_their_box_folds(path):
    """On the meshes of training and of judgement, at all corners of the box and at random designs."""
    setup = build_operator_setup(load_operator_study(path))
    bounds = setup.family.bounds
    theta = torch.cat([torch.cartesian_prod(*bounds), setup.population.draw(40, 5).theta])
    for lift in (*setup.training_lifts, setup.truth_lift):
        mesh = lift.shape_map.mesh
        reference = bernstein_jacobians(mesh, lift.shape_map.reference_nodes)
        parts = [bernstein_jacobians(mesh, lift.shape_map.nodes(part)) / reference for part in theta.split(16)]
        least = min(float(part.min()) for part in parts)
        print(f"{path.stem}, {len(mesh.nodes)} nodes: least Jacobian {least:.3f} of the reference's")
        assert least > 0.05


def test_a_run_leaves_weights_card_history_and_errors(whole):
    _, out, setup, _, card = whole
    content = json.loads((out / "operator.json").read_text())
    assert [entry["step"] for entry in content["history"]] == [4, 8]
    assert {name: list(errors) for name, errors in content["errors"].items()} == {
        name: ["40", "80"] for name in ("mean", "median", "worst")
    }
    assert content["errors"]["mean"] == card.squared_relative_error
    assert json.loads((out / "operator.card.json").read_text()) == json.loads(card.as_json())
    assert card.trained_for == setup.trained_for()


def test_the_stage_and_its_solutions_are_found_again_by_the_keys_of_the_first_release(whole):
    _, out, setup, _, _ = whole
    truth = setup.truth_lift.shape_map.mesh
    keys = operator_keys({"held_out": truth, "validation": truth})
    assert json.loads((out / ".stages" / "learn.json").read_text())["key"] == keys.pop("learn")
    assert set(keys.values()) <= {path.name for path in out.iterdir()}


def test_errors_are_measured_against_the_solver(whole):
    """The held-out solutions anew on the same mesh, compared by hand."""
    _, out, setup, network, card = whole
    truth = held_out(setup, Workspace(out), lambda *progress: None)
    anew = solve_instances(setup, setup.truth_lift, setup.population.draw(3, 1000))
    torch.testing.assert_close(truth.fields, anew.fields, rtol=0, atol=1e-12)
    judged = measure_errors(setup, network, truth)
    assert {str(points): error for points, error in judged.mean.items()} == pytest.approx(card.squared_relative_error)
    assert all(judged.median[n] <= judged.worst[n] for n in (40, 80))


def test_a_second_run_computes_nothing(whole):
    folder, out, _, network, card = whole
    seen = []
    _, again, same = run(folder, out, report=lambda *progress: seen.append(progress))
    assert seen == []
    assert same == card
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def recorder(stages):
    return lambda *progress: stages.append(progress[0])


def test_another_judgement_needs_no_other_training_and_another_training_is_not_skipped(tmp_path):
    run(tmp_path, tmp_path / "out")
    for override, trains in (("evaluation.points=[50]", False), ("training.learning_rate=0.005", True)):
        stages = []
        card = run(tmp_path, tmp_path / "out", override, report=recorder(stages))[2]
        assert ("train" in stages) == trains, override
        assert "held_out" not in stages
        assert list(card.squared_relative_error) == (["40", "80"] if trains else ["50"])


def test_an_interrupted_training_is_saved_at_its_step_and_resumes_bit_for_bit(tmp_path):
    rarely = "training.checkpoint_every=1000"

    def interrupt(stage, done, total, text):
        if (stage, done) == ("train", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="the training is saved at step 3 of 8"):
        run(tmp_path, tmp_path / "out", rarely, report=interrupt)
    steps = []
    resumed = run(tmp_path, tmp_path / "out", rarely, report=lambda *progress: steps.append(progress[:2]))[1]
    assert steps[0] == ("train", 4)
    whole = run(tmp_path, tmp_path / "whole", rarely)[1]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_problem_is_left_alone(tmp_path):
    """Same folder, same training section, other physics: it begins at step one, on solutions of its own."""

    class Killed(Exception):
        pass

    def kill(stage, done, total, text):
        if stage == "train" and done == 5:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, tmp_path / "out", report=kill)
    steps = []
    run(tmp_path, tmp_path / "out", report=lambda *progress: steps.append(progress[:2]))
    assert steps[0] == ("train", 5)  # the same study goes on from its checkpoint at step 4
    steps.clear()
    other = 'physics.source={u: "strength"}'
    run(tmp_path, tmp_path / "out", other, report=lambda *progress: steps.append(progress[:2]))
    assert steps[0] == ("validation", 1)
    assert ("train", 1) in steps


def test_shipped_weights_are_opened_judged_and_refused_for_another_problem(whole, tmp_path):
    folder, out, _, network, card = whole
    weights = f"surrogate.weights={out / 'operator.safetensors'}"
    _, opened, found = run(folder, tmp_path / "out", weights, "evaluation.seed=77")
    assert replace(found, squared_relative_error=card.squared_relative_error) == card
    assert found.squared_relative_error != card.squared_relative_error  # judged on other instances
    _, _, same = run(folder, tmp_path / "out", weights)
    assert same.squared_relative_error == pytest.approx(card.squared_relative_error, rel=1e-4)
    assert torch.equal(opened.operator.projection.weight, network.operator.projection.weight)
    with pytest.raises(SurrogateFileError, match="strength"):
        run(folder, tmp_path / "out", weights, "instances.strength.normal=[1, 3]")
    with pytest.raises(SurrogateFileError, match="there is no such file"):
        run(folder, tmp_path / "out", "surrogate.weights=no.safetensors")


def test_known_solutions_are_of_instances_that_do_not_judge(tmp_path):
    seen = []
    study = load_operator_study(write_operator(tmp_path), ("training.solutions=2", "training.steps=2"))
    run_operator_study(study, Workspace(tmp_path), "cpu", lambda *progress: seen.append(progress[:3]))
    assert ("known", 2, 2) in seen
    assert len(list(tmp_path.glob("known-*.npy"))) == 1
    setup = build_operator_setup(study)
    judged, known = (setup.population.draw(2, seed).theta for seed in (1000, 1001))
    assert not torch.isclose(judged, known).any()


def test_costs_are_measured_for_what_is_solved(whole):
    """Not how long: that there is a time, and that a coarser mesh has the larger error against the resolved one."""
    _, out, setup, network, _ = whole
    truth = held_out(setup, Workspace(out), lambda *progress: None)
    fine, coarse = (fem_cost(setup, truth, size) for size in (0.25, 0.6))
    assert coarse.squared_relative_error > fine.squared_relative_error > 0
    assert coarse.nodes < fine.nodes
    assert min(coarse.seconds, fine.seconds, seconds_per_solve(setup, network, truth.instances, 50, setup.lift)) > 0


def test_solutions_meet_the_values_that_the_lift_prescribes(tmp_path):
    """A region named twice has the value of its last condition, in corners too, for solver and operator alike."""
    text = "dirichlet:\n    - {on: lid, u: 1.0}\n    - {on: wall, u: 2.0}\n    - {on: lid, u: level}"
    setup = setup_of(
        tmp_path,
        changes=[
            ('dirichlet:\n    - {on: wall, u: "level + x*y"}', text),
            ("family: star_domain\n  options: {waves: [3], control_points: 24}", "family: cavity"),
        ],
    )
    instances = setup.population.draw(2, 4)
    solved = solve_instances(setup, setup.lift, instances)
    network = setup.network().double()
    nodes = setup.lift.shape_map.nodes(instances.theta)
    lifted = network._lifting(instances, setup.lift)
    boundary = torch.from_numpy(np.unique(setup.lift.shape_map.mesh.facets))
    torch.testing.assert_close(lifted[:, boundary], solved.fields[:, boundary], rtol=0, atol=1e-12)
    assert nodes.shape[:2] == lifted.shape[:2]


def test_an_instance_that_cannot_be_solved_is_named(tmp_path, monkeypatch):
    from shapewright.solvers.fem.solver import FemSolver

    def fails(self, nodes, parameters):
        raise SolveError("no convergence")

    monkeypatch.setattr(FemSolver, "solve", fails)
    setup = setup_of(tmp_path)
    with pytest.raises(SolveError, match=r"instance 0 \(c1 .*, level .*, strength .*\): no convergence"):
        solve_instances(setup, setup.lift, setup.population.draw(1, 0))


WEAK = ("steps: 8", "loss: weak_residual, steps: 8")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ([("strength*(1", "strenght*(1")], r"12: physics.source.u: .*'strenght'.*strength"),
        ([("  level: {", "  u: {")], "8: instances.u: found 'u', the name of a quantity of physics 'poisson'"),
        ([("  level: {", "  c1: {")], "8: instances.c1: found 'c1', the name of a parameter of the family 'star_do"),
        ([("  level: {", "  pi: {")], "8: instances.pi: found 'pi', the name of the constant pi of formulas; expected"),
        ([("  level: {", "  where: {")], "8: instances.where: found 'where', the name of the function where of"),
        *(
            ([("  level: {", f"  {name}: {{")], f"8: instances.{name}: found '{name}'; expected a name of letters")
            for name in ("lambda", "None", "a-b", "größe", "my level")
        ),
        ([("  level: {", "  sqrt: {")], "8: instances.sqrt: found 'sqrt', the name of the function"),
        ([("[-1, 1]", "[1, -1]")], r"8: instances.level.uniform: found \[1.0, -1.0\]; expected \[lower, upper\]"),
        ([("[-1, 1]", "[0]")], "8: instances.level.uniform: found a list of 1"),
        ([("name: poisson", "name: poison")], "11: physics.name: found 'poison'"),
        (
            [("name: poisson", "name: stokes"), ("strength*(1 + x)", "0")],
            "16: training.loss: found 'energy', which physics 'stokes' has not; expected weak_residual",
        ),
        (
            [("steps: 8", "weights: {u: 2}, steps: 8")],
            "16: training.weights: found it with training.loss energy; expected it with weak_residual only",
        ),
        (
            [("steps: 8", "loss: weak_residual, weights: {w: 2}, steps: 8")],
            "16: training.weights.w: found 'w'; expected a component: u",
        ),
        (
            [("steps: 8", "loss: weak_residual, weights: {u: reynolds}, steps: 8")],
            "16: training.weights.u: .*'reynolds'",
        ),
        (
            [WEAK, ("  dirichlet:\n    - {on: wall, u: \"level + x*y\"}\n", "")],
            "10: physics.dirichlet: found no value of 'u'; expected 'u' prescribed on some region",
        ),
        (
            [("  dirichlet:", "  natural:")],
            "13: physics.natural: found 1 of them; expected none: an operator learns from",
        ),
        (
            [("  dirichlet:", "  pins: [{component: q, on: wall}]\n  dirichlet:")],
            "13: physics.pins.0.component: found 'q'; expected a component: u",
        ),
        (
            [("  dirichlet:", "  pins: [{component: u, on: rim}]\n  dirichlet:")],
            "13: physics.pins.0.on: found 'rim'; expected a boundary region: wall",
        ),
        ([("waves: [3]", "waves: [1]")], "5: geometry.options: .*waves is"),
        ([("steps: 8", "step: 8")], "16: training.step: unknown key; did you mean 'steps'"),
        ([("points: [40, 60]", "points: [60, 40]")], r"16: training.points: found \[60, 40\]; expected \[least, larg"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_key(tmp_path, changes, error):
    with pytest.raises(StudyError, match=f"tiny_operator.yaml:{error}") as caught:
        setup_of(tmp_path, changes=changes)
    assert len(str(caught.value).splitlines()) == 1


def test_a_grid_too_small_for_its_radius_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"tiny_operator.yaml:15: surrogate.grid: .*radius"):
        setup_of(tmp_path, "surrogate.radius=6").network()


def test_each_kind_of_study_is_refused_where_the_other_is_wanted(tmp_path):
    with pytest.raises(StudyError) as caught:
        load_study(write_operator(tmp_path))
    assert str(caught.value).endswith(
        "tiny_operator.yaml:1: kind: found 'operator' (text); expected none, for a design study;"
        " this file is for `shapewright learn`"
    )
    with pytest.raises(StudyError) as caught:
        load_operator_study(write_tiny(tmp_path))
    assert str(caught.value).endswith(
        "tiny.yaml:1: kind: found nothing; expected 'operator'; this file is for `shapewright run`"
    )
    with pytest.raises(StudyError, match=r"kind: found 'oprator' \(text\); expected 'operator'$"):
        load_operator_study(write_operator(tmp_path, ("kind: operator", "kind: oprator")))


def test_data_for_the_surrogate_are_those_of_the_problem(tmp_path):
    setup = setup_of(tmp_path)
    data = setup.data
    assert data.components == ("u",)
    assert data.primary == 1
    assert data.coefficients["conductivity"](torch, {}) == 1.0
    assert asdict(setup.training_config())["points"] == (40, 60)
    assert list(setup.problem.parameters) == ["c1", "level", "strength"]


def test_the_physics_is_integrated_on_meshes_of_several_sizes(tmp_path):
    setup = setup_of(tmp_path, "training.meshes=3", "geometry.mesh_size=0.2")
    nodes = [len(lift.shape_map.mesh.nodes) for lift in setup.training_lifts]
    assert len(set(nodes)) == 3
    assert nodes == sorted(nodes, reverse=True)
    assert setup.training_lifts[0] is setup.lift
