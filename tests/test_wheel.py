"""Promise: the built wheel, installed elsewhere, is one package that runs a study; nothing generic is importable."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tools.link_tree import ROOMS

ROOT = Path(__file__).resolve().parent.parent
STUDY = """
import shapewright
from pathlib import Path
print(Path(shapewright.__file__).parent / "studies" / "torsion.yaml")
"""


def run(command, folder, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=kept | environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel alone; its dependencies are those of the tests' own environment."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so nothing tells its files from others")
    for name in listed.stdout.splitlines():
        if name.split("/")[0] in {*ROOMS, "shapewright", "pyproject.toml", "README.md", "LICENSE"}:
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    code, _, errors = run([*build, "-w", folder, folder / "source"], folder)
    assert code == 0, errors
    (wheel,) = folder.glob("shapewright-*.whl")
    code, _, errors = run([sys.executable, "-m", "venv", folder / "fresh"], folder)
    assert code == 0, errors
    python = folder / "fresh" / "bin" / "python"
    code, _, errors = run([python, "-m", "pip", "install", "--no-deps", "--no-index", wheel], folder)
    assert code == 0, errors
    (site,) = (folder / "fresh" / "lib").glob("python*/site-packages")
    before = {path.name for path in site.iterdir()}
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder, python, before


@pytest.mark.slow
def test_only_the_package_lies_in_site_packages(installed):
    folder, python, names = installed
    own = {name for name in names if not name.startswith(("pip", "setuptools", "_distutils_hack", "distutils-"))}
    assert len(own) == 2
    assert all(name.startswith("shapewright") for name in own)
    for room in ROOMS:
        code, _, errors = run([python, "-c", f"import {room}"], folder)
        assert code == 1
        assert f"No module named '{room}'" in errors
        code, _, errors = run([python, "-c", f"import shapewright.{room}"], folder)
        assert code == 0, errors


@pytest.mark.slow
def test_a_shipped_study_runs_from_another_folder(installed):
    folder, python, _ = installed
    code, study, errors = run([python, "-c", STUDY], folder)
    assert code == 0, errors
    assert study.startswith(str(folder))
    quick = "--set", "optimizer.starts=1"
    command = [python.with_name("shapewright"), "run", study.strip(), "--out", folder / "out", *quick]
    libraries = str(Path(sys.prefix) / "lib")  # MPI's, which an environment of its own would have there
    code, printed, errors = run(command, folder, LD_LIBRARY_PATH=libraries)
    assert code == 0, printed + errors
    assert {"optimum.step", "certificate.json", "report.html"} <= {path.name for path in (folder / "out").iterdir()}
