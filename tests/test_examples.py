"""The page-long programs in docs/examples: each runs as it stands, and its numbers are right."""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def run(name: str) -> dict[str, Any]:
    """The global names that an example leaves."""
    return runpy.run_path(str(EXAMPLES / name))


def test_every_example_is_a_page_and_is_tested() -> None:
    own = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 50
        assert f'run("{path.name}")' in own


def test_torsion(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all sections of an area A the disc is the stiffest, with A^2 / (2 pi)."""
    found = run("torsion.py")
    assert found["best"].objective == pytest.approx(3.14159**2 / (2 * math.pi), rel=2e-5)
    printed = capsys.readouterr().out
    assert printed.startswith("Converged: neither the objective nor the constraints change any more. study: Accepted")


def test_own_family() -> None:
    """At a given area the stiffest oval is the one of equal half-axes, a disc but for its eight control points."""
    found = run("own_family.py")
    a, b = found["best"].theta
    area = found["best"].history[0].quantities[0]
    assert a == pytest.approx(b, rel=1e-3)
    assert found["best"].objective == pytest.approx(area**2 / (2 * math.pi), rel=1e-4)


def test_own_physics() -> None:
    """exp(x) is met at the nodes to 4e-5 on cells of size 0.1, an eighth of the error on cells of 0.2."""
    found = run("own_physics.py")
    assert found["error"] < 6e-5
    assert 2.0 < found["solution"].values["content"] < 4.0


def test_surrogate_on_new_shapes() -> None:
    """Measured: value 0.09 %, design gradient 0.71 %, field 0.10 %."""
    found = run("surrogate.py")
    assert found["value_error"] < 0.003
    assert found["gradient_error"] < 0.02
    assert found["field_error"] < 0.003


def test_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("certificate.py")
    certificate = found["certificate"]
    assert certificate.accepted
    assert certificate.objective.fem == pytest.approx(9.0 / (2 * math.pi), rel=2e-3)  # six points are no disc
    assert {"certificate.json", "optimum.step", "report.html"} <= set(found["files"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "study: Accepted"
    assert "ok     KKT residual" in "\n".join(lines)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, shapewright as sw; dir(sw); print(sorted({'torch', 'dolfinx', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_every_public_name_exists() -> None:
    import shapewright

    for name in dir(shapewright):
        assert getattr(shapewright, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'Studdy'; it has .*Study"):
        shapewright.Studdy  # noqa: B018


def test_front(capsys: pytest.CaptureFixture[str]) -> None:
    """The first is the disc, A^2 / (2 pi); between the ends one objective is traded for the other."""
    found = run("front.py")
    front = found["front"]
    assert [point.dominated_by for point in front.points] == [None] * 4
    assert front.points[0].objectives[0] == pytest.approx(9.0 / (2 * math.pi), rel=2e-3)
    torsion, bending = zip(*(point.objectives for point in front.points), strict=True)
    assert sorted(torsion, reverse=True) == list(torsion)
    assert sorted(bending) == list(bending)
    assert {"certificate.json", "optimum.step"} <= set(found["files"])
    assert "study: " in capsys.readouterr().out


def test_robust() -> None:
    """An offset disc is a disc; eight control points make one to a tenth of a percent."""
    found = run("robust.py")
    assert found["mean"] == pytest.approx(found["exact"], rel=2e-3)
