"""Each shipped study, with its shipped surrogate, ends in an accepted certificate at the known optimum.

A passing test does not prove the surrogate good elsewhere in its box: the model card's held-out errors speak of that.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.pipeline import Run, find_optimum, validate
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.model_card import ModelCard

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ("torsion", "stokes_body", "stokes_square")
MANAGED = ("plate_hole", "ns_body")

pytestmark = [pytest.mark.registered, pytest.mark.slow]


ONE_START = "optimizer.starts=1"
FEM_ALONE = ("optimizer.on=fem", "optimizer.method=slsqp", ONE_START)


@contextmanager
def run_of(study: str, overrides: tuple[str, ...]) -> Iterator[Run]:
    with TemporaryDirectory(prefix=f"{study}-") as folder:
        workspace = Workspace(Path(folder))
        with workspace.lock():
            yield Run(build_setup(load_study(ROOT / "studies" / f"{study}.yaml", overrides)), workspace)


@cache
def certificate(study: str) -> dict:
    """Of torsion as it ships, of the others from the study's start alone, which costs an eighth."""
    with run_of(study, () if study == "torsion" else (ONE_START,)) as run:
        return validate(run)


def by_fem_alone(study: str) -> float:
    """Least objective by finite elements alone, on the mesh that moves with the design."""
    with run_of(study, FEM_ALONE) as run:
        return find_optimum(run).objective


@pytest.mark.parametrize("study", STUDIES)
def test_shipped_study_is_accepted(study: str) -> None:
    found = certificate(study)
    assert found["accepted"], found["reasons"]
    # the circle that stokes_square starts from has 0.006 % less than the area that is asked for
    said = "The start violates area equals by 3.1e-06 m^2: its objective measures no gain."
    assert found["warnings"] == ([said] if study == "stokes_square" else [])
    assert found["objective"]["improvement"] > 0.05


def test_torsion_finds_the_disc() -> None:
    """Saint-Venant: the disc is the stiffest of all sections of its area, with A^2 / (2 pi)."""
    found = certificate("torsion")
    area = next(c["value"] for c in found["constraints"] if c["name"] == "area equals")
    assert found["objective"]["fem"] == pytest.approx(area**2 / (2 * math.pi), rel=1e-3)
    assert found["objective"]["fem"] <= area**2 / (2 * math.pi) * (1 + 1e-6)
    assert found["objective"]["surrogate_relative_error"] <= 5e-3


@pytest.mark.parametrize("study", ["stokes_body", "stokes_square"])
def test_surrogate_reaches_the_optimum_of_finite_elements_alone(study: str) -> None:
    assert certificate(study)["objective"]["fem_mapped"] == pytest.approx(by_fem_alone(study), rel=1e-2)


@pytest.mark.parametrize("study", MANAGED)
def test_managed_study_is_accepted_at_the_optimum_of_finite_elements_alone(study: str) -> None:
    found = certificate(study)
    assert found["accepted"], found["reasons"]
    assert found["objective"]["fem_mapped"] == pytest.approx(by_fem_alone(study), rel=1e-4)


def test_the_best_hole_is_equally_stressed_all_along() -> None:
    """In an infinite plate the ellipse of axes 2:1 has the hoop stress s1 + s2 = 3 everywhere, the circle 5."""
    peak = certificate("plate_hole")["objective"]["peak"]
    assert peak["mean"] == pytest.approx(3.0, rel=0.03)
    assert peak["flatness"] < 0.01


def test_finite_elements_alone_find_the_known_body() -> None:
    """24.304 for the circle and about 21.45 for the optimum, from an independent earlier measurement."""
    with run_of("stokes_square", FEM_ALONE) as run:
        found = validate(run)
    assert found["objective"]["initial_fem"] == pytest.approx(24.304, rel=5e-4)
    assert found["objective"]["fem"] == pytest.approx(21.45, rel=5e-4)


@pytest.mark.parametrize("study", [*STUDIES, *MANAGED])
def test_model_card_states_held_out_errors_within_the_promise(study: str) -> None:
    card = ModelCard(**json.loads((ROOT / "studies" / "weights" / f"{study}.card.json").read_text(encoding="utf-8")))
    held_out = card.held_out
    # the trainer splits the held-out designs: half choose the weights, half measure; older trainings used all for both
    assert held_out["designs"] == (64 if study in ("ns_body", "torsion") else 128)
    assert held_out["cosine"] >= (0.999 if study == "torsion" else 0.98)
    if study == "torsion":
        assert max(held_out["field"].values()) <= 0.01
        assert held_out["gradient"] <= 0.03
