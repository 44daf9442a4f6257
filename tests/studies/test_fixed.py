"""Promise: a parameter held fixed keeps its value in the shape and is no design variable; weights still serve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shapewright.studies.certify.export import export_cad
from shapewright.studies.problem.models import OutsideBoxWarning, SurrogateModel, outside_box
from shapewright.studies.problem.operator_setup import build_operator_setup, load_operator_study
from shapewright.studies.problem.samples import draw_designs
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.surrogates import build_surrogate, design_problem, open_surrogate
from shapewright.studies.run.pipeline import Run, find_optimum
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, dump, load_study
from shapewright.surrogate.models.model_card import Accuracy, ModelCard
from shapewright.surrogate.models.weights_file import SurrogateFileError, reference_tensors, write_weights
from tests.studies.study_cases import setup_of, write_tiny

FIXED = "geometry.fixed={r2: 0.9, r4: 1.1}"


@pytest.fixture(scope="module")
def held():
    return setup_of(FIXED)


def whole(theta: torch.Tensor) -> torch.Tensor:
    """Designs of the free parameters with the fixed values in their places."""
    return torch.cat([theta[..., :2], torch.full_like(theta[..., :1], 0.9), theta[..., 2:3],
                      torch.full_like(theta[..., :1], 1.1), theta[..., 3:]], -1)  # fmt: skip


def untrained(setup: Setup, path: Path) -> Path:
    """Weights as a training of the study would leave them, but for the training."""
    network, problem = build_surrogate(setup), design_problem(setup)
    errors = Accuracy(dict.fromkeys(setup.space.components, 0.1), 0.1, 0.1, 0.9, 3)
    card = ModelCard(dict(problem.trained_for), {}, "none", 6, errors, {}, 0.0, dict(problem.box))
    write_weights(path, network.state_dict() | reference_tensors(setup.shape_map.mesh, network.operator.grid), card)
    return path


def test_the_shape_is_that_of_the_whole_design_to_the_digit(held):
    free = setup_of()
    assert [p.name for p in held.family.parameters] == ["r0", "r1", "r3", "r5"]
    theta = draw_designs(held, 5, seed=1)
    assert torch.equal(held.family.control_points(theta), free.family.control_points(whole(theta)))
    assert torch.equal(held.shape_map.nodes(theta), free.shape_map.nodes(whole(theta)))
    np.testing.assert_array_equal(held.shape_map.mesh.nodes, free.shape_map.mesh.nodes)
    for name in ("area", "thickness", "jacobian", "centroid_x"):
        assert torch.equal(held.quantity(name, theta), free.quantity(name, whole(theta)))


def test_its_gradient_is_that_of_the_free_ones(held):
    free, theta = setup_of(), draw_designs(setup_of(FIXED), 1, seed=2)[0]
    back = torch.randn(free.shape_map.reference_nodes.shape, generator=torch.Generator().manual_seed(0)).double()
    expected = free.shape_map.pull_back(whole(theta), back)[[0, 1, 3, 5]]
    torch.testing.assert_close(held.shape_map.pull_back(theta, back), expected)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("geometry.fixed={r9: 1.0}", r"geometry.fixed.r9: found 'r9'; expected a parameter: r0, "),
        ("geometry.fixed={r2: .nan}", "geometry.fixed.r2"),
        ("geometry.fixed={r2: wide}", "geometry.fixed.r2: found 'wide' .*expected a number"),
        (
            "geometry.fixed={r0: 1, r1: 1, r2: 1, r3: 1, r4: 1, r5: 1}",
            "geometry.fixed: all parameters are fixed; one at least must be free",
        ),
        ("geometry.fixed={r2: -30.0}", "geometry.fixed: .*clockwise|no valid shape"),
    ],
)
def test_what_cannot_be_held_fixed(tmp_path, override, message):
    path = write_tiny(tmp_path)
    with pytest.raises(StudyError, match=message) as caught:
        build_setup(load_study(path, [override]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", ["bounds={r2: [0.5, 1.5]}", "initial={r2: 1.0}"])
def test_fixed_and_free_at_once_is_refused(tmp_path, section):
    path = write_tiny(tmp_path)
    with pytest.raises(StudyError, match=r"geometry.fixed.r2: found it in (bounds|initial), too; expected it in one"):
        load_study(path, [FIXED, f"geometry.{section}"])


def test_the_resolved_study_loads_back_equal(tmp_path, held):
    (tmp_path / "again.yaml").write_text(dump(held.study))
    assert load_study(tmp_path / "again.yaml").model == held.study.model


def test_a_surrogate_trained_free_serves_where_one_is_fixed(tmp_path, held):
    """It gives what it gives of the whole design; what was trained with one fixed is refused elsewhere."""
    free_setup = setup_of()
    weights = untrained(free_setup, tmp_path / "free.safetensors")
    free, _ = open_surrogate(free_setup, weights)
    own, card = open_surrogate(held, weights)
    theta = draw_designs(held, 3, seed=4)
    for ours, theirs in zip(own.evaluate(theta), free.evaluate(whole(theta)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert not outside_box(held, theta.numpy(), card.box)
    beyond = setup_of("geometry.fixed={r2: 1.6}")
    assert "r2 = 1.6 is outside [0.6, 1.5]" in outside_box(beyond, beyond.initial.numpy()[None], card.box)["r2"]
    with pytest.warns(OutsideBoxWarning, match="r2 = 1.6"):
        SurrogateModel(beyond, open_surrogate(beyond, weights)[0], card.box).evaluate(beyond.initial.numpy()[None])
    narrow = untrained(held, tmp_path / "fixed.safetensors")
    assert open_surrogate(held, narrow)[1].box.keys() == {"r0", "r1", "r3", "r5"}
    for other in (free_setup, setup_of("geometry.fixed={r2: 0.9}"), setup_of("geometry.fixed={r2: 0.8, r4: 1.1}")):
        with pytest.raises(SurrogateFileError, match=r"fixed(\.r\d)?: trained for"):
            open_surrogate(other, narrow)


def test_the_whole_run_holds_it(tmp_path):
    """History, optimum, CAD and report; the optimum of the free ones is the search's."""
    setup = setup_of(FIXED, "optimizer.on=fem", "optimizer.starts=1", "constraints=[]", "optimizer.max_iterations=3")
    run = Run(setup, Workspace(tmp_path))
    found = find_optimum(run)
    assert list(found.parameters) == ["r0", "r1", "r3", "r5"]
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert header.endswith("r0,r1,r3,r5")
    exported = export_cad(setup, found.theta, tmp_path)
    assert exported.relative_error < 1e-9
    points = json.loads((tmp_path / "shapes.json").read_text())["optimum"]["control_points"]
    assert np.linalg.norm(points, axis=-1)[[2, 4]] == pytest.approx([0.9, 1.1], rel=1e-12)


def test_an_operator_study_holds_it_too(tmp_path):
    path = tmp_path / "o.yaml"
    path.write_text(
        "kind: operator\nname: o\ngeometry: {family: star_domain, mesh_size: 0.5, fixed: {c2: 0.05}}\n"
        "physics: {name: poisson, source: {u: 1.0}, dirichlet: [{on: wall, u: 0.0}]}\n"
        "surrogate: {grid: [12, 12], width: 4, hidden: 4, modes: 3, layers: 1}\n"
    )
    setup = build_operator_setup(load_operator_study(path))
    assert list(setup.population.shapes) == ["c1"]
    assert setup.trained_for()["geometry"]["fixed"] == {"c2": 0.05}
    points = setup.family.control_points(setup.family.default)
    free = build_operator_setup(load_operator_study(path, ("geometry.fixed={}",)))
    assert "fixed" not in free.trained_for()["geometry"]
    assert torch.equal(points, free.family.control_points(torch.tensor([0.0, 0.05], dtype=torch.float64)))
