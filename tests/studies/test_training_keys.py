"""Promise: a release does not train again what is trained: training sections hash as when their stages were made.

The hashes were recorded before the sections came to share one base; keys have their first names in them.
"""

from pathlib import Path

import pytest

from shapewright.studies.files import content_key
from shapewright.studies.schema.evolution_study import EvolutionStudyModel, EvolutionTraining
from shapewright.studies.schema.learning import Training
from shapewright.studies.schema.loader import load_study
from shapewright.studies.schema.operator_study import OperatorStudyModel, PhysicsTraining
from shapewright.studies.schema.renamed import first_named
from shapewright.studies.schema.study import StudyModel

STUDIES = Path(__file__).parents[2] / "studies"
DEFAULTS = {
    Training: "296e9afa55a0f9b1",
    PhysicsTraining: "b0d60fdf33159134",
    EvolutionTraining: "8c635cbd60954b44",
}
SHIPPED = {
    "burgers": (EvolutionStudyModel, "b22343d10cfda8c8"),
    "channel_flow": (OperatorStudyModel, "3ede2d8bdbf78016"),
    "hyperelasticity": (OperatorStudyModel, "3d6edfa1ff728e2f"),
    "lid_cavity": (OperatorStudyModel, "d72f3df21c851126"),
    "nonlinear_poisson": (OperatorStudyModel, "6f480fbe60de24f7"),
    "ns_body": (StudyModel, "d8ba71172c15192c"),
    "plate_hole": (StudyModel, "159d13ba7e154c51"),
    "stokes_body": (StudyModel, "505652e1f7948dc3"),
    "stokes_square": (StudyModel, "b3be29a7b7d41cbf"),
    "torsion": (StudyModel, "93e558c3ba5a12ba"),
}


def key_of(training):
    return content_key(first_named("training", training.model_dump(mode="json")))


@pytest.mark.parametrize("section", DEFAULTS, ids=lambda section: section.__name__)
def test_defaults_have_the_recorded_key(section):
    assert key_of(section()) == DEFAULTS[section]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_training_section_has_the_recorded_key(name):
    model, key = SHIPPED[name]
    assert key_of(load_study(STUDIES / f"{name}.yaml", model=model).model.training) == key
