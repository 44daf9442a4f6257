"""The certificate of a solid: what its file holds, entry by entry.

``python -m shapewright.studies.certify.solid_model`` writes ``studies/solid_certificate_schema.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shapewright.studies.certify.model import CertificateError
from shapewright.studies.certify.verdict_model import Check, Entry, Number
from shapewright.studies.files import read_sealed, write_sealed
from shapewright.studies.schema.base import schema_text

SCHEMA_FILE = Path(__file__).parents[1] / "solid_certificate_schema.json"


class SolidLevel(Entry):
    """Finite elements on one fresh mesh of the re-read CAD."""

    mesh_size: float
    """Largest edge of a cell that was asked for, length unit."""
    h: float
    """Third root of the mean volume of a cell, length unit."""
    cells: int
    dofs: int
    values: Mapping[str, float]
    """Functional -> value."""
    linear_solver: str
    """What solved the linear systems."""
    linear_residual: float
    """Largest true residual of all load cases, relative to the load."""


class SolidPeak(Entry):
    """Largest von Mises stress of a load case on the finest mesh; at sharp corners and supports it has no limit."""

    case: str
    value: float
    """In the unit of Young's modulus."""
    at: tuple[float, float, float]


class SolidObjective(Entry):
    """What was sought."""

    name: str
    sense: str
    unit: str
    initial: float
    """Of the part as it came, on a mesh as fine as the finest."""
    value: float
    """Of the re-read CAD on the finest mesh."""
    extrapolated: float
    """Of the three finest meshes to cells of size zero."""
    order: Number
    """Observed order of convergence; null where none can be believed."""
    note: str
    """How it was extrapolated."""
    change: float
    """Of the value against the initial one, relative."""
    moved_mesh: float
    """On the mesh of the search, moved to the optimum."""
    same_size: float
    """On a fresh mesh of the re-read CAD with cells as large as those of the search."""


class SolidConstraint(Entry):
    """A condition at the optimum, on the re-read CAD."""

    name: str
    value: float
    target: float
    unit: str
    satisfied: bool


class SolidCad(Entry):
    """The STEP file, read back."""

    file: str
    valid: bool
    """OpenCASCADE's own check."""
    volume: float
    initial_volume: float
    centroid: tuple[float, float, float]
    faces: int
    kept_faces: tuple[int, ...]
    """Numbers of the faces that are the original surfaces still."""
    kept_distance: float
    """Largest distance of kept regions from where they were, length unit."""
    deviation: float
    """Largest distance of the moved mesh's boundary nodes from it, in diagonals of the part's box."""
    poles: int
    """Of all new surfaces."""
    bytes: int


class SolidRound(Entry):
    """One search on one mesh, and the comparison that followed."""

    dofs: int
    solves: int
    """Designs solved by finite elements."""
    objective: float
    """On the moved mesh."""
    reread: float
    """On a fresh mesh of the re-read CAD with cells as large."""
    difference: float
    """Of both, relative."""
    reason: str
    """Why the search ended."""


class SolidCertificate(Entry):
    """What is known of the optimum of a solid, and whether it is accepted."""

    name: str
    study: str
    """SHA-256 of what the study says."""
    cad_input: str
    """SHA-256 of the CAD file that the part came from, 16 digits."""
    accepted: bool
    verdict: str
    """In a sentence."""
    reasons: tuple[str, ...]
    """Checks that fail; empty where none does."""
    length_unit: str
    parameters: Mapping[str, float]
    """Motion of each group of control points, length unit."""
    objective: SolidObjective
    cases: Mapping[str, Mapping[str, float]]
    """Load case -> initial and final value of the objective's functional on the finest meshes."""
    constraints: tuple[SolidConstraint, ...]
    least_jacobian: float
    """Least det grad F at the nodes and quadrature points of the mesh."""
    levels: tuple[SolidLevel, ...]
    initial_levels: tuple[SolidLevel, ...]
    """Of the part as it came: one, as fine as the finest."""
    peaks: tuple[SolidPeak, ...]
    initial_peaks: tuple[SolidPeak, ...]
    cad: SolidCad
    rounds: tuple[SolidRound, ...]
    solves: Mapping[str, int]
    """Finite-element solves of the search by kind."""
    kkt_residual: Number
    checks: tuple[Check, ...]
    files: Mapping[str, str]
    """File of the folder -> SHA-256."""

    def as_data(self) -> dict[str, Any]:
        """Plain data, as JSON holds it."""
        return self.model_dump(mode="json")


def write_certificate(path: Path, certificate: SolidCertificate) -> None:
    """Write it, sealed."""
    write_sealed(path, certificate.as_data())


def read_solid_certificate(path: Path) -> SolidCertificate:
    """Read what :func:`write_certificate` wrote.

    Raises:
        CertificateError: no such file, or one that was cut, edited, or is not one.
    """
    if not path.is_file():
        raise CertificateError(f"{path}: there is no such file; `shapewright run` writes it")
    data = read_sealed(path)
    try:
        return SolidCertificate.model_validate_json(json.dumps(data), strict=False)
    except ValidationError as error:
        raise CertificateError(f"{path}: is no certificate of a solid, or was edited") from error


def json_schema_text() -> str:
    """What ``solid_certificate_schema.json`` holds."""
    return schema_text(SolidCertificate)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
