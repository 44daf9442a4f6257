"""Promise: the schema is what editors get, describes every key, is strict, and shows how to mend."""

import dataclasses
import json

import pytest
from pydantic import ValidationError

from shapewright.studies.schema.describe import alternatives, expected, names
from shapewright.studies.schema.evolution_study import EvolutionTraining
from shapewright.studies.schema.learning import FineTuning, Training
from shapewright.studies.schema.operator_study import PhysicsTraining
from shapewright.studies.schema.study import SCHEMA_FILE, StudyModel, json_schema_text
from shapewright.surrogate.training.derivative_informed import TrainingConfig
from shapewright.surrogate.training.evolution_training import EvolutionTrainingConfig
from shapewright.surrogate.training.physics_training import PhysicsTrainingConfig

MINIMAL = {
    "name": "bar",
    "geometry": {"family": "closed_bar"},
    "physics": {"name": "poisson"},
    "objective": {"maximize": "torsional_constant"},
}


def study(**sections):
    return StudyModel.model_validate(MINIMAL | sections)


def message(**sections):
    with pytest.raises(ValidationError) as caught:
        study(**sections)
    return " ".join(
        f"{error.get('ctx', {}).get('key', '')} {error['msg']}" for error in caught.value.errors()
    )


def test_the_shipped_json_schema_is_current():
    current = SCHEMA_FILE.read_text(encoding="utf-8")
    assert current == json_schema_text(), "run: python -m shapewright.studies.schema.study"


def test_every_key_is_described():
    schema = json.loads(json_schema_text())
    models = [schema, *schema["$defs"].values()]
    for model in models:
        assert model["description"], model["title"]
        for name, entry in model["properties"].items():
            target = schema["$defs"].get(entry.get("$ref", "").rpartition("/")[2], {})
            assert entry.get("description") or target.get("description"), f"{model['title']}.{name}"


def test_a_minimal_study_has_defaults():
    model = study()
    assert model.sampling.designs == 1000
    assert model.surrogate.grid == (32, 32)
    assert model.surrogate.modes_per_axis == (10, 10)
    assert model.objective.name == "torsional_constant"
    assert model.objective.sign == -1
    assert json.loads(model.model_dump_json())["validation"]["refinements"] == 3


def test_no_training_option_is_lost():
    """What the training takes and what a study may set are the same, so no key is silently ignored."""
    training = pytest.importorskip("shapewright.surrogate.training.derivative_informed")
    fields = {field.name for field in dataclasses.fields(training.TrainingConfig)}
    assert fields == set(Training.model_fields) - {"fine_tuning"}
    assert set(FineTuning.model_fields) < fields


def test_tensor_galore_truncates_the_channels_in_unless_a_study_says_otherwise():
    for training in (Training(), PhysicsTraining(), EvolutionTraining()):
        assert training.optimizer == "tensor_galore"
        assert training.rank.model_dump() == {"frequencies": 1.0, "channels_in": 0.25, "channels_out": 1.0}
    for config in (TrainingConfig(), PhysicsTrainingConfig(), EvolutionTrainingConfig()):
        assert (config.optimizer, config.rank) == ("tensor_galore", {"channels_in": 0.25})


@pytest.mark.parametrize(
    ("given", "rank"),
    [({"rank": 0.25}, 0.25), ({"rank": [1, 1, 1, 0.25, 1]}, (1.0, 1.0, 1.0, 0.25, 1.0)), ({"moments": "8bit"}, None)],
)
def test_keys_of_tensor_galore_mean_what_they_meant_when_it_had_to_be_named(given, rank):
    for named in ({}, {"optimizer": "tensor_galore"}):
        training = study(training=given | named).training
        assert training.rank == (Training().rank if rank is None else rank)
        assert training.rank_rule == "spectrum"


@pytest.mark.parametrize("beside", [{}, {"rank": 0.25, "rank_rule": "spectrum", "update_gap": 200, "moments": "full"}])
def test_adamw_stays_an_option_also_in_a_resolved_study_of_the_days_when_it_was_the_default(beside):
    training = study(training={"optimizer": "adamw"} | beside).training
    assert training.optimizer == "adamw"
    assert study(training=json.loads(training.model_dump_json())).training == training


@pytest.mark.parametrize(
    "sections",
    [
        {"name": 3},
        {"name": "a/b"},
        {"name": ""},
        {"optimizer": {"max_iterations": "50"}},
        {"optimizer": {"max_iterations": 50.0}},
        {"optimizer": {"max_iterations": True}},
        {"optimizer": {"max_iterations": 0}},
        {"optimizer": {"tolerance": "1e-8"}},
        {"optimizer": {"tolerance": float("inf")}},
        {"optimizer": {"tolerance": 0.0}},
        {"optimizer": {"method": "SLSQP"}},
        {"optimizer": {"iterations": 3}},
        {"geometry": {"family": "closed_bar", "mesh_size": -0.1}},
        {"geometry": {"family": "closed_bar", "thickness": 0}},
        {"geometry": {"family": "closed_bar", "length_unit": "inch"}},
        {"geometry": {"family": "closed_bar", "initial": {"r0": "1"}}},
        {"geometry": {"family": "closed_bar", "options": {"radius": float("nan")}}},
        {"geometry": {"family": "closed_bar", "options": {"center": [1.0, None]}}},
        {"geometry": {}},
        {"physics": {"name": "poisson", "source": {"u": True}}},
        {"physics": {"name": "poisson", "source": float("nan")}},
        {"physics": {"name": "poisson", "dirichlet": [{"on": [], "u": 0.0}]}},
        {"physics": {"name": "poisson", "dirichlet": [{"u": 0.0}]}},
        {"objective": {"maximise": "integral"}},
        {"objective": {"minimize": {"name": "mismatch"}}},
        {"sampling": {"seed": -1}},
        {"training": {"rank": {"channels_in": 0.0}}},
        {"training": {"rank": {"channels": 0.5}}},
        {"training": {"rank": [0.5, 1.0]}},
        {"surrogate": {"mollifier": "cubic"}},
        {"surrogate": {"grid": [32]}},
        {"surrogate": {"radius": 1.5}},
        {"optimizer": {"radius": 1.5}},
        {"infill": {"share": 1.0}},
        {"validation": {"refinements": 2}},
        {"validation": {"gradient_cosine": 1.5}},
        {"solver": {}},
    ],
)
def test_what_is_wrong_is_refused(sections):
    with pytest.raises(ValidationError):
        study(**sections)


@pytest.mark.parametrize(
    ("sections", "mend"),
    [
        (
            {"geometry": {"family": "f", "bounds": {"r0": [2.0, 1.0]}}},
            r"r0 found [2.0, 1.0]; expected [lower, upper]",
        ),
        (
            {"geometry": {"family": "f", "bounds": {"r0": [1, 2]}, "initial": {"r0": 3}}},
            "initial.r0 found 3.0; expected",
        ),
        ({"model": "fem", "optimizer": {"on": "surrogate"}}, "found fem with optimizer.on surrogate; expected"),
        (
            {"model": {"operator": "poisson_2d"}, "infill": {}},
            "infill found it with an operator for all shapes; expected none: `shapewright train` tunes the operator",
        ),
        (
            {"training": {"optimizer": "adamw", "moments": "8bit"}},
            "found 8bit, which optimizer adamw has no use for; expected tensor_galore",
        ),
        (
            {"training": {"optimizer": "adamw", "rank": {"channels_in": 0.5}}},
            "rank found it, which optimizer adamw has no use for; expected tensor_galore",
        ),
        ({"training": {"optimizer": "adamw", "rank": 0.5}}, "found 0.5, which optimizer adamw has no use for"),
        ({"infill": {"steps": 10}}, "found it with optimizer.method slsqp; expected trust_region"),
        ({"objective": {}}, "found neither of maximize and minimize; expected one"),
        (
            {"objective": {"maximize": "a", "minimize": "b"}},
            "found both of maximize and minimize; expected one",
        ),
        (
            {"constraints": [{"quantity": "area"}]},
            "found none of equals, at_least, at_most; expected exactly one",
        ),
        ({"constraints": [{"quantity": "area", "equals": 1, "at_most": 2}]}, "found equals and at_most of"),
        (
            {"constraints": [{"quantity": "area", "equals": 1}] * 2},
            "more than one 'area equals'; expected each once",
        ),
        (
            {"physics": {"name": "poisson", "natural": [{"on": "wall"}]}},
            "found no component; expected at least one",
        ),
        ({"surrogate": {"grid": [48, 16]}}, "modes found 10; expected at most 8 along y"),
        ({"sampling": {"designs": 4}}, "training.batch found 8; expected at most sampling.designs, 4"),
    ],
)
def test_conflicts_say_how_to_mend_them(sections, mend):
    assert mend in message(**sections)


def test_conditions_and_objectives_read_as_typed():
    model = study(
        physics={"name": "stokes", "dirichlet": [{"on": ["wall", "body"], "u": 0, "v": "y"}]},
        objective={"minimize": {"name": "mismatch", "integrand": "(u - x)**2", "on": "outlet"}},
        constraints=[{"quantity": "area", "equals": "initial"}, {"quantity": "gap", "at_least": 0.0}],
    )
    (condition,) = model.physics.dirichlet
    assert condition.tags == ("wall", "body")
    assert condition.values == {"u": 0, "v": "y"}
    assert (model.objective.name, model.objective.sign) == ("mismatch", 1)
    assert [(c.kind, c.target) for c in model.constraints] == [("equals", "initial"), ("at_least", 0.0)]


@pytest.mark.parametrize(
    ("key", "phrase"),
    [
        (("optimizer", "max_iterations"), "a whole number >= 1"),
        (("validation", "gradient_cosine"), "a number > 0 <= 1"),
        (("optimizer", "method"), "one of slsqp, trust_constr, trust_region"),
        (("constraints", 4, "equals"), "a number or 'initial'"),
        (("physics", "dirichlet", 0, "u"), "a number or a formula"),
        (("geometry", "bounds", "r0"), "a list of 2: a number, a number"),
    ],
)
def test_the_schema_is_told_in_words(key, phrase):
    assert expected(key) == phrase


def test_keys_are_looked_up():
    own = ["name", "integrand", "on", "unit"]
    assert names(("objective", "minimize")) == [*own, "mean", "sum", "weights", "worst", "sharpness"]
    assert alternatives(("geometry", "options", "anything", "at", "all")) == [{}]
    assert alternatives(("optimizer", "max_iteration")) == []
    assert alternatives(("name", "below")) == []
