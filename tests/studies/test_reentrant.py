"""Promise: of a stress that is singular at a re-entrant corner no peak is claimed, however smooth its maximum."""

from __future__ import annotations

import math

import pytest

from shapewright.studies.certify.convergence import DIVERGING, NOT_MONOTONE, Level, extrapolate, extrapolated
from shapewright.studies.certify.export import export_cad
from shapewright.studies.certify.objective_entry import corner_note
from shapewright.studies.certify.refinement import refine, step_mesher
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import load_study

BRACKET = """
import torch
from shapewright import Curve, Family, Parameter

CORNERS = torch.tensor([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]], dtype=torch.float64)

def Bracket():
    lines = tuple(Curve(tag, 2, degree=1) for tag in ("bottom", "right", "ledge", "inner", "top", "left"))
    sides = torch.cat([CORNERS[[k, (k + 1) % 6]] for k in range(6)])
    size = Parameter("size", 1.0, 0.8, 1.2)
    return Family("bracket", "", (size,), (lines,), lambda theta: theta[..., None] * sides.to(theta))
"""


@pytest.fixture(scope="module")
def bracket(tmp_path_factory):
    """An L held at its top and pushed at its right end; its STEP file."""
    folder = tmp_path_factory.mktemp("bracket")
    (folder / "bracket.py").write_text(BRACKET)
    (folder / "s.yaml").write_text(
        "name: s\ngeometry: {family: 'bracket.py:Bracket', mesh_size: 0.25}\n"
        "physics:\n  name: plane_stress\n  dirichlet: [{on: top, u: 0.0, v: 0.0}]\n"
        "  natural: [{on: right, u: 0.0, v: 1.0}]\n"
        "objective: {minimize: peak_von_mises}\n"
    )
    setup = build_setup(load_study(folder / "s.yaml"))
    export_cad(setup, setup.initial, folder)
    return setup, refine(setup, setup.initial, step_mesher(setup, setup.initial, folder / "optimum.step"))


def test_the_peak_at_a_corner_has_no_limit(bracket):
    """It grows by a quarter with every halving; theory: h^(2/16 - 0.4555) for the corner of 270 degrees."""
    setup, refined = bracket
    values = [level.value for level in refined.levels["peak_von_mises"]]
    assert values[2] / values[1] == pytest.approx(2 ** (0.4555 - 1 / 8), rel=0.05)
    found = extrapolated(refined, setup.problem.objective, values[-1])
    assert (found.order, found.note) == (None, DIVERGING)
    assert found.error > 0.1 * values[-1]
    assert "a corner of 270 degrees" in corner_note(found.note, [270.0])


@pytest.mark.parametrize("exponent", [-0.5, -0.33, -0.05, 0.0])
def test_values_that_do_not_settle_show_no_order(exponent):
    """Powers of the cell size, and its logarithm, without limit; small beside the value or not."""
    sizes = [0.4, 0.2, 0.1]
    singular = [math.log(1 / h) if exponent == 0 else h**exponent for h in sizes]
    for share in (1.0, 1e-3):
        values = [1 + share * value for value in singular]
        found = extrapolate([Level(h, h, k, k + 1, v) for k, (h, v) in enumerate(zip(sizes, values, strict=True))])
        assert (found.order, found.note) == (None, DIVERGING)
        assert found.error == pytest.approx(values[2] - values[1], rel=1e-6)
    alternating = [Level(h, h, k, k + 1, v) for k, (h, v) in enumerate(zip(sizes, [1.0, 1.01, 1.0], strict=True))]
    assert extrapolate(alternating).note == NOT_MONOTONE
