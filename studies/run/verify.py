"""Checks of a finished output folder: no file has changed, and the certificate agrees with files, study and design.

Four kinds of evidence, from cheap to dear: the hashes that stages and certificate hold of files; the certificate's
numbers against each other; the CAD read back and measured again beside the design's own curve; and, where asked for,
everything solved again by finite elements on fresh meshes of the STEP file.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapewright.geometries.cad.mesher import MeshError
from shapewright.geometries.cad.step import CadError, check_step
from shapewright.geometries.family.effort import forcing
from shapewright.solvers.errors import SolveError
from shapewright.studies.certify.comparison import relative
from shapewright.studies.certify.convergence import (
    DERIVATIVES_ON_BOUNDARY,
    USUAL,
    Level,
    extrapolate,
    extrapolated,
)
from shapewright.studies.certify.digest import study_digest
from shapewright.studies.certify.front_model import FRONT
from shapewright.studies.certify.model import (
    VERSION,
    Certificate,
    CertificateError,
    ConstraintResult,
    Objective,
    read_any_version,
)
from shapewright.studies.certify.refinement import refine, step_mesher
from shapewright.studies.certify.remarks import stopped
from shapewright.studies.certify.resolution import resolution_checks
from shapewright.studies.certify.verdict_model import DesignVerdict, ModelVerdict
from shapewright.studies.certify.verdicts import design_verdict, limits, model_verdict, overall
from shapewright.studies.files import sha256
from shapewright.studies.problem.constraints import geometric_values
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.operators import operator_path
from shapewright.studies.problem.own_files import family_file, physics_file
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.run.optimum import read_optimum
from shapewright.studies.run.train import WEIGHTS
from shapewright.studies.run.verify_front import Finding, verify_front
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import Study, StudyError, load_study
from shapewright.studies.schema.study import StudyModel

EXACT = 1e-9
"""Relative difference of numbers that are computed anew from the same data."""
_SENTENCE = "verdict is "
"""How a fault in the verdict's sentence begins."""
STAGES = ("sample", "train", "optimize", "infill", "compare", "export", "validate")


def verify(folder: Path, resolve: bool = False) -> list[Finding]:
    """Check a finished folder, of a front all of its designs; writes nothing into it.

    Args:
        folder: output folder of a study.
        resolve: solve the design again by finite elements on fresh meshes of the STEP file.
    """
    if (folder / FRONT).is_file():
        return verify_front(folder, partial(_verify_single, resolve=resolve))
    return _verify_single(folder, resolve)


def _verify_single(folder: Path, resolve: bool) -> list[Finding]:
    try:
        certificate, version = read_any_version(folder / "certificate.json")
    except CertificateError as error:
        return [Finding("certificate.json", False, str(error))]
    older = version < VERSION
    text = f"follows its schema, version {version}"
    if older:
        text = f"is of version {version}, older than this program's {VERSION}; what both versions have is compared"
    found = [Finding("certificate.json", True, text), *_files(folder, certificate), *_records(folder)]
    faults = contradictions(certificate, version)
    found.append(_finding("numbers", faults, "the certificate does not contradict itself"))
    try:
        study = load_study(folder / "resolved.yaml").forced()  # whatever its size, it was run
        setup = build_setup(study)
    except (StudyError, OSError) as error:
        return [*found, Finding("resolved.yaml", False, str(error))]
    found += [*_sources(folder, certificate, study, older), _design(folder, certificate)]
    theta = _theta(certificate, setup)
    if theta is None:
        return [*found, Finding("parameters", False, "are not those of the study's geometry family")]
    found += [_conditions(certificate, setup, theta), _cad(folder, certificate, setup, theta)]
    return [*found, *(_solved_again(folder, certificate, setup, theta) if resolve else ())]


def _finding(what: str, faults: list[str], otherwise: str) -> Finding:
    return Finding(what, not faults, "; ".join(faults) or otherwise)


def _files(folder: Path, certificate: Certificate) -> Iterator[Finding]:
    """Files that the certificate holds the hash of."""
    if "optimum.step" not in certificate.files:
        yield Finding("files", False, "the certificate holds no SHA-256 of optimum.step")
    for name, digest in certificate.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            yield Finding(name, False, "there is no such file")
        elif sha256(path) != digest:
            yield Finding(name, False, "is not the file that the certificate is of: its SHA-256 differs")
        else:
            yield Finding(name, True, "is the file that the certificate is of")


def _records(folder: Path) -> Iterator[Finding]:
    """Files of the stages that led to the certificate, against their records."""
    workspace = Workspace(folder)
    for stage in STAGES:
        record = workspace.record(stage)
        if record is None:
            if stage in ("optimize", "export", "validate"):
                yield Finding(f"stage {stage}", False, "has no whole record")
            continue
        faults = [f"{name} was changed after the stage wrote it" for name in workspace.changed(record)]
        yield _finding(f"stage {stage}", faults, "left the files that are there")


def _sources(
    folder: Path, certificate: Certificate, study: Study[StudyModel], older: bool = False
) -> Iterator[Finding]:
    """Study, files of one's own and weights, against the hashes in the certificate."""
    sources = certificate.sources
    if sources is None:
        yield Finding("sources", False, "the certificate does not say which study it is of")
        return
    same = study_digest(study) == sources.study
    text = "is the study of the certificate" if same else "is not the study that the certificate is of"
    if older and not same:  # the hash is of keys by their names
        same, text = True, "has keys that may have had other names, and its SHA-256 was not compared"
    yield Finding("resolved.yaml", same, text)
    weights, operator = study.model.surrogate.weights, study.model.operator
    searched = (folder / WEIGHTS if weights is None else study.folder / weights).resolve()
    if operator is not None:
        searched = operator_path(study, operator.operator).resolve()
    for what, path, digest in (
        ("family", family_file(study), sources.family),
        ("physics", physics_file(study), sources.physics),
        ("weights", searched, sources.weights),
    ):
        if digest is None:
            continue
        if path is None or not path.is_file():
            yield Finding(what, True, f"{path}: is not there, and was not compared")
        elif sha256(path) != digest:
            yield Finding(what, False, f"{path}: its SHA-256 is not that in the certificate")
        else:
            yield Finding(what, True, f"{path}: as in the certificate")


def _design(folder: Path, certificate: Certificate) -> Finding:
    """The parameters in ``optimum.json``, against those of the certificate."""
    own = {name: entry.value for name, entry in certificate.parameters.items()}
    try:
        there = read_optimum(folder / "optimum.json").parameters
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Finding("optimum.json", False, f"cannot be read ({error})")
    if not isinstance(there, Mapping):
        return Finding("optimum.json", False, "holds no parameters")
    faults = [
        f"{name} is {there.get(name)} there and {own.get(name)} in the certificate"
        for name in sorted({*own, *there})
        if own.get(name) != there.get(name)
    ]
    return _finding("optimum.json", faults, "holds the design of the certificate")


def _theta(certificate: Certificate, setup: Setup) -> Tensor | None:
    if list(certificate.parameters) != [parameter.name for parameter in setup.family.parameters]:
        return None
    return torch.tensor([entry.value for entry in certificate.parameters.values()], dtype=torch.float64)


def contradictions(certificate: Certificate, version: int = VERSION) -> list[str]:
    """Numbers and results of a certificate that do not follow from its other numbers.

    Of an older ``version`` its sentences are not compared, whose words have changed since, nor checks that it had not.
    """
    kinds = [_check_faults, _objective_faults, _row_faults, _verdict_faults]
    if version >= 5:
        kinds.append(_resolution_faults)
    found = [fault for kind in kinds for fault in kind(certificate)]
    return [fault for fault in found if version == VERSION or not fault.startswith(_SENTENCE)]


def _check_faults(certificate: Certificate) -> Iterator[str]:
    objective, gradient = certificate.objective, certificate.gradient
    fields = certificate.field_relative_l2_error
    stated: dict[str, float | None] = {
        "mesh error": objective.discretization_error,
        "KKT residual": certificate.kkt_residual,
        "CAD measure": certificate.cad.relative_error,
        "objective": objective.surrogate_relative_error,
        "CAD valid": float(certificate.cad.valid),
    }
    if fields is not None and None not in fields.values():
        stated["fields"] = max(value for value in fields.values() if value is not None)
    if gradient is not None:
        stated |= {"gradient cosine": gradient.cosine, "gradient cosine at the start": gradient.cosine_at_start}
        stated["gradient error"] = gradient.error_to_start
    given = {limit.name: limit.value for limit in certificate.limits}
    verdicts: list[DesignVerdict | ModelVerdict] = [certificate.design]
    if certificate.model is not None:
        verdicts.append(certificate.model)
    for check in (check for verdict in verdicts for check in verdict.checks):
        if check.name in stated and not _same(check.value, stated[check.name]):
            yield f"check '{check.name}' has {check.value} where the certificate states {stated[check.name]}"
        if check.name in given and not _same(check.limit, given[check.name]):
            yield f"check '{check.name}' has the limit {check.limit}, the list of limits {given[check.name]}"
        if check.value is None:
            met = False
        else:
            met = check.value <= check.limit if check.relation == "<=" else check.value >= check.limit
        if met != check.satisfied:
            yield f"check '{check.name}': {check.value} {check.relation} {check.limit} is {met}, not {check.satisfied}"


def _objective_faults(certificate: Certificate) -> Iterator[str]:
    objective, reference = certificate.objective, certificate.objective.reference
    start, fem, limit = objective.initial_fem, objective.fem, objective.fem_extrapolated
    if not _same(fem, objective.fem_levels[-1].value):
        yield f"objective.fem is {fem}, the finest of objective.fem_levels {objective.fem_levels[-1].value}"
    if fem is None or start is None or limit is None or reference is None:
        return
    if not _same(reference, max(abs(fem), abs(fem - start))):
        yield f"objective.reference is {reference}, not the larger of the value and its change from the start"
    if start and objective.improvement is not None:
        sign = 1 if objective.sense == "minimize" else -1
        gain = -sign * (fem - start) / abs(start)
        if not math.isclose(gain, objective.improvement, rel_tol=1e-6, abs_tol=EXACT):
            yield f"objective.improvement is {objective.improvement}; values at start and optimum give {gain:.6g}"
    yield from _extrapolation_faults(objective, reference)
    claimed, off = objective.surrogate, objective.surrogate_relative_error
    if claimed is not None and off is not None and reference:
        apart = abs(claimed - limit) / reference
        if not math.isclose(apart, off, rel_tol=1e-6, abs_tol=EXACT):
            yield f"objective.surrogate is {apart:.3g} off finite elements, not {off:.3g}"


def _extrapolation_faults(objective: Objective, reference: float) -> Iterator[str]:
    """Limit and error, against those that the levels lead to by one of the orders that a functional may have."""
    if any(level.value is None for level in objective.fem_levels):
        return
    levels = [Level(**dict(level)) for level in objective.fem_levels]
    candidates = [extrapolate(levels, orders, reference) for orders in (USUAL, DERIVATIVES_ON_BOUNDARY)]
    stated = objective.fem_extrapolated, objective.discretization_error, objective.grid_convergence_index
    ours = [(c.value, relative(c.error, reference), relative(c.gci, reference)) for c in candidates]
    finite = [[x if math.isfinite(x) else None for x in found] for found in ours]
    if not any(all(map(_close, found, stated)) for found in finite):
        yield (
            f"objective.fem_levels lead to the limit {ours[0][0]:.9g} with a discretization_error of {ours[0][1]:.3g},"
            f" the certificate states {stated[0]} and {stated[1]}"
        )


def _close(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-12)


def _row_faults(certificate: Certificate) -> Iterator[str]:
    for row in certificate.constraints:
        miss = _miss(row)
        if not _same(miss, row.miss, 1e-6 * row.scale):
            yield f"constraint '{row.name}': value and target give a miss of {miss}, not {row.miss}"
        if not math.isclose(row.allowed, row.tolerance * row.scale, rel_tol=EXACT):
            yield f"constraint '{row.name}': tolerance times scale is {row.tolerance * row.scale}, not {row.allowed}"
        met = miss is not None and miss <= row.allowed * (1 + EXACT)
        if met != row.satisfied:
            yield f"constraint '{row.name}': a miss of {miss} where {row.allowed} is allowed is not {row.satisfied}"


def _resolution_faults(certificate: Certificate) -> Iterator[str]:
    """Checks of how well meshes tell what is constrained, against those that constraints and limits lead to."""
    given = {limit.name: limit.value for limit in certificate.limits}
    stated = {check.name: check for check in certificate.design.checks}
    limits_of_meshes = given.get("mesh error", 0.0), given.get("mapped mesh", 0.0)
    for check in resolution_checks(certificate.constraints, *limits_of_meshes):
        own = stated.get(check.name)
        if own is None or not _same(own.value, check.value) or not _same(own.limit, check.limit):
            yield f"check '{check.name}' is {own and own.value}; the constraint gives {check.value} <= {check.limit}"


def _miss(row: ConstraintResult) -> float | None:
    if row.value is None:
        return None
    gap = row.value - row.target
    return abs(gap) if row.kind == "equals" else (-gap if row.kind == "at_least" else gap)


def _verdict_faults(certificate: Certificate) -> Iterator[str]:
    """Verdicts and their sentences, against those that checks, constraints and limits lead to."""
    found = certificate.limits
    design = design_verdict(certificate.design.checks, certificate.constraints, found)
    stated, model = certificate.model, None
    if stated is not None:
        model = model_verdict(stated.checks, stated.decisive, found, stated.by)
        if model.accepted != stated.accepted:
            yield f"model.accepted is {stated.accepted}; its checks give {model.accepted}"
    if design.accepted != certificate.design.accepted:
        yield f"design.accepted is {certificate.design.accepted}; checks and constraints give {design.accepted}"
    accepted, verdict, _ = overall(design, model, found)
    if accepted:
        verdict += stopped(certificate.bounds_that_stop, certificate.objective.reference or 0.0)
    if accepted != certificate.accepted:
        yield f"accepted is {certificate.accepted}; the verdicts give {accepted}"
    elif verdict != certificate.verdict:
        yield f"{_SENTENCE}'{certificate.verdict}'; checks and limits give '{verdict}'"


def _same(first: float | None, second: float | None, size: float = 0.0) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=EXACT, abs_tol=EXACT * size)


def _conditions(certificate: Certificate, setup: Setup, theta: Tensor) -> Finding:
    """Limits and geometric constraints, against the study and the design."""
    faults = []
    given = {limit.key: limit.value for limit in limits(setup.study.model, setup.constraints)}
    for limit in certificate.limits:
        if limit.key not in given or not _same(limit.value, given[limit.key]):
            faults.append(f"{limit.key} is {limit.value} in the certificate, {given.get(limit.key)} in the study")
    if missing := set(given) - {limit.key for limit in certificate.limits}:
        faults.append(f"the certificate states no {', '.join(sorted(missing))}")
    rows = {row.name: row for row in certificate.constraints}
    if list(rows) != [condition.name for condition in setup.constraints]:
        return _finding("constraints", [*faults, "they are not those of the study"], "")
    values = iter(geometric_values(setup, theta.numpy())[0].tolist())
    for condition in setup.constraints:
        row = rows[condition.name]
        if not math.isclose(row.target, condition.target, rel_tol=1e-6, abs_tol=1e-6 * row.scale):
            faults.append(f"{row.name}: target {row.target}, in the study {condition.target}")
        if not _same(row.tolerance, condition.tolerance):
            faults.append(f"{row.name}: tolerance {row.tolerance}, in the study {condition.tolerance}")
        if condition.functional is None and not _same(row.value, value := next(values), row.scale):
            faults.append(f"{row.name}: the design has {value:.9g}, the certificate {row.value}")
    return _finding("constraints", faults, "limits are those of the study, geometric quantities those of the design")


def _cad(folder: Path, certificate: Certificate, setup: Setup, theta: Tensor) -> Finding:
    """The STEP file read back once more, beside the curve of the certificate's design."""
    unit = setup.study.model.geometry.length_unit
    control_points = setup.family.control_points(theta).numpy()
    try:
        check = check_step(folder / "optimum.step", setup.family, control_points, unit)
    except CadError as error:
        return Finding("CAD", False, str(error))
    outline = setup.family.outline(control_points, setup.family.part)
    size = float(np.ptp(outline, axis=0).max())
    stated = certificate.cad.area_or_volume_reread
    faults = [] if check.valid else ["OpenCASCADE finds optimum.step invalid"]
    if stated is None or not math.isclose(check.measure, stated, rel_tol=1e-8):
        faults.append(f"optimum.step measures {check.measure:.9g}, the certificate states {stated}")
    if check.max_deviation > 1e-6 * size:
        faults.append(
            f"the curve in optimum.step is up to {check.max_deviation:.3g} {unit} off the design of the certificate"
        )
    return _finding("CAD", faults, "optimum.step holds the curve of the design, and measures what is stated")


def _solved_again(folder: Path, certificate: Certificate, setup: Setup, theta: Tensor) -> Iterator[Finding]:
    """Objective and constraints by finite elements on fresh meshes of the STEP file, within the errors stated."""
    try:
        with forcing(True), tempfile.TemporaryDirectory() as scratch:
            step = Path(shutil.copy(folder / "optimum.step", scratch))
            refined = refine(setup, theta, step_mesher(setup, theta, step))
        mapped, _, _ = FemModel(setup).functionals(theta)
    except (MeshError, SolveError, OSError) as error:
        yield Finding("solved again", False, str(error))
        return
    objective = certificate.objective
    size = objective.reference or 0.0
    start = setup.problem.objective.name, objective.initial_fem or 0.0
    band = None if objective.grid_convergence_index is None else objective.grid_convergence_index * size
    limit = extrapolated(refined, setup.problem.objective, start[1])
    fine = refined.levels[start[0]][-1].value
    yield _compared("objective, extrapolated", limit.value, _Stated(objective.fem_extrapolated, band, size), limit.gci)
    yield _compared("objective, finest mesh", fine, _Stated(objective.fem, band, size), limit.gci)
    yield _compared("objective, moved mesh", float(mapped[0]), _Stated(objective.fem_mapped, band, size), limit.gci)
    for row in certificate.constraints:
        if row.evidence is None:
            continue
        functional = next(f for f in setup.problem.functionals if f.name == row.quantity)
        again = extrapolated(refined, functional, row.at_start or 0.0)
        stated = _Stated(row.value, row.evidence.grid_convergence_index, row.scale)
        yield _compared(f"constraint '{row.name}'", again.value, stated, again.gci)


@dataclass(frozen=True)
class _Stated:
    """A value of the certificate, the error stated for it, and the size that values of its kind have."""

    value: float | None
    error: float | None
    size: float


def _compared(what: str, again: float, stated: _Stated, error: float) -> Finding:
    """A value solved again, with the error found now, against the one stated."""
    if stated.value is None or stated.error is None:
        return Finding(what, False, f"{again:.9g} when solved again; the certificate states no value with an error")
    own = error if math.isfinite(error) else 0.0
    allowed = stated.error + own + 1e-8 * max(abs(stated.value), stated.size)
    text = f"{again:.9g} when solved again, {stated.value:.9g} stated"
    ok = abs(again - stated.value) <= allowed
    return Finding(what, ok, text if ok else f"{text}: more than {allowed:.2g} apart, the errors of both together")
