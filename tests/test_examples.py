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
