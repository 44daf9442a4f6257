"""The certificate as frozen models: every entry with its type, unit and meaning; one writer and one reader.

``python -m shapewright.studies.certify.model`` writes ``studies/certificate_schema.json``. Numbers that may fail to be
finite, which JSON has not, are null there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from shapewright.studies.certify.verdict_model import DesignVerdict, Entry, Limit, ModelVerdict, Number
from shapewright.studies.files import write_json
from shapewright.studies.schema.base import schema_text
from shapewright.studies.schema.study import ConstraintKind

SCHEMA_FILE = Path(__file__).parents[1] / "certificate_schema.json"

CHANGES = {
    1: "Objective, constraints, fields, gradient and CAD by finite elements on the STEP file read back.",
    2: "Tolerances of the parameters, distance of the design from the training designs, corners of the part.",
    3: "Smooth maxima with the true one, infill, the KKT residual that a trust region has to reach.",
    4: "Two verdicts, `design` and `model`, each with its checks; `limits` beside their defaults and loosened ones in"
    " `verdict`; errors relative to `objective.reference`; levels of refinement that are measurably finer, with size"
    " and cells; constraints with miss, scale and allowed miss; `bounds_that_stop`; SHA-256 of files and study;"
    " `version` itself. `checks`"
    " is gone: `design.checks` and `model.checks`.",
    5: "Load cases: `objective.cases`; a constraint on a functional has one entry for each case that it holds in."
    " Checks of the design on how well meshes resolve a functional under a constraint.",
    6: "`familiarity` is named `novelty`; `place` of a corner and of a peak is named `point`. Of scatter,"
    " `scenario` of a case.",
}
"""What changed with each version of the certificate."""
VERSION: Literal[6] = 6
OLDEST = 4
"""Oldest version that is compared with its folder."""


class CertificateError(RuntimeError):
    """A file holds no certificate of this version; the text names file and entry."""


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Level(Entry):
    """A functional on one fresh mesh of the STEP file."""

    size: float
    """Cell size that gmsh was asked for, length unit."""
    h: float
    """Root of the mean cell area, length unit."""
    cells: int
    dofs: int
    value: Number


class Peak(Entry):
    """The true maximum behind a smooth one, on the finest mesh."""

    on: str | None
    """Boundary region; null for the domain."""
    maximum: Number
    minimum: Number
    mean: Number
    flatness: Number
    """Difference between maximum and minimum, over the mean."""
    point: tuple[float, ...]
    """Coordinates of the maximum, length unit."""
    at_least: Number
    at_most: Number
    """Bounds of the maximum by the smooth one alone."""
    profile: tuple[tuple[Number, Number], ...] | None
    """Angle about the middle of the boundary in degrees, and value; null where it is not once around."""


class CaseResult(Entry):
    """The objective's functional in one load case, on fresh meshes of the STEP file."""

    weight: float | None
    """In the sum or mean; null of the worst."""
    scenario: dict[str, float] | None = None
    """Of a study with scatter: variable, or offset of the boundary, -> value; null of a load case."""
    fem: Number
    fem_levels: tuple[Level, ...]
    fem_extrapolated: Number
    observed_order: Number
    discretization_error: Number
    """Of ``fem``, in the unit of the objective."""
    grid_convergence_index: Number
    """Half a band about ``fem``, in the unit of the objective."""
    extrapolation: str


class Worst(Entry):
    """The true worst of the load cases beside the smooth one that was sought."""

    case: str
    value: Number
    """Largest of the cases, least of what is maximized, on the finest mesh."""
    sharpness: float
    smooth_off: Number
    """Distance of the smooth maximum below it, of the smooth minimum above it."""
    smooth_off_at_most: Number
    """Bound of that distance by the sharpness."""


class Cases(Entry):
    """The load cases of the objective."""

    functional: str
    """Functional that is summed over the cases, or whose worst case counts."""
    each: dict[str, CaseResult]
    worst: Worst | None
    """Null of a weighted sum."""


class Objective(Entry):
    """The objective by finite elements, and by the surrogate."""

    name: str
    unit: str
    sense: Literal["minimize", "maximize"]
    initial_fem: Number
    """At the start, on a fresh mesh as fine as the finest."""
    surrogate: Number
    """Null where finite elements alone searched."""
    fem: Number
    """At the optimum, on the finest fresh mesh of the STEP file."""
    fem_mapped: Number
    """At the optimum, on the mesh that the optimizer moved."""
    fem_levels: tuple[Level, ...]
    fem_extrapolated: Number
    """To cells of size zero; ``fem`` where no credible order is observed."""
    reference: Number
    """What errors are relative to: the larger of the value's size and its change from the start."""
    observed_order: Number
    discretization_error: Number
    """Of ``fem``, over ``reference``."""
    grid_convergence_index: Number
    """Half a band about ``fem`` meant to hold the limit with 95 % confidence, over ``reference``."""
    extrapolation: str
    surrogate_relative_error: Number
    """Against ``fem_extrapolated``, over ``reference``."""
    improvement: Number
    """Change from the start in the wanted sense, over the size of the objective there; null where that is zero."""
    start_feasible: bool
    """Whether the start meets all constraints, so that its objective measures a gain."""
    peak: Peak | None
    peak_at_start: Peak | None
    cases: Cases | None = None
    """Of a study with load cases."""


class Evidence(Entry):
    """How a functional under a constraint was evaluated, in its unit."""

    surrogate: Number
    fem_mapped: Number
    fem_levels: tuple[Level, ...]
    observed_order: Number
    discretization_error: Number
    grid_convergence_index: Number
    extrapolation: str


class ConstraintResult(Entry):
    """A constraint at the optimum; geometric ones by the design's own B-spline, others by fresh meshes of the STEP."""

    name: str
    quantity: str
    kind: ConstraintKind
    unit: str
    at_start: Number
    value: Number
    target: float
    miss: Number
    """Violation of the target, in the quantity's unit; a negative one is a margin."""
    tolerance: float
    """Relative to ``scale``."""
    scale: float
    """What the tolerance is relative to, in the quantity's unit."""
    allowed: float
    """Largest miss that counts as satisfied, in the quantity's unit: tolerance times scale."""
    satisfied: bool
    evidence: Evidence | None
    """Of a functional of the solution; null of a geometric quantity."""


class ParameterResult(Entry):
    """A design parameter at the optimum, with the objective's derivatives by finite elements there."""

    value: float
    lower: float
    upper: float
    initial: float
    unit: str
    bound_hit: bool
    sensitivity: Number
    """First derivative of the objective."""
    curvature: Number
    """Second derivative."""
    tolerance: Number
    """Deviation of this parameter alone that changes the objective by at most ``validation.manufacturing``."""


class BoundStop(Entry):
    """A bound that stops the search, and the gain of moving it by a tenth of its range, to first order."""

    parameter: str
    side: Literal["lower", "upper"]
    bound: float
    unit: str
    """Of the parameter."""
    per_unit: float
    """By how much the objective gets better per unit that the bound moves outward, positive."""
    moved_to: float
    gain: float
    """In the objective's unit, positive."""


class Gradient(Entry):
    """The surrogate's design gradient against the finite-element adjoint's, parameters scaled to their bounds."""

    cosine: Number
    cosine_at_start: Number
    relative_error: Number
    size_to_start: Number
    error_to_start: Number


class Correlation(Entry):
    """Rank correlation of a design's distance with the surrogate's error, on held-out designs."""

    designs: int
    field_error: Number
    gradient_error: Number


class NoveltyResult(Entry):
    """Distance of the design from the training designs, in the surrogate's latent features."""

    distance: Number
    typical_median: Number
    typical_95_percent: Number
    farther_in_box: Number
    """Share of designs of the training box that are farther."""
    correlation: Correlation | None


class OperatorResult(Entry):
    """The operator for all shapes that searched."""

    name: str
    """By its card."""
    gradient: Literal["lagrangian", "through_operator"]
    """Form of its design gradient."""
    novelty: Number
    """Largest distance of a descriptor of the problem at the optimum from the range of the population that it was
    trained on, in shares of that range; 0 inside."""
    outside_by: str | None
    """Which descriptor; null inside."""


class Extent(Entry):
    """Lengths of the part along x and y, and their ratio."""

    length: float
    height: float
    ratio: float


class Corner(Entry):
    """A corner of the part: where, length unit, and its angle in degrees."""

    point: tuple[float, ...]
    angle: float


class Part(Entry):
    """Size of the part, and its corners at the optimum."""

    initial: Extent
    optimum: Extent
    corners: tuple[Corner, ...]
    unit: str


class Stl(Entry):
    """The triangulation of a solid, by trimesh."""

    watertight: bool
    consistent_winding: bool
    volume: float
    facets: int


class Cad(Entry):
    """The STEP file read back."""

    file: str
    kind: Literal["solid", "face"]
    valid: bool
    area_or_volume_reread: Number
    area_or_volume_design: Number
    relative_error: Number
    max_deviation: Number
    """Largest distance between the curve read back and the design's, length unit."""
    b_spline_edges: int
    stl: Stl | None
    domain_relative_error: Number
    """Of ``domain.step``; null where the part is the domain."""


class Errors(Entry):
    """Errors of a surrogate, relative."""

    field: dict[str, Number]
    objective: Number
    gradient: Number
    cosine: Number
    designs: int


class BeforeAndAfter(Entry):
    """Errors of a surrogate before and after its tuning."""

    before: Errors
    after: Errors


class InfillResult(Entry):
    """Result of tuning the surrogate by the solutions of the search."""

    designs: int
    kept: bool
    held_out: BeforeAndAfter
    optimum: BeforeAndAfter


class Ending(Entry):
    """Why the optimizer ended."""

    reason: str
    text: str


class Sources(Entry):
    """SHA-256 of the study and of the files that the design depends on."""

    study: Digest
    """Of the study as resolved, without description, number of workers and path of the weights."""
    family: Digest | None
    """Of the file of a user's own geometry family."""
    physics: Digest | None = None
    """Of the file of a physics of one's own."""
    weights: Digest | None
    """Of the surrogate that searched."""


class Certificate(Entry):
    """What ``certificate.json`` holds."""

    version: Literal[6]
    """Of this schema; the schema's description says what changed with each."""
    study: str
    accepted: bool
    """Whether to rely on the design; the exit code is 0 only then."""
    verdict: str
    """In a sentence; names limits that are looser than their defaults."""
    reasons: tuple[str, ...]
    """Why it is not accepted, or that all checks passed."""
    design: DesignVerdict
    model: ModelVerdict | None
    """Null where finite elements alone searched."""
    limits: tuple[Limit, ...]
    """All limits that the study sets, beside their defaults."""
    parameters: dict[str, ParameterResult]
    joint_tolerance: Number
    """Share of the parameters' tolerances that is allowed for all at once."""
    objective: Objective
    constraints: tuple[ConstraintResult, ...]
    field_relative_l2_error: Mapping[str, Number] | None
    """Component -> error of the surrogate's field at the optimum."""
    gradient: Gradient | None
    kkt_residual: Number
    """Share of the objective's gradient, or of 5 % of that at the start where it is smaller, that is not balanced."""
    multipliers: Mapping[str, Number]
    """Constraint -> change of the optimal objective per unit of its target."""
    bounds_that_stop: tuple[BoundStop, ...] = ()
    """The largest gain first; negligible ones are left out."""
    novelty: NoveltyResult | None
    """Null where finite elements alone or an operator for all shapes searched."""
    operator: OperatorResult | None = None
    """Null where no operator for all shapes searched."""
    part: Part
    cad: Cad
    warnings: tuple[str, ...]
    fem_solves: dict[str, int]
    infill: InfillResult | None = None
    exit: Ending | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    """Stage -> seconds."""
    sources: Sources | None = None
    files: dict[str, Digest] = Field(default_factory=dict)
    """SHA-256 of the files that belong to the design: CAD, mesh, fields."""

    def with_run(self, **content: Any) -> Certificate:
        """The certificate with what the run adds to it."""
        return Certificate.model_validate({**dict(self), **content})

    def as_data(self) -> dict[str, Any]:
        """Plain data, as JSON holds it."""
        return self.model_dump(mode="json")

    def __str__(self) -> str:
        """What a person reads first: the verdict, the objective, the constraints, and why it is not accepted."""
        objective = self.objective
        lines = [
            f"{self.study}: {self.verdict}",
            f"{objective.name}: {_shown(objective.initial_fem)} at the start, {_shown(objective.fem)} by finite"
            " elements on the CAD file read back,"
            f" {_shown(objective.fem_extrapolated)} extrapolated [{objective.unit}]",
            *(
                f"{row.name} {_shown(row.target)}: {_shown(row.value)} [{row.unit}]{', missed' * (not row.satisfied)}"
                for row in self.constraints
            ),
            f"KKT residual: {_shown(self.kkt_residual, 2)}",
        ]
        return "\n".join(lines if self.accepted else [*lines, *self.reasons])


def _shown(value: float | None, digits: int = 7) -> str:
    return "no number" if value is None else f"{value:.{digits}g}"


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Write it as JSON, whole or not at all."""
    write_json(path, certificate.as_data())


def read_certificate(path: Path | str) -> Certificate:
    """Read and check a certificate: the file, or that of an output folder.

    Raises:
        CertificateError: there is none, or it does not follow the schema; names the entries that do not.
    """
    return _read(path, VERSION)[0]


def read_any_version(path: Path | str) -> tuple[Certificate, int]:
    """A certificate under the present names of its entries, and the version that its file has: this one or an older.

    Raises:
        CertificateError: as of :func:`read_certificate`; also where an older version lacks what this one needs.
    """
    return _read(path, OLDEST)


def _read(path: Path | str, oldest: int) -> tuple[Certificate, int]:
    path = Path(path)
    if path.is_dir():
        path /= "certificate.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CertificateError(f"{path}: there is no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CertificateError(f"{path}: is no JSON ({error})") from error
    version = content.get("version") if isinstance(content, dict) else None
    if not isinstance(version, int) or not oldest <= version <= VERSION:
        found = "no version" if version is None else f"version {version!r:.40}"
        raise CertificateError(
            f"{path}: version: found {found}; expected {VERSION}, which `shapewright validate STUDY.yaml` makes"
        )
    try:
        return Certificate.model_validate(_presented(content)), version
    except ValidationError as error:
        raise CertificateError(f"{path}: {faults(error)}") from None


def _presented(content: dict[str, Any]) -> dict[str, Any]:
    """The data of an older certificate under the names that version 6 gave to entries."""
    named = {"novelty" if name == "familiarity" else name: _with_points(entry) for name, entry in content.items()}
    return named | {"version": VERSION}


def _with_points(entry: Any) -> Any:
    """An entry in which coordinates, of corners and peaks, are named point and not place."""
    if isinstance(entry, list):
        return [_with_points(item) for item in entry]
    if not isinstance(entry, dict):
        return entry
    return {
        "point" if name == "place" and isinstance(item, list) else name: _with_points(item)
        for name, item in entry.items()
    }


def faults(error: ValidationError) -> str:
    """What is wrong with the entries of a file, the first ten of them, in a line."""
    return "; ".join(_fault(entry) for entry in error.errors()[:10])


def _fault(error: Mapping[str, Any]) -> str:
    entry = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"has no entry '{entry}'"
    return f"{entry}: {error['msg']}" if entry else f"is not whole ({error['msg']})"


def json_schema_text() -> str:
    """What ``certificate_schema.json`` holds."""
    return schema_text(Certificate, " ".join(f"Version {number}: {text}" for number, text in CHANGES.items()))


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
