"""What the README shows of study files is what the program reads.

A passing test does not prove that these studies are accepted: shipped studies have tests of their own.
"""

import re
from pathlib import Path

import pytest
import yaml

from shapewright.studies.problem.operator_setup import load_operator_study
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import load_study

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DESIGN, OPERATOR = re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
MORE = re.search(r"^\| more of the study file .*?\n\n", README, re.MULTILINE | re.DOTALL)[0]
EXAMPLES = [example for row in MORE.splitlines()[2:] for example in re.findall(r"`([^`]+:[^`]+)`", row)]


def location(example):
    """The entry of a study file that an example stands for."""
    content = yaml.safe_load(example)
    if isinstance(content, list):
        return f"constraints=[{example.removeprefix('- ')}]"
    key = next(iter(content))
    return f"objective={{{example}}}" if key == "minimize" else f"physics.{key}={example.partition(':')[2].strip()}"


def test_the_study_line_by_line_is_the_shipped_one(tmp_path):
    path = tmp_path / "torsion.yaml"
    path.write_text(DESIGN, encoding="utf-8")
    shipped = load_study(ROOT / "studies" / "torsion.yaml").model
    assert load_study(path).model == shipped.model_copy(update={"description": ""})


def test_the_operator_study_is_read(tmp_path):
    path = tmp_path / "operator.yaml"
    path.write_text(f"name: waved\n{OPERATOR}", encoding="utf-8")
    assert load_operator_study(path, ()).model.physics.name == "nonlinear_poisson"


@pytest.mark.parametrize("example", EXAMPLES)
def test_further_examples_are_read(example):
    heat = "u_x" in example
    path = "torsion.yaml" if heat else "examples/bracket.yaml"
    overrides = ["optimizer.on=fem", f"geometry.mesh_size={0.5 if heat else 0.25}", location(example)]
    assert build_setup(load_study(ROOT / "studies" / path, overrides)).problem.functionals


def test_all_examples_are_found():
    assert len(EXAMPLES) == 6
