"""A study whose body slips: solved, differentiated through the shape map, and left to the surrogate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import StudyError, load_study

STUDY = Path(__file__).parents[2] / "studies" / "stokes_body.yaml"
NO_SLIP = "- {on: [wall, body], u: 0.0, v: 0.0}"


def study(folder, *changes):
    text = STUDY.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder / "slip.yaml"
    path.write_text(text)
    return load_study(path, ("geometry.mesh_size=0.25", "surrogate.weights=null"))


def test_a_body_that_slips(tmp_path):
    """Less is dissipated than without slip; the design gradient is that of differences of fresh shapes."""
    rough = FemModel(build_setup(study(tmp_path)))
    setup = build_setup(study(tmp_path, (NO_SLIP, "- {on: wall, u: 0.0, v: 0.0}\n  slip: [body]")))
    model = FemModel(setup)
    value, gradient, solution = model.value_and_gradient(setup.initial)
    assert 0.3 * rough.value_and_gradient(setup.initial)[0] < value < 0.9 * rough.value_and_gradient(setup.initial)[0]
    bounds = setup.family.bounds
    generator = torch.Generator().manual_seed(3)
    share = torch.rand(len(bounds), generator=generator, dtype=torch.float64) - 0.5
    direction = (bounds[:, 1] - bounds[:, 0]) * share
    step = 1e-4
    ahead, behind = (model.solve(setup.initial + s * direction).values["dissipation"] for s in (step, -step))
    assert float(gradient @ direction) == pytest.approx((ahead - behind) / (2 * step), rel=1e-6)
    on_body = np.unique(setup.shape_map.mesh.facets_on("body"))
    assert np.abs(solution.fields["velocity"][on_body]).max() > 0.1
    factors = setup.factors()[on_body, :2]
    assert factors.min() > 0  # the surrogate may say what it likes there
    assert setup.trained_for()["physics"]["slip"] == ["body"]


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("slip: [body]", "'u' has a boundary value on 'body', along which it slips; give one"),
        ("slip: [body, body]", "physics.slip.1: found 'body' twice; expected each region once"),
    ],
)
def test_contradictions_are_refused(tmp_path, slip, message):
    with pytest.raises(StudyError, match=message):
        build_setup(study(tmp_path, (NO_SLIP, f"{NO_SLIP}\n  {slip}")))


def test_without_slip_shipped_weights_are_for_the_study_as_before(tmp_path):
    assert "slip" not in build_setup(study(tmp_path)).trained_for()["physics"]
