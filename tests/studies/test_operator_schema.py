"""Promise: the schema of operator studies is what editors get, describes every key, and loses no option."""

import dataclasses
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from shapewright.studies.problem.operator_setup import load_operator_study
from shapewright.studies.schema.loader import dump
from shapewright.studies.schema.operator_study import (
    SCHEMA_FILE,
    OperatorStudyModel,
    PhysicsTraining,
    json_schema_text,
)
from shapewright.surrogate.training.physics_training import FIRST_SEED, PhysicsTrainingConfig

SHIPPED = sorted(
    path for path in Path(SCHEMA_FILE).parent.glob("*.yaml") if "\nkind: operator\n" in f"\n{path.read_text()}"
)
OF_THE_PROBLEM = {"solutions", "weights", "meshes"}  # what the training takes as objects
MINIMAL = {"kind": "operator", "name": "n", "geometry": {"family": "cavity"}, "physics": {"name": "poisson"}}


def message(**sections):
    with pytest.raises(ValidationError) as caught:
        OperatorStudyModel.model_validate(MINIMAL | sections)
    return " ".join(f"{e.get('ctx', {}).get('key', '')} {e['msg']}" for e in caught.value.errors())


def test_the_shipped_json_schema_is_current():
    current = SCHEMA_FILE.read_text(encoding="utf-8")
    assert current == json_schema_text(), "run: python -m shapewright.studies.schema.operator_study"


def test_every_key_is_described():
    schema = json.loads(json_schema_text())
    for model in (schema, *schema["$defs"].values()):
        assert model["description"], model["title"]
        for name, entry in model["properties"].items():
            target = schema["$defs"].get(entry.get("$ref", "").rpartition("/")[2], {})
            assert entry.get("description") or target.get("description"), f"{model['title']}.{name}"


def test_no_training_option_is_lost():
    """What the training takes and what a study may set are the same, but for what belongs to the problem."""
    fields = {field.name for field in dataclasses.fields(PhysicsTrainingConfig)}
    assert fields == set(PhysicsTraining.model_fields) - OF_THE_PROBLEM
    PhysicsTrainingConfig(**PhysicsTraining().model_dump(exclude=OF_THE_PROBLEM))


def test_held_out_instances_and_known_solutions_have_seeds_of_their_own():
    schema = json.loads(json_schema_text())
    largest = schema["$defs"]["Evaluation"]["properties"]["seed"]["maximum"]
    assert largest + 1 < FIRST_SEED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_load_and_come_back_from_their_own_dump(path, tmp_path):
    study = load_operator_study(path)
    (tmp_path / "again.yaml").write_text(dump(study, tmp_path))
    assert dump(load_operator_study(tmp_path / "again.yaml"), tmp_path) == dump(study, tmp_path)
    assert path.read_text().startswith("# yaml-language-server: $schema=operator_schema.json\n")


def test_there_are_shipped_studies():
    assert {"nonlinear_poisson", "hyperelasticity", "lid_cavity"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize(
    ("sections", "mend"),
    [
        ({"instances": {"a": {}}}, "found neither of uniform and normal; expected one of them"),
        ({"instances": {"a": {"uniform": [0, 1], "normal": [0, 1]}}}, "found both of uniform and normal"),
        (
            {"instances": {"a": {"uniform": [2, 1]}}},
            "uniform found [2.0, 1.0]; expected [lower, upper] with lower < upper",
        ),
        ({"instances": {"a": {"normal": [0, 0]}}}, "greater than 0"),
        ({"training": {"points": [500, 100]}}, "points found [500, 100]; expected [least, largest]"),
        ({"training": {"loss": "strong"}}, "'energy' or 'weak_residual'"),
        ({"evaluation": {"points": []}}, "at least 1 item"),
        ({"evaluation": {"seed": 1_000_001}}, "less than or equal to 1000000"),
        ({"kind": "design"}, "'operator'"),
        ({"objective": {"maximize": "area"}}, "Extra inputs"),
    ],
)
def test_what_is_wrong_says_how_to_mend_it(sections, mend):
    assert mend in message(**sections)
