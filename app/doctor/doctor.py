"""What is installed, what is missing, and what to do about it: `shapewright doctor`.

Every library is imported in a process of its own, so that a crash on import is reported, not suffered.
"""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shapewright.app.doctor.machine import (
    SYSTEM_LIBRARIES,
    Check,
    check_compiler,
    check_disk,
    check_headers,
    check_python,
)

IMPORT_TIMEOUT = 120.0
INSTALL = "run `make setup`, or reinstall with `pip install -c constraints.txt -e .`"


@dataclass(frozen=True)
class Dependency:
    """A distribution of pyproject.toml, the program that imports it, and what it is needed for."""

    distribution: str
    program: str
    needed_for: str


DEPENDENCIES = (
    Dependency("numpy", "import numpy", "arrays"),
    Dependency("scipy", "import scipy.optimize, scipy.sparse", "the optimizer"),
    Dependency("sympy", "import sympy", "expressions in a study"),
    Dependency("torch", "import torch", "the surrogate, differentiable shapes"),
    Dependency("gmsh", "import gmsh; gmsh.initialize(); gmsh.finalize()", "CAD and meshes"),
    Dependency("trimesh", "import trimesh", "checking the STL"),
    Dependency("pyvista", "import pyvista", "field files (.vtu)"),
    Dependency(
        "dolfinx-solver-real",
        # The pip wheel asks to be imported before dolfinx; conda-forge's dolfinx comes without it.
        "import importlib.util\n"
        "if importlib.util.find_spec('dolfinx_solver'): import dolfinx_solver\n"
        "import dolfinx.fem.petsc, petsc4py.PETSc\n"
        "assert petsc4py.PETSc.ScalarType().dtype.kind == 'f', 'PETSc was built with complex scalars'",
        "finite-element solutions",
    ),
    Dependency("cadquery-ocp-novtk", "from OCP import STEPControl", "CAD checks"),
    Dependency("shapely", "import shapely", "polygon checks"),
    Dependency("safetensors", "import safetensors", "surrogate files"),
    Dependency("pydantic", "import pydantic", "the study's schema"),
    Dependency("moocore", "import moocore", "fronts of two objectives"),
    Dependency("ruamel.yaml", "import ruamel.yaml", "reading studies"),
    Dependency("typer", "import typer", "the command line"),
    Dependency("rich", "import rich", "tables and progress bars"),
    Dependency("jinja2", "import jinja2", "the report"),
    Dependency("matplotlib", "import matplotlib.figure", "the report's pictures"),
)


def run_apart(program: str, timeout: float = IMPORT_TIMEOUT) -> tuple[bool, str]:
    """Run a Python program in a process of its own.

    Returns:
        Whether it ended well, and the last line it said: its output then, else its error.
    """
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return False, f"no answer within {timeout:g} s"
    if done.returncode < 0:
        return False, f"the process was ended by signal {-done.returncode}"
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, said[-1] if said else ""


def check_dependency(dependency: Dependency) -> Check:
    """Version of one library, and whether it can really be imported."""
    works, said = run_apart(dependency.program)
    try:
        version = importlib.metadata.version(dependency.distribution)
    except importlib.metadata.PackageNotFoundError:
        # conda-forge has some libraries under other distribution names; the import decides.
        version = "version unknown"
    missing_library = next((name for name in SYSTEM_LIBRARIES if name in said), None)
    remedy = (
        f"install {missing_library} (Debian, Ubuntu: apt install {SYSTEM_LIBRARIES[missing_library]})"
        if missing_library
        else INSTALL
    )
    found = version if works else f"{version}, but importing it fails: {said}"
    return Check(dependency.distribution, found, works, dependency.needed_for, "" if works else remedy)


def check_gpu() -> Check:
    """The CUDA device that torch can compute on; none is no fault, a device that torch cannot use is one."""
    works, said = run_apart(
        "import torch, json\n"
        "if torch.cuda.is_available():\n"
        "    torch.ones(8, device='cuda').sum().item()\n"
        "    device = torch.cuda.get_device_properties(0)\n"
        "    print(f'{device.name}, {device.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}')\n"
    )
    purpose = "faster training (optional)"
    if works and said:
        return Check("GPU", said, True, purpose)
    if works and shutil.which("nvidia-smi") is None:
        return Check("GPU", "none; the CPU is used", True, purpose)
    found = f"torch cannot use it: {said}" if said else "nvidia-smi is here, but torch sees no device"
    remedy = "install a driver for torch's CUDA version, or use --device cpu"
    return Check("GPU", found, False, purpose, remedy)


def check_threads() -> Check:
    """Processor cores this process may use, and the limit on threads in the environment."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    found = f"{cores} cores" + (f", OMP_NUM_THREADS={limit}" if limit else "")
    return Check("threads", found, True, "speed")


def check_rendering() -> Check:
    """Whether pyvista draws a picture with no display: a sphere must stand out from its background."""
    works, said = run_apart(
        "import json, pyvista\n"
        "plotter = pyvista.Plotter(off_screen=True, window_size=(64, 64))\n"
        "plotter.add_mesh(pyvista.Sphere(), color='red')\n"
        "picture = plotter.screenshot(return_img=True)\n"
        "assert picture.std() > 1, 'the picture is blank'\n"
        "print(json.dumps(type(plotter.render_window).__name__))\n"
    )
    purpose = "pictures of fields"
    if works:
        return Check("off-screen rendering", json.loads(said), True, purpose)
    remedy = "install Mesa's software renderer (Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri)"
    return Check("off-screen rendering", said, False, purpose, remedy)


def diagnose(folder: Path | None = None) -> list[Check]:
    """Look at everything the program depends on; takes about ten seconds.

    Args:
        folder: where results would be written (the current folder unless told), for its free disk.
    """
    tasks: list[Callable[[], Check]] = [
        check_python,
        check_compiler,
        check_headers,
        check_threads,
        lambda: check_disk(folder or Path.cwd(), 1.0, "samples and results of a study"),
        *(lambda dependency=dependency: check_dependency(dependency) for dependency in DEPENDENCIES),
        check_gpu,
        check_rendering,
    ]
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return [future.result() for future in [pool.submit(task) for task in tasks]]


def print_report(checks: list[Check]) -> bool:
    """Print the findings as a table, then what to do about each that is wrong.

    Returns:
        Whether every check is well.
    """
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    table = Table("", "what", Column("found", overflow="fold"), "needed for")
    for check in checks:
        mark = Text("ok", style="green") if check.ok else Text("missing", style="bold red")
        table.add_row(mark, Text(check.name), Text(check.found), Text(check.needed_for))
    console.print(table)
    wrong = [check for check in checks if not check.ok]
    for check in wrong:
        console.print(Text(f"{check.name}: {check.remedy}"), soft_wrap=True)
    if not wrong:
        console.print("Nothing is missing.")
    return not wrong
