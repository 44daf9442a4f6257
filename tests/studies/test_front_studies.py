"""Promise: the shipped studies of many answers end at what is known of them, on coarse meshes."""

import math
from pathlib import Path

import numpy as np
import pytest

from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.pipeline import Run, front_of
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study

STUDIES = Path(__file__).parents[2] / "studies"
BY_FEM = ("optimizer.method=slsqp", "optimizer.on=fem", "front.certificates=ends")


def front_by_fem(folder, name, *overrides):
    study = load_study(STUDIES / f"{name}.yaml", [*BY_FEM, *overrides])
    return front_of(Run(build_setup(study), Workspace(folder)))


def test_sections_between_torsion_and_bending_are_ellipses(tmp_path):
    """On an ellipse u is quadratic, and |grad u|^2 on its wall is a number plus a multiple of y^2.

    So it is stationary for torsion at given area and second moment I: J = pi R^4 q/(q^2 + 1) with q = 4 I/(pi R^4),
    until the radii meet their bounds, here at q = 1.8.
    """
    found = front_by_fem(tmp_path, "section", "front.points=6", "geometry.mesh_size=0.3")
    assert [point.accepted for point in found.points] == [True] * 6
    assert [point.dominated_by for point in found.points] == [None] * 6
    torsion, bending = np.array([point.objectives for point in found.points]).T
    q = bending / (math.pi / 4)
    ellipse = math.pi * q / (q**2 + 1)
    inside = q < 1.8
    assert inside.sum() >= 3
    np.testing.assert_allclose(torsion[inside], ellipse[inside], rtol=1e-3)
    assert (torsion[~inside] < ellipse[~inside] * (1 - 1e-3)).all()
    assert q[-1] == pytest.approx(2.46, rel=0.02)
