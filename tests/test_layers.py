"""Imports only point down, and the surrogate stands without the finite-element world.

The contracts themselves are in pyproject.toml. The blocked import shows what static analysis cannot: an
import by name at run time, or through a third party.
"""

import subprocess
import sys
from pathlib import Path

from tools.link_tree import link_tree

ROOT = Path(__file__).resolve().parent.parent

BLOCKED = ("dolfinx", "dolfinx_solver", "petsc4py", "mpi4py", "ufl", "basix", "ffcx", "gmsh", "OCP")

IMPORT_WITHOUT = """
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked by the test", name=name)

sys.meta_path.insert(0, Absent())
for name in {modules!r}:
    importlib.import_module(name)
assert not set({blocked!r}) & set(sys.modules)
"""


def modules_of(package: str) -> list[str]:
    """Dotted names of all modules below a room, found without importing them."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    return [f"shapewright.{name}" for name in names]


def run_python(program: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_import_contracts_hold(tmp_path: Path) -> None:
    config = str(ROOT / "pyproject.toml")
    program = f"from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports({config!r}))"
    done = run_python(program, link_tree(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_surrogate_imports_without_dolfinx_and_gmsh() -> None:
    modules = modules_of("surrogate")
    assert len(modules) > 20
    done = run_python(IMPORT_WITHOUT.format(blocked=BLOCKED, modules=modules))
    assert done.returncode == 0, done.stderr


def test_the_block_does_block() -> None:
    done = run_python(IMPORT_WITHOUT.format(blocked=BLOCKED, modules=["gmsh"]))
    assert "gmsh is blocked by the test" in done.stderr
