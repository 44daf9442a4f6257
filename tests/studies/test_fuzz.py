"""Promise: whatever a study file holds, it is a valid study or one error that names the file and a key.

Shipped studies are spoilt at random, always in the same way (derandomized); most keep their geometry, whose mesh is
then made once.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from shapewright.geometries.design import extension
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.family.family import Family
from shapewright.studies.problem import operator_setup, setup
from shapewright.studies.problem.operator_setup import build_operator_setup, load_operator_study
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.problem.surrogates import build_surrogate
from shapewright.studies.schema.describe import alternatives
from shapewright.studies.schema.loader import Study, StudyError, dump, load_study
from shapewright.studies.schema.operator_study import OperatorStudyModel
from shapewright.studies.schema.study import StudyModel
from tests.studies.fuzz_cases import invalid_studies

WHOLE_FILE = ("not valid YAML", "the file is empty", "found ", "more than ", "has more than ", "the alias ")


def same_meshes(patch: pytest.MonkeyPatch) -> None:
    """Let families of equal curves share a mesh."""
    made: dict[tuple, ShapeMap] = {}
    original = extension.build_shape_map

    def build(family: Family, size: float, *mesh: object, **options: object) -> ShapeMap:
        points = family.control_points(family.bounds.T).tolist()
        key = family.parameters, family.loops, str(points), size, str(mesh), str(options)
        if key not in made:
            made[key] = original(family, size, *mesh, **options)
        return made[key]

    patch.setattr(setup, "build_shape_map", build)
    patch.setattr(operator_setup, "build_shape_map", build)


@pytest.fixture(scope="module", autouse=True)
def meshes():
    with pytest.MonkeyPatch.context() as patch:
        same_meshes(patch)
        yield


def examine(path, text: str) -> Study | None:
    """Load a study and build all that its stages begin with; None where that is refused in the way it should be."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    operator = "\nkind: operator" in f"\n{text}"
    try:
        study = load_operator_study(path) if operator else load_study(path)
        if operator:
            build_operator_setup(study).network()
        else:
            build_surrogate(build_setup(study))
    except StudyError as error:
        refused_well(str(error), str(path), text, OperatorStudyModel if operator else StudyModel)
        return None
    return study


def refused_well(message: str, path: str, text: str, model: type) -> None:
    """Each line names the file, and a key that is there or that the schema has, or says that the file itself is bad."""
    assert len(message) < 10_000
    first = message.splitlines()[0]
    for line in message.splitlines() if all(at.startswith(path) for at in message.splitlines()) else [first]:
        location = re.match(re.escape(path) + r"(:\d+)?: ", line)
        assert location, message
        rest = line[location.end() :]
        if rest.startswith(WHOLE_FILE) or re.match(r"\d+ further errors", rest):
            continue
        parts = rest.partition(": ")[0].split(".")
        key = tuple(int(part) if part.isdecimal() else part for part in parts)
        there = all(str(part).removesuffix("...") in text for part in key if isinstance(part, str))
        assert there or alternatives(key, model), message


@settings(
    max_examples=200, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip
@given(text=invalid_studies())
def test_a_spoilt_study_is_refused_by_file_and_key_or_is_a_study(tmp_path, text):
    study = examine(tmp_path / "study.yaml", text)
    if study is not None:  # and what it writes down is the same study
        (tmp_path / "resolved.yaml").write_text(dump(study))
        assert load_study(tmp_path / "resolved.yaml", (), type(study.model)).model == study.model
