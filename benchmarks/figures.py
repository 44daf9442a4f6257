"""The project's figures, measured in one run and printed beside what they are compared with.

Run as ``python -m benchmarks.figures``; writes ``benchmarks/results/figures.md`` and ``figures.json``.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapewright.app.progress import ProgressBars
from shapewright.app.provenance import provenance
from shapewright.app.report.report import write_report
from shapewright.geometries.cad.step import check_step, part_shape, write_step
from shapewright.studies.certify.taylor import check_study
from shapewright.studies.files import write_json, write_text
from shapewright.studies.problem.models import FemModel, SurrogateModel
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.run.pipeline import Run, surrogate_of, validate, write_resolved
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
STUDIES = ("torsion", "stokes_body", "stokes_square", "plate_hole", "ns_body")
STOKES_SQUARE_KNOWN = 21.450  # ../shared/STYLE.md, own earlier measurement on a coarse mesh


@dataclass(frozen=True)
class Figure:
    """One measured number beside its bound: ``reached`` compares them."""

    name: str
    value: float
    relation: str
    bound: float | None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        if self.bound is None:
            return None
        return self.value <= self.bound if self.relation == "<=" else self.value >= self.bound


def open_run(study: str, folder: Path, bars: ProgressBars, *overrides: str) -> Run:
    """A shipped study in a folder of its own."""
    loaded = load_study(ROOT / "studies" / f"{study}.yaml", overrides)
    run = Run(build_setup(loaded), Workspace(folder), "cpu", bars)
    (folder / ".stages").mkdir(parents=True, exist_ok=True)
    write_resolved(run, provenance("cpu", loaded.model.training.seed))
    return run


def study_figures(study: str, run: Run, alone: Run) -> Iterator[Figure]:
    """Optimum by surrogate and by finite elements alone, held-out errors, CAD."""
    certificate, reference = validate(run), validate(alone)
    write_report(run.workspace.folder)
    objective = certificate["objective"]
    sense = -1 if objective["sense"] == "minimize" else 1
    best = reference["objective"]["fem"]
    yield Figure(f"{study}: certificate accepted", float(certificate["accepted"]), ">=", 1.0)
    if study == "torsion":
        area = next(c["value"] for c in certificate["constraints"] if c["name"] == "area equals")
        disc = area**2 / (2 * math.pi)
        yield Figure(
            "torsion: FEM torsional constant against A^2/(2 pi)",
            abs(objective["fem"] - disc) / disc, "<=", 1e-3, f"{objective['fem']:.7f} against {disc:.7f}",
        )  # fmt: skip
    yield Figure(
        f"{study}: surrogate against FEM objective at the optimum", objective["surrogate_relative_error"], "<=",
        5e-3 if study == "torsion" else 1e-2, f"{objective['surrogate']:.6f} against {objective['fem']:.6f}",
    )  # fmt: skip
    yield Figure(
        f"{study}: FEM objective at the optimum short of FEM alone",
        sense * (best - objective["fem"]) / abs(best), "<=", 1e-2,
        f"{objective['fem']:.6f} against {best:.6f}; start {objective['initial_fem']:.6f}",
    )  # fmt: skip
    if study == "stokes_square":
        gap = abs(best - STOKES_SQUARE_KNOWN) / STOKES_SQUARE_KNOWN
        yield Figure("stokes_square: FEM alone against the known 21.450", gap, "<=", 1e-3, f"{best:.5f}")
    if study == "plate_hole":
        yield from _hole_figures(certificate, reference)
    card = json.loads(run.workspace.path("surrogate.card.json").read_text(encoding="utf-8"))
    held_out = card["held_out"]
    strict = study == "torsion"
    for component, error in held_out["field"].items():
        yield Figure(f"{study}, held out: relative L2 error of {component}", error, "<=", 1e-2 if strict else None)
    yield Figure(f"{study}, held out: objective", held_out["objective"], "<=", None)
    yield Figure(f"{study}, held out: design-gradient error", held_out["gradient"], "<=", 3e-2 if strict else None)
    yield Figure(f"{study}, held out: design-gradient cosine", held_out["cosine"], ">=", 0.999 if strict else 0.98)
    yield Figure(
        f"{study}: training, seconds",
        card["seconds"],
        "<=",
        900 if strict else None,
        f"on {card['hardware']['processor']}",
    )
    yield Figure(f"{study}: area of the STEP read back", _step_area_error(run), "<=", 1e-6)
    yield Figure(
        f"{study}: KKT residual by the FEM adjoint",
        certificate["kkt_residual"],
        "<=",
        None,
        f"found by {run.setup.study.model.optimizer.method}",
    )


def _hole_figures(certificate: dict[str, Any], reference: dict[str, Any]) -> Iterator[Figure]:
    """The best hole beside that of an infinite plate, an ellipse of axes 2:1 with the hoop stress 3 (the circle: 5)."""
    for name, found in (("managed", certificate), ("FEM alone", reference)):
        peak, at_start = found["objective"]["peak"], found["objective"]["peak_at_start"]
        yield Figure(f"plate_hole, {name}: largest hoop stress, start", at_start["maximum"], "<=", None, "infinite: 5")
        yield Figure(f"plate_hole, {name}: largest hoop stress", peak["maximum"], "<=", None, "infinite: 3")
        yield Figure(f"plate_hole, {name}: mean hoop stress", peak["mean"], "<=", None, "infinite: 3")
        yield Figure(f"plate_hole, {name}: largest less least over mean", peak["flatness"], "<=", None, "infinite: 0")
        yield Figure(
            f"plate_hole, {name}: ratio of the axes", found["part"]["optimum"]["ratio"], ">=", None, "infinite: 2"
        )


def _step_area_error(run: Run) -> float:
    optimum = json.loads(run.workspace.path("optimum.json").read_text(encoding="utf-8"))
    theta = torch.tensor(list(optimum["parameters"].values()), dtype=torch.float64)
    family, unit = run.setup.family, run.setup.study.model.geometry.length_unit
    control_points = family.control_points(theta).numpy()
    file = run.workspace.path("face.step")
    write_step(part_shape(family, control_points), file, unit)
    exact = float(run.setup.quantity("area", theta))
    return abs(check_step(file, family, control_points, unit).measure - exact) / exact


def plateau(setup: Setup, surrogate: SurrogateModel, seed: int = 0) -> tuple[float, list[tuple[float, float]]]:
    """Decades of step over which central differences agree with the autograd design gradient within 1 %."""
    generator = np.random.default_rng(seed)
    bounds = setup.family.bounds.numpy()
    span = bounds[:, 1] - bounds[:, 0]
    theta = bounds.mean(1) + 0.2 * span * (generator.random(len(span)) - 0.5)
    direction = generator.standard_normal(len(span)) * span
    direction /= np.linalg.norm(direction / span)
    slope = float(surrogate.evaluate(theta[None])[1][0, 0] @ direction)
    rows = []
    for exponent in np.arange(-1.0, -11.01, -0.5):
        step = 10.0**exponent
        above, below = (surrogate.evaluate((theta + sign * step * direction)[None])[0][0, 0] for sign in (1, -1))
        rows.append((step, abs((above - below) / (2 * step) - slope) / abs(slope)))
    longest = run = 0
    for _, error in rows:
        run = run + 1 if error < 1e-2 else 0
        longest = max(longest, run)
    return 0.5 * max(longest - 1, 0), rows


def speed(setup: Setup, surrogate: SurrogateModel) -> Iterator[Figure]:
    """Median time of one objective with gradient: surrogate (float64, float32; batch 1, 64), FEM with adjoint."""
    study = setup.study.model.name
    fem = FemModel(setup)
    theta = setup.initial
    exact = _median(lambda: fem.value_and_gradient(theta), 20)
    yield Figure(f"{study}: FEM solve and adjoint, ms", 1e3 * exact, "<=", None)
    for dtype in (torch.float64, torch.float32):
        network = surrogate.surrogate.to(dtype)
        for batch in (1, 64):
            designs = theta.to(dtype).expand(batch, -1).clone()
            seconds = _median(lambda n=network, d=designs: n.value_and_gradient(d), 5) / batch
            name = f"{study}: surrogate value and gradient per design, batch {batch}, {str(dtype)[6:]}, ms"
            yield Figure(name, 1e3 * seconds, "<=", None, f"FEM takes {exact / seconds:.2f} times as long")
    surrogate.surrogate.double()


def _median(function: Callable[[], object], repeats: int) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure everything, print it, write the tables."""
    figures: list[Figure] = []
    with ProgressBars() as bars:
        for study in STUDIES:
            run = open_run(study, ROOT / "out" / "figures" / study, bars)
            alone = open_run(
                study,
                ROOT / "out" / "figures" / f"{study}_fem",
                bars,
                "optimizer.on=fem",
                "optimizer.method=slsqp",
                "optimizer.starts=1",
            )
            figures += study_figures(study, run, alone)
            surrogate = surrogate_of(run).model
            decades, _ = plateau(run.setup, surrogate)
            figures.append(
                Figure(f"{study}: plateau of the design gradient, decades of step within 1 %", decades, ">=", 3.0)
            )
            for test in check_study(run.setup):
                worst = 0.0 if test.exact else abs(test.order - 2.0)
                order = "linear" if test.exact else f"order {test.order:.3f}"
                figures.append(Figure(f"{study}: Taylor order off 2, {test.name}", worst, "<=", 0.1, order))
            figures += speed(run.setup, surrogate)
    machine = provenance("cpu", 0)
    rows = [vars(figure) | {"reached": figure.reached} for figure in figures]
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / "figures.json", {"machine": machine, "rows": rows})
    text = as_markdown(figures, machine)
    write_text(RESULTS / "figures.md", text)
    print(text)


def as_markdown(figures: list[Figure], machine: dict) -> str:
    """The table, with the machine it was measured on."""
    on = machine["hardware"]
    head = [
        "# Figures",
        "",
        f"Measured by `make figures` on {on['processor']}, {on['cores']} cores, {on['memory_gib']} GiB, no GPU,",
        f"{machine['started'][:10]}, torch {machine['packages']['torch']}, Python {machine['python']}.",
        "Trainings were timed when the shipped weights were made; on a machine that is not idle they take longer.",
        "",
        "| figure | measured | at least | reached | |",
        "|---|---|---|---|---|",
    ]
    marks = {True: "yes", False: "**no**", None: ""}
    rows = []
    for f in figures:
        bound = "" if f.bound is None else f"{f.relation} {f.bound:g}"
        rows.append(f"| {f.name} | {f.value:.4g} | {bound} | {marks[f.reached]} | {f.note} |")
    rows += [f"| {study}: training and batched evaluation on a GPU | not measured | | | |" for study in STUDIES]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    main()
