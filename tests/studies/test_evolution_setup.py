"""Promise: an evolution study loads or says what is wrong by file and line, and gives what its training needs."""

import json
from pathlib import Path

import pytest
import torch

from shapewright.studies.problem.evolution_setup import load_evolution_study
from shapewright.studies.schema.evolution_study import SCHEMA_FILE, json_schema_text
from shapewright.studies.schema.loader import StudyError
from shapewright.surrogate.optim.tensor_galore import TensorGaLore
from shapewright.surrogate.training.loop import make_optimizer

STUDY = Path(__file__).parents[2] / "studies" / "burgers.yaml"
SMALL = ("evaluation.held_out=2", "evaluation.points=32", "evaluation.resolution=512", "initial.deviation=0.3")


def fault_in(*overrides: str) -> str:
    with pytest.raises(StudyError) as caught:
        load_evolution_study(STUDY, overrides)
    return str(caught.value)


def test_schema_file_is_up_to_date() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == json_schema_text()
    assert STUDY.read_text().startswith(f"# yaml-language-server: $schema={SCHEMA_FILE.name}\n")
    assert "burgers" in json.dumps(json.loads(json_schema_text())["$defs"]["BurgersEquation"])


def test_shipped_study_gives_network_truth_and_training() -> None:
    setup = load_evolution_study(STUDY, SMALL)
    held_out, network = setup.held_out, setup.network()
    assert held_out.fields.shape == (2, 32, 33)
    x = torch.arange(32, dtype=torch.float64) / 32
    assert torch.allclose(held_out.fields[..., 0], held_out.initial.values(x), atol=1e-12)
    assert next(network.parameters()).dtype == torch.float32
    assert setup.training_config().viscosity == setup.study.model.equation.viscosity


def test_every_optimizer_can_be_chosen() -> None:
    setup = load_evolution_study(STUDY, (*SMALL, "training.optimizer=adamw"))
    assert type(make_optimizer(setup.network(), setup.training_config())) is torch.optim.AdamW
    setup = load_evolution_study(STUDY, SMALL)
    optimizer = make_optimizer(setup.network(), setup.training_config())
    assert optimizer.param_groups[0]["rank"] == (1.0, 1.0, 1.0, 0.25, 1.0)
    setup = load_evolution_study(STUDY, (*SMALL, "training.optimizer=tensor_galore", "training.rank=0.1"))
    optimizer = make_optimizer(setup.network(), setup.training_config())
    assert isinstance(optimizer, TensorGaLore)
    assert {group["rank"] for group in optimizer.param_groups} == {0.1}


def test_training_never_draws_the_held_out_data() -> None:
    model = load_evolution_study(STUDY).study.model
    last = model.training.seed * 1_000_003 + model.training.steps
    assert last < model.evaluation.seed


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("equation.name=heat", "equation.name: found 'heat' (text); expected 'burgers'"),
        ("training.derivatives=spectral", "expected one of exact, differences, fourier"),
        ("training.collocation=3", "training.collocation: found 3 (a number); expected a whole number >= 4"),
        ("evaluation.resolution=1000", "evaluation.resolution: found 1000; expected a multiple of points, 128"),
        ("initial.lenght=1", "did you mean 'length'?"),
    ],
)
def test_wrong_entries_are_named(override: str, text: str) -> None:
    assert text in fault_in(override)


def test_unresolved_truth_is_refused() -> None:
    setup = load_evolution_study(STUDY, (*SMALL, "evaluation.resolution=32"))
    with pytest.raises(StudyError, match="do not resolve it; expected more"):
        _ = setup.held_out


def test_radius_too_large_for_the_latent_grid_is_refused() -> None:
    setup = load_evolution_study(STUDY, ("surrogate.radius=12",))
    with pytest.raises(StudyError, match="is too small for radius 12"):
        setup.network()
