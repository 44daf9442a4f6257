"""What a certificate of a solid takes for the error of its meshes, and how it names limits that a study loosened."""

import math
from types import SimpleNamespace

import pytest

from shapewright.studies.certify.solid_certificate import _limit, _loosened
from shapewright.studies.schema.solid_study import SolidValidation


def level(h, value):
    return SimpleNamespace(mesh_size=h, h=h, cells=round(1e3 / h**3), dofs=round(1e4 / h**3), values={"v": value})


def test_two_meshes_have_the_error_of_order_one():
    found = _limit([level(2.0, 10.0), level(1.6, 11.0)], "v")
    assert found.value == 11.0
    assert found.error == pytest.approx(4.0)  # v(h) = 15 - 2.5 h


@pytest.mark.parametrize("h", [1.95, 2.0, 2.2])
def test_a_second_mesh_that_is_hardly_finer_tells_nothing(h):
    assert _limit([level(2.0, 10.0), level(h, 10.0)], "v").error == math.inf


def test_limits_beyond_their_defaults_are_named():
    given = SolidValidation(moved_mesh=0.02, refinements=2, kkt_residual=0.05)
    assert _loosened(SimpleNamespace(validation=given)) == "moved_mesh 0.02, 2 meshes"
    assert _loosened(SimpleNamespace(validation=SolidValidation())) == ""
