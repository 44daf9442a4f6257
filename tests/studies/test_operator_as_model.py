"""Promise: a study that names an operator for all shapes ends in a certificate, without samples and without training.

The operator is untrained: that finite elements in the loop make its optimum a true one is tested, not its accuracy.
"""

import json
from pathlib import Path

import pytest

import shapewright as sw
from shapewright.studies.optimize.optimizer import ExitReason
from shapewright.studies.problem.operators import open_operator
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run import search
from shapewright.studies.run.pipeline import design_stages, validate
from shapewright.studies.run.verify import verify
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import StudyError, load_study
from tests.studies.study_cases import setup_of, tiny_run, write_tiny, write_tiny_operator

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = "model={operator: tiny.safetensors}"
ON_FEM = ("optimizer.on=fem", "optimizer.method=trust_region")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("operator")
    write_tiny(folder)
    write_tiny_operator(folder / "tiny.safetensors")
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    said = []
    study = load_study(folder / "tiny.yaml", [OPERATOR, "optimizer.starts=1"])
    certificate = sw.run(study, folder / "out", report=lambda *entry: said.append(entry))
    return certificate, folder / "out", said


def test_the_certificate_names_the_operator(finished):
    certificate, folder, _ = finished
    assert certificate.accepted, certificate.reasons
    assert certificate.operator.model_dump() == {
        "name": "poisson_2d", "gradient": "lagrangian", "novelty": 0.0, "outside_by": None,
    }  # fmt: skip
    assert certificate.novelty is None
    assert (certificate.model.by, certificate.model.decisive) == ("operator", False)
    assert certificate.model.verdict.startswith("The operator that searched ")
    optimum = json.loads((folder / "optimum.json").read_text())
    assert [start["by"] for start in optimum["starts"]] == ["surrogate", "fem"]
    assert optimum["exit"]["reason"] == ExitReason.STATIONARY.name
    assert optimum["fem_solves"]["tangent"] == 6 * optimum["fem_solves"]["forward"]  # along each parameter


def test_neither_samples_nor_training_are_made_and_that_is_said(finished):
    _, folder, said = finished
    records = {name: Workspace(folder).record(name) for name in ("sample", "train", "optimize", "validate")}
    assert [name for name, record in records.items() if record is not None] == ["optimize", "validate"]
    assert said[0] == ("sample, train", 1, 1, "skipped: operator poisson_2d needs neither samples nor training")
    assert said[1][3] == "poisson_2d, gradient lagrangian; start: novelty 0, all descriptors are within its range"


def test_the_folder_is_as_certified_and_the_report_names_the_operator(finished):
    _, folder, _ = finished
    differing = [finding for finding in verify(folder) if not finding.ok]
    assert not differing
    assert "Operator poisson_2d for all shapes of a physics" in (folder / "report.html").read_text()


def test_a_second_run_does_nothing_again(finished, folder, monkeypatch):
    monkeypatch.setattr(search, "search_by_trust_region", None)
    study = load_study(folder / "tiny.yaml", [OPERATOR, "optimizer.starts=1"])
    assert sw.run(study, folder / "out") == finished[0]


def test_a_program_takes_the_operator_in_the_place_of_a_surrogate(folder, finished):
    study = load_study(folder / "tiny.yaml")
    operator = sw.operator(folder / "tiny.safetensors", gradient="through_operator")
    best = sw.optimize(study, sw.TrustRegion(starts=1, kkt_tolerance=1e-2), model=operator).best
    assert best.reason is ExitReason.STATIONARY
    assert best.objective == pytest.approx(finished[0].objective.fem_mapped, rel=1e-3)


def test_a_trust_region_on_finite_elements_needs_no_model(finished, tmp_path):
    run = tiny_run(tmp_path, *ON_FEM)
    certificate = validate(run)
    optimum = json.loads((tmp_path / "optimum.json").read_text())
    assert certificate["accepted"], certificate["reasons"]
    assert certificate["model"] is None
    assert [start["by"] for start in optimum["starts"]] == ["fem"]
    assert certificate["objective"]["fem"] == pytest.approx(finished[0].objective.fem, rel=1e-4)


def test_an_optimum_outside_the_population_is_said_by_how_much(tmp_path):
    write_tiny_operator(tmp_path / "narrow.safetensors", reach=0.5)
    setup = build_setup(load_study(write_tiny(tmp_path), ["model={operator: narrow.safetensors}"]))
    outside = open_operator(setup, setup.study.model.operator).outside(setup.initial)
    assert outside.descriptor in ("aspect", "perimeter", "extent")
    assert outside.share > 1
    assert str(outside).startswith(f"novelty {outside.share:.2g}, {outside.descriptor} is outside")


REFUSED = {
    "no such operator": (("model={operator: poison_2d}",), "'poison_2d'; expected poisson_2d, elasticity_2d, or a"),
    "no such file": (("model={operator: none.safetensors}",), "found 'none.safetensors', but no file "),
    "coefficient": (
        (OPERATOR, "physics.coefficients={conductivity: 1 + x**2}"),
        "does not fit this study: coefficient 'conductivity' varies in space; operator poisson_2d takes constant",
    ),
    "physics": (
        (OPERATOR, "physics.name=nonlinear_poisson", "objective={maximize: integral}"),
        "does not fit this study: physics is 'nonlinear_poisson'; operator poisson_2d serves poisson",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_study_that_does_not_fit_is_refused_before_anything_runs(name, folder, tmp_path):
    overrides, message = REFUSED[name]
    study = load_study(folder / "tiny.yaml", overrides)
    with pytest.raises(StudyError) as caught:
        sw.run(study, tmp_path / "out")
    assert str(caught.value).startswith(f"override '{overrides[0]}': model.operator: ")
    assert message in str(caught.value)
    assert not Workspace(tmp_path / "out").path("resolved.yaml").exists()


def test_navier_stokes_is_refused(folder):
    path = ROOT / "studies" / "ns_body.yaml"
    setup = build_setup(load_study(path, [f"model={{operator: {folder / 'tiny.safetensors'}}}"]))
    with pytest.raises(StudyError, match="physics is 'navier_stokes'; operator poisson_2d serves poisson"):
        open_operator(setup, setup.study.model.operator)


@pytest.mark.parametrize(
    ("overrides", "model", "on", "method"),
    [
        ((), None, "surrogate", "slsqp"),
        (("model=fem",), "fem", "fem", "slsqp"),
        (("model=auto",), "auto", "surrogate", "slsqp"),
        ((OPERATOR,), "operator", "surrogate", "trust_region"),
        ((OPERATOR, "optimizer.method=slsqp"), "operator", "surrogate", "slsqp"),
        ((OPERATOR, "optimizer.on=fem"), None, "fem", "trust_region"),
    ],
)
def test_what_a_study_says_of_its_model(overrides, model, on, method):
    study = setup_of(*overrides).study.model
    assert (study.optimizer.on, study.optimizer.method) == (on, method)
    assert ("operator" if study.operator else None) == (model if model == "operator" else None)
    stages = [stage.name for stage in design_stages(study)]
    assert ("surrogate" in stages) == (model in (None, "operator") and on == "surrogate")
    assert ("sample" in stages) == (model is None and on == "surrogate")


def test_a_study_that_says_nothing_of_a_model_lets_it_be_chosen(tmp_path):
    path = write_tiny(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith(("sampling", "surrogate", "training"))))
    assert load_study(path).model.undecided
    assert load_study(path, ["training.seed=3", "sampling.seed=3"]).model.undecided
    assert not load_study(path, ["training.steps=30"]).model.undecided
    assert not load_study(path, ["optimizer.on=fem"]).model.undecided
