"""What a finished study left in its output folder, read and checked for completeness."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
from numpy.typing import NDArray

from shapewright.geometries.fields.problem import Derived, unit_in
from shapewright.solvers.physics.catalogue import PHYSICS, Field
from shapewright.studies.certify.model import CertificateError, read_certificate
from shapewright.studies.schema.loader import StudyError, load_study
from shapewright.studies.schema.named import in_case
from shapewright.studies.schema.study import Constraint, StudyModel

Array = NDArray[np.float64]


class ReportError(RuntimeError):
    """A file of the output folder is missing or incomplete; the text names it and the stage that makes it."""


STAGES = {
    "resolved.yaml": "validate",
    "run.json": "validate",
    "history.csv": "optimize",
    "optimum.json": "optimize",
    "shapes.json": "optimize",
    "certificate.json": "validate",
    "surrogate.card.json": "validate",
    "optimum.vtu": "validate",
    "initial.vtu": "validate",
}
"""Which command makes which file."""

ENTRIES = {
    "run.json": ("shapewright", "python", "packages", "hardware", "device", "seed", "started", "command"),
    "optimum.json": ("parameters", "exit.reason", "exit.text", "best_start", "starts"),
    "shapes.json": ("unit", *(f"{s}.{k}" for s in ("initial", "optimum") for k in ("outlines", "control_points"))),
    "surrogate.card.json": (
        *("designs", "seconds", "hardware", "data_hash", "box"),
        *(f"held_out.{k}" for k in ("field", "objective", "gradient", "cosine", "designs")),
    ),
}
"""Entries that the report needs, nested ones with dots."""


@dataclass(frozen=True)
class NodalFields:
    """Nodal values on quadratic triangles.

    Attributes:
        points: (N, 2) nodes, length unit.
        cells: (M, 6) corners, then the middles of the edges 0-1, 1-2, 2-0.
        values: array name -> (N,).
    """

    points: Array
    cells: NDArray[np.int64]
    values: dict[str, Array]


@dataclass(frozen=True)
class Finished:
    """A finished study.

    Attributes:
        folder: where it lies.
        study: with all defaults.
        resolved: text of ``resolved.yaml``.
        run: versions, hardware, seed and command.
        certificate, optimum, shapes: content of the files of that name.
        history: column -> (rows,), all starts.
        card: of the surrogate; None where finite elements alone led to the optimum.
        at_optimum, at_start: fields.
    """

    folder: Path
    study: StudyModel
    resolved: str
    run: dict[str, Any]
    certificate: dict[str, Any]
    optimum: dict[str, Any]
    shapes: dict[str, Any]
    history: dict[str, Array]
    card: dict[str, Any] | None
    at_optimum: NodalFields
    at_start: NodalFields

    @property
    def fields(self) -> tuple[tuple[str, Field], ...]:
        """Components of the physics, each with the field it belongs to."""
        length = self.study.geometry.length_unit
        fields = [replace(f, unit=unit_in(f.unit, length)) for f in PHYSICS[self.study.physics.name].fields]
        return tuple((name, field) for field in fields for name in field.components)

    @property
    def derived(self) -> tuple[Derived, ...]:
        """Quantities beside the fields that are drawn, in the study's unit of length."""
        length = self.study.geometry.length_unit
        shown = [d for d in PHYSICS[self.study.physics.name].derived if d.shown]
        return tuple(replace(d, unit=unit_in(d.unit, length)) for d in shown)

    @property
    def constraints(self) -> tuple[tuple[Constraint, dict[str, Any]], ...]:
        """Constraints of the study, each with what the certificate says of it."""
        rows = self.certificate["constraints"]
        return tuple((self.study.constraints[_entry_of(self.study, row)], row) for row in rows)


def _entry_of(study: StudyModel, row: dict[str, Any]) -> int:
    """Place in the study of the constraint that a row of the certificate is of, perhaps in one load case; or -1."""
    for index, constraint in enumerate(study.constraints):
        cases = [constraint.case] if constraint.case is not None else list(study.physics.cases)
        names = {constraint.name, *(in_case(constraint.name, case) for case in cases)}
        if row["quantity"] in names and row["kind"] == constraint.kind:
            return index
    return -1


def read_folder(folder: Path) -> Finished:
    """Read an output folder.

    Raises:
        ReportError: names the first file that is missing or incomplete, and the command that makes it.
    """
    resolved = _text(folder, "resolved.yaml")
    try:
        study = load_study(folder / "resolved.yaml").model
    except StudyError as error:
        raise _broken(folder, "resolved.yaml", str(error)) from error
    certificate, optimum = _certificate(folder), _json(folder, "optimum.json")
    judged = {name: entry["value"] for name, entry in certificate["parameters"].items()}
    if judged != optimum["parameters"]:
        raise _broken(folder, "certificate.json", "it judges another design than the one in optimum.json")
    if {_entry_of(study, row) for row in certificate["constraints"]} != set(range(len(study.constraints))):
        raise _broken(folder, "certificate.json", "its constraints are not those of resolved.yaml")
    names = [constraint["name"] for constraint in certificate["constraints"]]
    history = _history(folder, ["start", "iteration", "objective", *names])
    if optimum["best_start"] not in history["start"]:
        raise _broken(folder, "history.csv", f"has no rows of the best start, {optimum['best_start']}")
    components = PHYSICS[study.physics.name].components
    derived = [f"{d.name}_fem" for d in PHYSICS[study.physics.name].derived if d.shown]
    with_surrogate = certificate["objective"]["surrogate"] is not None
    kinds = ("fem", "surrogate", "difference") if with_surrogate else ("fem",)
    return Finished(
        folder=folder,
        study=study,
        resolved=resolved,
        run=_json(folder, "run.json"),
        certificate=certificate,
        optimum=optimum,
        shapes=_json(folder, "shapes.json"),
        history=history,
        card=_json(folder, "surrogate.card.json") if with_surrogate else None,
        at_optimum=_fields(folder, "optimum.vtu", [f"{c}_{kind}" for kind in kinds for c in components], derived),
        at_start=_fields(folder, "initial.vtu", [f"{c}_fem" for c in components], derived),
    )


def _broken(folder: Path, name: str, what: str) -> ReportError:
    return ReportError(f"{folder / name}: {what}; `shapewright {STAGES[name]}` makes it")


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _broken(folder, name, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(folder, name, f"cannot be read ({error})") from error


def _certificate(folder: Path) -> dict[str, Any]:
    try:
        return read_certificate(folder / "certificate.json").as_data()
    except CertificateError as error:
        raise ReportError(f"{error}; `shapewright {STAGES['certificate.json']}` makes it") from error


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(_text(folder, name))
    except ValueError as error:
        raise _broken(folder, name, f"is not whole ({error})") from error
    for entry in ENTRIES[name]:
        inner = content
        for key in entry.split("."):
            if not isinstance(inner, dict) or key not in inner:
                raise _broken(folder, name, f"has no entry '{entry}'")
            inner = inner[key]
    return content


def _history(folder: Path, needed: Sequence[str]) -> dict[str, Array]:
    rows = list(csv.reader(_text(folder, "history.csv").splitlines()))
    columns = rows[0] if rows else []
    for name in needed:
        if name not in columns:
            raise _broken(folder, "history.csv", f"has no column '{name}'")
    if len(rows) == 1:
        raise _broken(folder, "history.csv", "has no iterations")
    try:
        table = np.array(rows[1:], dtype=float)
    except ValueError as error:
        raise _broken(folder, "history.csv", f"is not whole ({error})") from error
    return dict(zip(columns, table.T, strict=True))


def _fields(folder: Path, name: str, needed: Sequence[str], welcome: Sequence[str]) -> NodalFields:
    """What is needed, and what is welcome where it is there: older folders hold no stresses."""
    if not (folder / name).is_file():
        raise _broken(folder, name, "there is no such file")
    try:
        grid = pyvista.read(folder / name)
        cells = grid.cells_dict[pyvista.CellType.QUADRATIC_TRIANGLE]
    except Exception as error:  # VTK reports a broken file in many ways
        raise _broken(folder, name, "holds no quadratic triangles, or is not whole") from error
    needed = [*needed, *(array for array in welcome if array in grid.point_data)]
    for array in needed:
        if array not in grid.point_data:
            raise _broken(folder, name, f"has no array '{array}'")
        if not np.isfinite(grid.point_data[array]).all():
            raise _broken(folder, name, f"array '{array}' holds values that are not finite")
    values = {array: np.asarray(grid.point_data[array], dtype=np.float64) for array in needed}
    return NodalFields(np.asarray(grid.points[:, :2], dtype=np.float64), np.asarray(cells, dtype=np.int64), values)
