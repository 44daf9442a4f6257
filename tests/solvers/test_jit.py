"""Promise: compiled forms are whole or made anew, and where they cannot be made the user is told what to do."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ufl

from shapewright.solvers.errors import CompilerError
from shapewright.solvers.fem import jit
from shapewright.solvers.fem.backend import MPI
from shapewright.solvers.fem.backend import fem as dolfinx_fem
from shapewright.solvers.fem.backend import mesh as dolfinx_mesh

ROOT = Path(__file__).parents[2]
CHILD = """\
import sys
from pathlib import Path
from shapewright.solvers.fem import jit
from tests.solvers.test_jit import cubic, damaged, integral
cache = Path(sys.argv[1])
jit.cache_folder = lambda: cache
(library,) = cache.rglob("*.so")
for content in damaged(library.read_bytes()):
    library.unlink()
    library.write_bytes(content)
    print(integral(cubic()), len(library.read_bytes()))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path / "forms")
    return tmp_path / "forms"


def cubic():
    return ufl.SpatialCoordinate(dolfinx_mesh.create_unit_square(MPI.COMM_SELF, 1, 1))[0] ** 3 * ufl.dx


def integral(form):
    return dolfinx_fem.assemble_scalar(jit.compile_form(form))


def test_what_is_compiled_is_compiled_once(cache):
    assert integral(cubic()) == pytest.approx(0.25)
    (library,) = cache.rglob("*.so")
    inode = library.stat().st_ino
    assert integral(cubic()) == pytest.approx(0.25)
    assert library.stat().st_ino == inode


def damaged(whole):
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    return b"", whole[: len(whole) // 3], bytes(flipped), whole + b" "


def test_damaged_libraries_are_made_anew(cache):
    """In a process of its own: loading what was cut ends it with SIGBUS."""
    integral(cubic())
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(cache)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    values = [line.split() for line in done.stdout.splitlines()]
    assert [float(value) for value, _ in values] == pytest.approx([0.25] * 4)
    assert len({size for _, size in values}) == 1  # each time compiled again


@pytest.mark.parametrize("left", ["*.c", "*.c.cached", "*.so", None])
def test_whatever_a_killed_compiler_leaves_is_made_anew(cache, left):
    """FFCx would wait ten seconds for the dead process and then fail, or load what is not there."""
    integral(cubic())
    (folder,) = cache.iterdir()
    kept = set(folder.glob(left)) if left else set()
    for file in folder.iterdir():
        if file not in kept:
            file.unlink()
    assert integral(cubic()) == pytest.approx(0.25)
    assert (folder / "sha256").exists()


@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler"])
def test_without_a_compiler_doctor_is_pointed_to(cache, monkeypatch, compiler):
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(CompilerError, match=r"cannot be compiled \(.*\); `shapewright doctor` says what is missing"):
        jit.compile_form(cubic())
    assert logging.getLogger().handlers == handlers
    monkeypatch.delenv("CC")
    assert integral(cubic()) == pytest.approx(0.25)


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path / "file" / "forms")
    with pytest.raises(CompilerError, match=r"kept in .*/file/forms \(Not a directory.*set XDG_CACHE_HOME to a folder"):
        jit.compile_form(cubic())
