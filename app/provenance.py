"""What a result was made with and on."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from shapewright.studies.problem.surrogates import hardware
from shapewright.studies.run.workspace import VERSION

PACKAGES = (
    "numpy", "scipy", "torch", "gmsh", "dolfinx-solver-real", "fenics-dolfinx", "cadquery-ocp-novtk", "sympy",
    "pyvista", "trimesh",
)  # fmt: skip


@dataclass(frozen=True)
class Hardware:
    """A machine; None of what is not known, and of a GPU that was not used."""

    processor: str | None
    cores: int | None
    memory_gib: float | None
    gpu: str | None


@dataclass(frozen=True)
class Provenance:
    """Content of ``run.json``.

    Attributes:
        shapewright, python: versions.
        packages: distribution -> version.
        hardware: machine.
        device: of the surrogate, ``cpu`` or ``cuda``.
        seed: of the run.
        started: date and time, ISO 8601 with the time zone.
        command: as it was typed.
    """

    shapewright: str
    python: str
    packages: dict[str, str]
    hardware: Hardware
    device: str
    seed: int
    started: str
    command: str


def provenance(device: str, seed: int) -> dict[str, Any]:
    """Versions, hardware, seed, time and command line of this process, as plain data of :class:`Provenance`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    on = hardware(device)
    gpu = on["device"] if device == "cuda" else None
    made = Provenance(
        shapewright=VERSION,
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name)) is not None},
        hardware=Hardware(on["processor"], os.cpu_count(), round(memory, 1), gpu),
        device=device,
        seed=seed,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join(["shapewright", *sys.argv[1:]]),
    )
    return asdict(made)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
