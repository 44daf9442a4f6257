"""Output folder of a finished study: every file read into its type, and checked against the others."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyvista
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from shapewright.app.provenance import Provenance
from shapewright.geometries.fields.problem import Derived, unit_in
from shapewright.solvers.physics.catalogue import Field, Physics, load_physics
from shapewright.studies.certify.export import Shapes
from shapewright.studies.certify.model import (
    Certificate,
    CertificateError,
    ConstraintResult,
    Gradient,
    faults,
    read_certificate,
)
from shapewright.studies.certify.verdict_model import ModelVerdict
from shapewright.studies.problem.scatter import case_names
from shapewright.studies.run.optimum import FoundOptimum
from shapewright.studies.run.robust import ROBUST, RobustResult
from shapewright.studies.schema.loader import StudyError, load_study
from shapewright.studies.schema.named import in_case
from shapewright.studies.schema.study import Constraint, StudyModel
from shapewright.surrogate.models.model_card import ModelCard
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard

Array = NDArray[np.float64]


class ReportError(RuntimeError):
    """A file of the output folder is missing or incomplete; the text names it and the command that makes it."""


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
"""Command that makes each file."""


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
class SearchedBy:
    """The surrogate that searched, and what the certificate says of it at the optimum.

    Attributes:
        card: of its weights; of another kind where an operator for all shapes searched.
        verdict: with its checks.
        field_errors: component -> relative L2 error over the domain; None where it is no number.
        gradient: against that of finite elements.
    """

    card: ModelCard | ShapeOperatorCard
    verdict: ModelVerdict
    field_errors: Mapping[str, float | None]
    gradient: Gradient


@dataclass(frozen=True)
class Finished:
    """A finished study.

    Attributes:
        folder: output folder.
        study: with all defaults.
        resolved: text of ``resolved.yaml``.
        run: versions, hardware, seed and command.
        certificate, optimum, shapes: content of the files of that name.
        history: column -> (rows,), all starts.
        surrogate: None where finite elements alone led to the optimum.
        at_optimum, at_start: fields.
        robust: of a study with scatter, its optimum beside the one for the mean values alone; None without that.
    """

    folder: Path
    study: StudyModel
    resolved: str
    run: Provenance
    certificate: Certificate
    optimum: FoundOptimum
    shapes: Shapes
    history: dict[str, Array]
    surrogate: SearchedBy | None
    at_optimum: NodalFields
    at_start: NodalFields
    robust: RobustResult | None = None

    @property
    def physics(self) -> Physics:
        """Of the study: built in, or of the user's file beside ``resolved.yaml``."""
        return _physics_of(self.study, self.folder)

    @property
    def fields(self) -> tuple[tuple[str, Field], ...]:
        """Components of the physics, each with the field it belongs to."""
        length = self.study.geometry.length_unit
        fields = [replace(f, unit=unit_in(f.unit, length)) for f in self.physics.fields]
        return tuple((name, field) for field in fields for name in field.components)

    @property
    def derived(self) -> tuple[Derived, ...]:
        """Quantities beside the fields that are drawn, in the study's unit of length."""
        length = self.study.geometry.length_unit
        return tuple(replace(d, unit=unit_in(d.unit, length)) for d in self.physics.derived if d.shown)

    @property
    def constraints(self) -> tuple[tuple[Constraint, ConstraintResult], ...]:
        """Constraints of the study, each with what the certificate says of it."""
        rows = self.certificate.constraints
        return tuple((self.study.constraints[_entry_of(self.study, row)], row) for row in rows)


def _physics_of(study: StudyModel, folder: Path) -> Physics:
    name = study.physics.name
    return name if isinstance(name, Physics) else load_physics(name, folder)


def _entry_of(study: StudyModel, row: ConstraintResult) -> int:
    """Index in the study of the constraint of a row of the certificate, which may be of one load case; -1 if none."""
    for index, constraint in enumerate(study.constraints):
        cases = [constraint.case] if constraint.case is not None else case_names(study)
        names = {constraint.name, *(in_case(constraint.name, case) for case in cases)}
        if row.quantity in names and row.kind == constraint.kind:
            return index
    return -1


def read_folder(folder: Path) -> Finished:
    """Read an output folder.

    Raises:
        ReportError: names the first file that is missing or incomplete, and the command that makes it.
    """
    resolved = read_text(folder, "resolved.yaml")
    try:
        study = load_study(folder / "resolved.yaml").model
    except StudyError as error:
        raise _broken(folder, "resolved.yaml", str(error)) from error
    certificate, optimum = _certificate(folder), read_typed(folder, "optimum.json", FoundOptimum)
    if {name: entry.value for name, entry in certificate.parameters.items()} != optimum.parameters:
        raise _broken(folder, "certificate.json", "its parameters are not those of optimum.json")
    if {_entry_of(study, row) for row in certificate.constraints} != set(range(len(study.constraints))):
        raise _broken(folder, "certificate.json", "its constraints are not those of resolved.yaml")
    names = [constraint.name for constraint in certificate.constraints]
    history = _history(folder, ["start", "iteration", "objective", *names])
    if optimum.best_start not in history["start"]:
        raise _broken(folder, "history.csv", f"has no rows of the best start, {optimum.best_start}")
    physics = _physics_of(study, folder)
    components = physics.components
    derived = [f"{d.name}_fem" for d in physics.derived if d.shown]
    with_surrogate = certificate.objective.surrogate is not None
    kinds = ("fem", "surrogate", "difference") if with_surrogate else ("fem",)
    return Finished(
        folder=folder,
        study=study,
        resolved=resolved,
        run=read_typed(folder, "run.json", Provenance),
        certificate=certificate,
        optimum=optimum,
        shapes=read_typed(folder, "shapes.json", Shapes),
        history=history,
        surrogate=_searched_by(folder, certificate) if with_surrogate else None,
        at_optimum=_fields(folder, "optimum.vtu", [f"{c}_{kind}" for kind in kinds for c in components], derived),
        at_start=_fields(folder, "initial.vtu", [f"{c}_fem" for c in components], derived),
        robust=read_typed(folder, ROBUST, RobustResult) if study.scatter and study.scatter.compare else None,
    )


def _broken(folder: Path, name: str, what: str) -> ReportError:
    return ReportError(f"{folder / name}: {what}; `shapewright {STAGES.get(name, 'run')}` makes it")


def read_text(folder: Path, name: str) -> str:
    """A text file of an output folder; ReportError where it is not there."""
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _broken(folder, name, "there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(folder, name, f"cannot be read ({error})") from error


def _certificate(folder: Path) -> Certificate:
    try:
        return read_certificate(folder / "certificate.json")
    except CertificateError as error:
        raise ReportError(f"{error}; `shapewright {STAGES['certificate.json']}` makes it") from error


def _searched_by(folder: Path, certificate: Certificate) -> SearchedBy:
    verdict, errors, gradient = certificate.model, certificate.field_relative_l2_error, certificate.gradient
    if verdict is None or errors is None or gradient is None:
        what = "has objective.surrogate, but not all of model, field_relative_l2_error and gradient"
        raise _broken(folder, "certificate.json", what)
    by_operator, file = certificate.operator is not None, "surrogate.card.json"
    card = read_typed(folder, file, ShapeOperatorCard) if by_operator else read_typed(folder, file, ModelCard)
    return SearchedBy(card, verdict, errors, gradient)


def read_typed[T](folder: Path, name: str, kind: type[T]) -> T:
    """A JSON file as what it holds; entries that ``kind`` does not have are left out."""
    text = read_text(folder, name)
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise _broken(folder, name, faults(error)) from None


def _history(folder: Path, needed: Sequence[str]) -> dict[str, Array]:
    rows = list(csv.reader(read_text(folder, "history.csv").splitlines()))
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


def _fields(folder: Path, name: str, needed: Sequence[str], optional: Sequence[str]) -> NodalFields:
    """Arrays that are needed, and optional ones where the file has them: older folders hold no stresses."""
    if not (folder / name).is_file():
        raise _broken(folder, name, "there is no such file")
    try:
        grid = pyvista.read(folder / name)
        cells = grid.cells_dict[pyvista.CellType.QUADRATIC_TRIANGLE]
    except Exception as error:  # VTK reports a broken file in many ways
        raise _broken(folder, name, "holds no quadratic triangles, or is not whole") from error
    needed = [*needed, *(array for array in optional if array in grid.point_data)]
    for array in needed:
        if array not in grid.point_data:
            raise _broken(folder, name, f"has no array '{array}'")
        if not np.isfinite(grid.point_data[array]).all():
            raise _broken(folder, name, f"array '{array}' holds values that are not finite")
    values = {array: np.asarray(grid.point_data[array], dtype=np.float64) for array in needed}
    return NodalFields(np.asarray(grid.points[:, :2], dtype=np.float64), np.asarray(cells, dtype=np.int64), values)
