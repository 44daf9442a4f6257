"""Stages of a study of a front: one for each design, both ends first, and one that puts them together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from shapewright.studies.certify.front_model import (
    FRONT,
    VERSION,
    FrontObjective,
    FrontPoint,
    FrontResult,
    PointLimit,
    read_front,
    write_front,
)
from shapewright.studies.certify.model import Certificate, Ending, read_certificate
from shapewright.studies.files import content_key, sha256
from shapewright.studies.optimize.dominance import dominated_by, hypervolume
from shapewright.studies.optimize.trust_region_search import SolutionStore
from shapewright.studies.problem.front import Array, Frame, Limit, front_of, next_limit
from shapewright.studies.problem.setup import Setup
from shapewright.studies.run.failed_search import OptimizationError
from shapewright.studies.run.front_point import Found, Task, find
from shapewright.studies.run.optimum import read_optimum
from shapewright.studies.run.sample import physical_inputs
from shapewright.studies.run.search import search_inputs
from shapewright.studies.run.stage import Inputs, Output, Results, Run, Stage
from shapewright.studies.run.validate import CAD_VERSION, CERTIFICATE
from shapewright.studies.run.workspace import Record
from shapewright.studies.schema.study import Objective, StudyModel

REFERENCE = (1.1, 1.1)
"""Point up to which the hypervolume counts, in objectives scaled to 0 at their best and 1 at their worst."""


def front_stages(model: StudyModel) -> tuple[Stage[Any], ...]:
    """The stages of a study of a front: points 1 and n, then those between from the first on, then the whole."""
    assert model.front is not None
    count = model.front.points
    order = [1, count, *range(2, count)]
    store: list[SolutionStore] = []
    stages: list[Stage[Found]] = []
    for number in order:
        before = tuple(stages)
        stages.append(_point_stage(number, count, before, store))
    return (*stages, Stage(FRONT_NAME, tuple(stages), _whole_inputs(stages), _whole(stages), _read, VERSION))


FRONT_NAME = "front"


def front_stage(stages: Sequence[Stage[Any]]) -> Stage[FrontResult]:
    """The last stage of a study of a front."""
    return stages[-1]


def _point_stage(
    number: int, count: int, before: tuple[Stage[Found], ...], store: list[SolutionStore]
) -> Stage[Found]:
    """The stage of one design, which depends on all designs before it; ``store`` holds their solutions once opened."""

    def task(run: Run[Setup], results: Results) -> Task:
        return _task(run.setup, number, count, [results[stage] for stage in before])

    def inputs(run: Run[Setup], results: Results) -> Inputs:
        model, wanted = run.setup.study.model, task(run, results)
        return {
            **physical_inputs(run.setup),
            **search_inputs(run.setup),
            "objectives": [o.model_dump(mode="json") for o in front_of(run.setup.study)[0]],
            "optimizer": model.optimizer.model_dump(),
            "model": None if model.operator is None else model.operator.model_dump(),
            "validation": model.validation.model_dump(),
            "geometry.thickness": model.geometry.thickness,
            "front.tolerance": front_of(run.setup.study)[1].tolerance,
            "front.share": front_of(run.setup.study)[1].share,
            "CAD version": CAD_VERSION,
            "point": {**asdict(wanted), "start": wanted.start.tolist(), "known": len(wanted.known)},
        }

    def make(run: Run[Setup], results: Results, key: str) -> Output:
        if not store:
            setup = run.setup
            folder = content_key("front centres", *physical_inputs(setup).values())
            store.append(SolutionStore(setup, run.workspace.path(f"centres/{folder}")))
        run.report(f"point {number} of {count}", 0, 1, "")
        found, files = find(run, task(run, results), store[0])
        run.report(f"point {number} of {count}", 1, 1, " | ".join(f"{value:.6g}" for value in found.values))
        return Output(files, {"found": asdict(found)})

    def read(run: Run[Setup], results: Results, record: Record | None) -> Found:
        assert record is not None
        return Found.of_data(dict(record.content["found"]))

    return Stage(f"point{number:02d}", before, inputs, make, read)


def _task(setup: Setup, number: int, count: int, before: Sequence[Found]) -> Task:
    """What is to be found as design ``number`` of the front, by those found before it.

    Raises:
        OptimizationError: the ends show that one design is best in both objectives.
    """
    front = front_of(setup.study)[1]
    known = tuple(file for found in before for file in found.solved) if front.share else ()
    whole = front.certificates == "all" or number in (1, count)
    if number in (1, count):
        return Task(number, None, 0 if number == 1 else 1, setup.initial.numpy(), whole, known)
    signs = _signs(setup)
    frame = Frame.of(np.array([found.values for found in before[:2]]) * signs)
    if not frame.conflicting:
        first, second = (objective.name for objective in front_of(setup.study)[0])
        raise OptimizationError(
            f"front: {first} and {second} do not contradict each other: one design is best in both, so that there is no"
            " front; choose other objectives, or wider bounds"
        )
    last = before[0] if number == 2 else before[-1]
    at = frame.scaled(np.array(last.values) * signs)
    of, level = next_limit(at, _slope(frame, signs, last), -1.0 + 2.0 * (number - 1) / (count - 1))
    value = float(frame.raw(np.full(2, level))[of] * signs[of])
    return Task(number, Limit(of, value), 1 - of, last.theta, whole, known)


def _signs(setup: Setup) -> Array:
    return np.array([objective.sign for objective in front_of(setup.study)[0]], dtype=np.float64)


def _slope(frame: Frame, signs: Array, found: Found) -> float:
    """Of the front at a design, in coordinates of the frame: the second objective by the first; not above zero."""
    if found.limit is None or not found.slope:
        return -math.inf
    of = found.limit.of
    rate = found.slope * signs[1 - of] / frame.span[1 - of] * frame.span[of] / signs[of]  # of the one sought
    rate = min(float(rate), -1e-12)
    return rate if of == 0 else 1.0 / rate


def _whole_inputs(stages: Sequence[Stage[Found]]) -> Callable[[Run[Setup], Results], Inputs]:
    def inputs(run: Run[Setup], results: Results) -> Inputs:
        certificates = [run.workspace.path(f"points/{_number(stage):02d}/{CERTIFICATE}") for stage in stages]
        return {
            "study": run.setup.study.model.name,
            "found": {stage.name: asdict(results[stage]) for stage in stages},
            "certificates": [sha256(path) if path.is_file() else None for path in certificates],
            "front.certificates": front_of(run.setup.study)[1].certificates,
        }

    return inputs


def _number(stage: Stage[Found]) -> int:
    return int(stage.name.removeprefix("point"))


def _whole(stages: Sequence[Stage[Found]]) -> Callable[[Run[Setup], Results, str], Output]:
    def make(run: Run[Setup], results: Results, key: str) -> Output:
        ordered = sorted(stages, key=_number)
        founds = [results[stage] for stage in ordered]
        seconds = [results.records[stage.name].seconds for stage in ordered]
        write_front(run.workspace.path(FRONT), assemble(run, founds, seconds))
        return Output((FRONT,))

    return make


def assemble(run: Run[Setup], founds: Sequence[Found], seconds: Sequence[float]) -> FrontResult:
    """The front of designs in their order on it, with the seconds that each took."""
    objectives, front = front_of(run.setup.study)
    folders = [f"points/{number:02d}" for number in range(1, len(founds) + 1)]
    whole = [front.certificates == "all" or n in (0, len(founds) - 1) for n in range(len(founds))]
    certificates = [
        read_certificate(run.workspace.path(f"{folder}/{CERTIFICATE}")) if has else None
        for folder, has in zip(folders, whole, strict=True)
    ]
    values = np.array([found.values for found in founds])
    if all(whole):
        values = np.array([_extrapolated(c, objectives) for c in certificates if c is not None])
    signs = _signs(run.setup)
    scaled = Frame.of((values * signs)[[0, -1]]).scaled(values * signs)
    beaten = dominated_by(scaled)
    points = tuple(
        _point(run, objectives, number, founds[number], certificates[number], values[number], beaten[number], took)
        for number, took in enumerate(seconds)
    )
    totals: dict[str, Counter[str]] = {"search_solves": Counter(), "certificate_solves": Counter()}
    for point in points:
        for kind, total in totals.items():
            total.update(getattr(point, kind))
    rejected = [point.number for point in points if not point.accepted]
    dominated = [point.number for point in points if point.dominated_by is not None]
    return FrontResult(
        version=VERSION,
        study=run.setup.study.model.name,
        accepted=not rejected and not dominated,
        verdict=_verdict(points, rejected, dominated),
        objectives=tuple(_objective(run.setup, o, values[:, i], i) for i, o in enumerate(objectives)),  # type: ignore[arg-type]
        evaluated="extrapolated" if all(whole) else "moved mesh",
        points=points,
        hypervolume=hypervolume(scaled, np.array(REFERENCE)),
        reference=REFERENCE,
        **{kind: dict(total) for kind, total in totals.items()},
    )


def _verdict(points: Sequence[FrontPoint], rejected: Sequence[int], dominated: Sequence[int]) -> str:
    count, without = len(points), sum(not point.certified for point in points)
    if not rejected and not dominated:
        text = f"Accepted: all {count} designs are accepted and none is dominated"
        return f"{text}; {without} of them by search and CAD alone, without a certificate" if without else text
    parts = [f"designs {_listed(rejected)} are not accepted"] if rejected else []
    parts += [f"designs {_listed(dominated)} are dominated"] if dominated else []
    return f"Not accepted: of {count} designs, {' and '.join(parts)}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _objective(setup: Setup, objective: Objective, values: Array, index: int) -> FrontObjective:
    unit = next(f.unit for f in setup.problem.functionals if f.name == objective.name)
    return FrontObjective(
        name=objective.name,
        sense="minimize" if objective.sign > 0 else "maximize",
        unit=unit,
        best=float(values[-1 if index else 0]),
        worst=float(values[0 if index else -1]),
    )


def _extrapolated(certificate: Certificate, objectives: tuple[Objective, Objective]) -> list[float]:
    """Both objectives of a design by its certificate: one is its objective, the other is under a limit."""
    found = {row.quantity: row.value for row in certificate.constraints if row.evidence is not None}
    found[certificate.objective.name] = certificate.objective.fem_extrapolated
    values = [found[objective.name] for objective in objectives]
    return [math.nan if value is None else value for value in values]


def _point(
    run: Run[Setup],
    objectives: tuple[Objective, Objective],
    index: int,
    found: Found,
    certificate: Certificate | None,
    values: Array,
    beaten: int | None,
    seconds: float,
) -> FrontPoint:
    folder = f"points/{index + 1:02d}"
    ending = read_optimum(run.workspace.path(f"{folder}/optimum.json")).exit
    limit = None
    if found.limit is not None:
        limit = PointLimit(objective=objectives[found.limit.of].name, value=found.limit.value)
    in_all = {} if certificate is None else certificate.fem_solves
    own = {kind: count - found.solves.get(kind, 0) for kind, count in in_all.items()}
    plain = "KKT residual, constraints and CAD are in order; no whole certificate"
    verdict = certificate.verdict if certificate else "; ".join(found.failed) or plain
    return FrontPoint(
        number=index + 1,
        folder=folder,
        parameters=found.parameters,
        objectives=(float(values[0]), float(values[1])),
        limit=limit,
        dominated_by=None if beaten is None else beaten + 1,
        certified=certificate is not None,
        accepted=certificate.accepted if certificate else not found.failed,
        verdict=verdict,
        kkt_residual=certificate.kkt_residual if certificate else found.kkt,
        exit=Ending(reason=ending.reason, text=ending.text),
        search_solves=found.solves,
        certificate_solves=own,
        seconds=seconds,
    )


def _read(run: Run[Setup], results: Results, record: object) -> FrontResult:
    return read_front(run.workspace.path(FRONT))
