"""Checks of a finished front: each of its designs as a study of its own, and the whole against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shapewright.studies.certify.front_model import FRONT, FrontError, FrontResult, read_front
from shapewright.studies.certify.model import CertificateError
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.run.front import assemble
from shapewright.studies.run.front_point import Found
from shapewright.studies.run.stage import Run
from shapewright.studies.run.workspace import Record, Workspace
from shapewright.studies.schema.loader import StudyError, load_study


@dataclass(frozen=True)
class Finding:
    """Result of one check: what was checked, whether it holds, and what was found."""

    what: str
    ok: bool
    text: str


def verify_front(folder: Path, verify_single: Callable[[Path], list[Finding]]) -> list[Finding]:
    """Check the output folder of a front; ``verify_single`` checks that of one of its designs."""
    try:
        front = read_front(folder)
    except FrontError as error:
        return [Finding(FRONT, False, str(error))]
    found = [Finding(FRONT, True, "follows its schema, version 1"), *_records(folder, front)]
    for point in front.points:
        if point.certified:
            own = verify_single(folder / point.folder)
            faults = [f"{finding.what}: {finding.text}" for finding in own if not finding.ok]
            text = "; ".join(faults) or f"is as certified by {len(own)} checks"
            found.append(Finding(point.folder, not faults, text))
    return [*found, _assembled(folder, front)]


def _records(folder: Path, front: FrontResult) -> Iterator[Finding]:
    """Files of all stages, against their records."""
    workspace = Workspace(folder)
    for stage in (*(f"point{point.number:02d}" for point in front.points), "front"):
        record = workspace.record(stage)
        if record is None:
            yield Finding(f"stage {stage}", False, "has no whole record")
            continue
        faults = [f"{name} was changed after the stage wrote it" for name in workspace.changed(record)]
        yield Finding(f"stage {stage}", not faults, "; ".join(faults) or "left the files that are there")


def _assembled(folder: Path, front: FrontResult) -> Finding:
    """Objectives, dominance, hypervolume and verdict, by the certificates and records of the designs."""
    workspace = Workspace(folder)
    try:
        study = load_study(folder / "resolved.yaml").forced()  # whatever its size, it was run
        records = [workspace.record(f"point{point.number:02d}") for point in front.points]
        whole = [record for record in records if isinstance(record, Record)]
        founds = [Found.of_data(dict(record.content["found"])) for record in whole]
        anew = assemble(Run(build_setup(study), workspace), founds, [record.seconds for record in whole])
    except (StudyError, CertificateError, OSError, KeyError, TypeError, ValueError) as error:
        return Finding("designs", False, f"cannot be put together again ({error})")
    names = [name for name in FrontResult.model_fields if getattr(anew, name) != getattr(front, name)]
    if names:
        return Finding("designs", False, f"{FRONT} differs from what the designs say in {', '.join(names)}")
    return Finding("designs", True, f"{FRONT} is what certificates and records of the designs say")
