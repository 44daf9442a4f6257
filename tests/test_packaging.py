"""The files that say what is installed agree with each other, and none names where it comes from."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from shapewright.app.doctor.doctor import DEPENDENCIES
from shapewright.app.doctor.machine import SYSTEM_LIBRARIES
from tools.link_tree import ROOMS

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]

# conda-forge's names where they differ; a pip wheel may be several conda packages.
CONDA_NAMES = {
    "torch": ("pytorch",),
    "gmsh": ("gmsh", "python-gmsh"),
    "dolfinx-solver-real": ("fenics-dolfinx", "petsc"),
    "cadquery-ocp-novtk": ("ocp",),
    "matplotlib": ("matplotlib-base",),
}
# What pip users have from their system, or from Python itself.
CONDA_ONLY = {"python", "pip", "c-compiler"}


def direct_requirements() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def conda_packages() -> dict[str, str]:
    """Package name to version specifier; a build string (petsc=*=real*) is no specifier."""
    lines = YAML(typ="safe").load((ROOT / "environment.yml").read_text())["dependencies"]
    parts = [re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", line) for line in lines]
    return {part[1]: "" if part[2].startswith("=*=") else part[2] for part in parts}


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def tracked_texts() -> list[tuple[str, str]]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listing.returncode:
        pytest.skip("not a git checkout, so nothing tells tracked files from others")
    files = [ROOT / name for name in listing.stdout.splitlines()]
    present = [file for file in files if file.is_file() and file.suffix != ".safetensors"]
    return [(str(file.relative_to(ROOT)), file.read_text(errors="ignore")) for file in present]


def test_conda_environment_holds_the_packages_of_pyproject() -> None:
    wanted = {name for req in direct_requirements() for name in CONDA_NAMES.get(req.name, (req.name,))}
    assert set(conda_packages()) - CONDA_ONLY == wanted


def test_conda_environment_states_the_version_bounds_of_pyproject() -> None:
    packages = conda_packages()
    for requirement in direct_requirements():
        name = CONDA_NAMES.get(requirement.name, (requirement.name,))[0]
        assert set(packages[name].split(",")) == set(str(requirement.specifier).split(",")), name
    assert packages["python"] == PROJECT["requires-python"]


def test_conda_name_map_has_no_stale_entry() -> None:
    assert set(CONDA_NAMES) <= {requirement.name for requirement in direct_requirements()}


@pytest.mark.parametrize("line", constraint_lines())
def test_constraint_pins_one_version_and_nothing_else(line: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line)


def test_constraints_cover_every_direct_dependency_within_its_bounds() -> None:
    pins = dict(line.split("==") for line in constraint_lines())
    assert len(pins) == len(constraint_lines())
    for requirement in direct_requirements():
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned, f"constraints.txt has no {requirement.name}"
        assert requirement.specifier.contains(pinned), f"{pinned} is outside {requirement}"


def test_doctor_looks_at_every_runtime_dependency() -> None:
    runtime = [Requirement(text).name for text in PROJECT["dependencies"]]
    assert [item.distribution for item in DEPENDENCIES] == runtime


def test_no_tracked_file_names_a_package_registry() -> None:
    # Joined here, so that this file does not name them either.
    hosts = {
        ".".join(parts)
        for parts in (
            ("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"), ("anaconda", "com"),
            ("download", "pytorch", "org"), ("npmjs", "org"), ("deb", "debian", "org"),
        )
    }  # fmt: skip
    options = {"--" + "index-url", "--" + "extra-index-url", "--" + "find-links"}
    found = [(name, word) for name, text in tracked_texts() for word in hosts | options if word in text]
    assert not found


def test_container_has_the_system_libraries_that_the_doctor_looks_for() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert set(SYSTEM_LIBRARIES.values()) <= set(text.split())
    assert {"gcc", "libc6-dev"} <= set(text.split())
    extras = re.search(r'-e "\.\[([a-z,]+)\]"', text)[1].split(",")
    assert set(extras) == set(PROJECT["optional-dependencies"]) - {"test", "benchmark"}


def test_no_lock_file_is_tracked() -> None:
    locks = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "pixi.lock", "conda-lock.yml"}
    assert not locks & {Path(name).name for name, _ in tracked_texts()}


def test_every_room_with_its_data_is_packaged() -> None:
    tool = PYPROJECT["tool"]["setuptools"]
    others = {"tests", "tools", "benchmarks", "shapewright"}
    assert set(ROOMS) == {file.parent.name for file in ROOT.glob("*/__init__.py")} - others
    assert tool["package-dir"] == {"shapewright": "shapewright", **{f"shapewright.{room}": room for room in ROOMS}}
    files = [Path(name) for name, _ in tracked_texts() if Path(name).parts[0] in ROOMS]
    packages = {file.parent for file in files if file.name == "__init__.py"}
    assert tool["packages"] == ["shapewright", *sorted(".".join(("shapewright", *p.parts)) for p in packages)]
    data = [f"{name}.".replace(".", "/") + pattern for name, all_ in tool["package-data"].items() for pattern in all_]
    for file in files:
        is_data = any(("shapewright" / file).match(pattern) for pattern in data)
        assert is_data or (file.parent in packages and file.suffix == ".py"), f"{file} would not be installed"
