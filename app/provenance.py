"""What a result was made with and on."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shapewright.studies.problem.surrogates import hardware
from shapewright.studies.run.workspace import VERSION

PACKAGES = (
    "numpy", "scipy", "torch", "gmsh", "dolfinx-solver-real", "fenics-dolfinx", "cadquery-ocp-novtk", "sympy",
    "pyvista", "trimesh",
)  # fmt: skip


def provenance(device: str, seed: int) -> dict[str, Any]:
    """Versions, hardware, seed, time and command line, as plain data."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    on = hardware(device)
    return {
        "shapewright": VERSION,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "hardware": {
            "processor": on["processor"],
            "cores": os.cpu_count(),
            "memory_gib": round(memory, 1),
            "gpu": on["device"] if device == "cuda" else None,
        },
        "device": device,
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["shapewright", *sys.argv[1:]]),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
