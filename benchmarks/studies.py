"""What a study costs in finite-element solves, by surrogate, by finite elements, and by both together.

Run as ``python -m benchmarks.studies [--only STUDY[/METHOD]] ...``; writes ``benchmarks/results/studies.json`` and
``studies.md``. Every cell of the table is kept under ``out/studies`` as soon as it is measured, so a run that is broken
off goes on, and a cell whose study or weights have changed is measured anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.optimize import approx_fprime

from benchmarks.studies_tables import NEAR, Row, as_markdown
from shapewright.app.progress import ProgressBars
from shapewright.app.provenance import provenance
from shapewright.studies.files import content_key, file_key, write_json, write_text
from shapewright.studies.optimize.correction import Array
from shapewright.studies.optimize.optimizer import Search, optimize
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.constraints import constraint_values, worst_violation
from shapewright.studies.problem.models import FemModel, Model, SurrogateModel
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.surrogates import open_surrogate
from shapewright.studies.schema.loader import load_study
from shapewright.studies.schema.study import Optimizer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CELLS = ROOT / "out" / "studies"
VERSION = 3
"""Of what the methods do: cells of another one are measured anew."""
STUDIES = ("torsion", "stokes_body", "stokes_square", "plate_hole", "ns_body")
STARTS, VALUES, SPREAD = 32, 20, 0.1
"""Random starts; values of the first equality constraint, and how far they go from the study's own."""


@dataclass(frozen=True)
class Found:
    """What a method found for D studies, judged by finite elements, and its cost.

    Attributes:
        objectives, violations: (D,) at the designs found.
        progress: forward solves, objective and violation of every design that finite elements were asked for, of one
            search alone.
    """

    objectives: Array
    violations: list[float]
    solves: Counter[str]
    seconds: float
    progress: list[tuple[int, float, float]]


class FiniteDifferences:
    """Finite elements without their adjoint: gradients by scipy's forward differences in scaled parameters."""

    def __init__(self, setup: Setup) -> None:
        self.fem = FemModel(setup)
        self.lower, upper = setup.family.bounds.numpy().T
        self.span = upper - self.lower

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See :class:`models.Model`; P + 1 solves each."""
        z = (theta - self.lower) / self.span
        pairs = [self._value_and_slope(design) for design in z]
        return np.stack([value for value, _ in pairs]), np.stack([slope for _, slope in pairs]) / self.span

    def _value_and_slope(self, z: Array) -> tuple[Array, Array]:
        asked: list[Array] = []

        def remembered(at: Array) -> Array:  # scipy asks for the value first
            asked.append(self._values(at))
            return asked[-1]

        slope = approx_fprime(z, remembered, 1e-6)
        return asked[0], slope.reshape(len(asked[0]), -1)

    def _values(self, z: Array) -> Array:
        return np.array(list(self.fem.solve(torch.from_numpy(self.lower + self.span * z)).values.values()))


class NoSurrogate:
    """No model: the trust region is left with the interpolation of what finite elements told it."""

    def __init__(self, setup: Setup) -> None:
        self.functionals = len(setup.problem.functionals)

    def evaluate(self, theta: Array) -> tuple[Array, Array]:
        """See :class:`models.Model`; no answer."""
        count, parameters = theta.shape
        shape = (count, self.functionals)
        return np.full(shape, np.nan), np.full((*shape, parameters), np.nan)


Method = Callable[[Setup, Model | None, Optimizer], tuple[Search, Counter[str]]]
"""A study, its surrogate and options to the best search and the solves that all took."""


def surrogate_only(setup: Setup, surrogate: Model | None, config: Optimizer) -> tuple[Search, Counter[str]]:
    """The surrogate's own optimum."""
    return replace(optimize(setup, surrogate, config).best, history=()), Counter()


def managed(setup: Setup, surrogate: Model | None, config: Optimizer) -> tuple[Search, Counter[str]]:
    """The trust region from there."""
    with TemporaryDirectory() as folder:
        store = SolutionStore(setup, Path(folder))
        found = search_by_trust_region(setup, surrogate, config, store, Path(folder) / "starts.json")
    return found.best, store.solves


def interpolated(setup: Setup, surrogate: Model | None, config: Optimizer) -> tuple[Search, Counter[str]]:
    """The trust region without a surrogate, from the study's start."""
    return managed(setup, NoSurrogate(setup), config)


def fem_alone(setup: Setup, surrogate: Model | None, config: Optimizer) -> tuple[Search, Counter[str]]:
    """SLSQP on the adjoint gradient."""
    model = FemModel(setup)
    return optimize(setup, model, config).best, model.solves


def fem_differences(setup: Setup, surrogate: Model | None, config: Optimizer) -> tuple[Search, Counter[str]]:
    """SLSQP on finite differences."""
    model = FiniteDifferences(setup)
    return optimize(setup, model, config).best, model.fem.solves


def once(method: Method, **options: Any) -> Callable[[Setup, Model | None], Found]:
    """The study as it is, with options of its optimizer changed."""

    def run(setup: Setup, surrogate: Model | None) -> Found:
        return _measured(method, [setup], surrogate, options)

    return run


def sweep(method: Method, **options: Any) -> Callable[[Setup, Model | None], Found]:
    """The study at several values of its first equality constraint."""

    def run(setup: Setup, surrogate: Model | None) -> Found:
        return _measured(method, list(_swept(setup)), surrogate, options)

    return run


def _swept(setup: Setup) -> Iterator[Setup]:
    index = next(k for k, c in enumerate(setup.constraints) if c.kind == "equals" and c.target != 0)
    for factor in np.linspace(1 - SPREAD, 1 + SPREAD, VALUES):
        changed = list(setup.constraints)
        changed[index] = replace(changed[index], target=float(factor) * changed[index].target)
        yield replace(setup, constraints=tuple(changed))


def _measured(method: Method, setups: Sequence[Setup], surrogate: Model | None, options: dict[str, Any]) -> Found:
    solves: Counter[str] = Counter()
    started, searches = time.process_time(), []
    for setup in setups:
        config = setup.study.model.optimizer.model_copy(update={"method": "slsqp"} | options)
        search, spent = method(setup, surrogate, config)
        searches.append(search)
        solves += spent
    seconds = time.process_time() - started
    primary = FemModel(setups[0]).evaluate(np.stack([search.theta for search in searches]))
    violations = [
        worst_violation(setup, constraint_values(setup, search.theta, (values, gradients))[0])
        for setup, search, values, gradients in zip(setups, searches, *primary, strict=True)
    ]
    progress: list[tuple[int, float, float]] = []
    if len(searches) == 1:
        per_design = solves["forward"] // max(1, searches[0].history[-1].evaluations) if searches[0].history else 0
        for entry in searches[0].history:
            forward = entry.evaluations * per_design if entry.fem is None else entry.fem.forward
            progress.append((forward, entry.objective, worst_violation(setups[0], np.array(entry.quantities))))
    return Found(primary[0][:, 0], violations, solves, seconds, progress)


METHODS: dict[str, Callable[[Setup, Model | None], Found]] = {
    "FEM alone": once(fem_alone, starts=1),
    "surrogate only": once(surrogate_only),
    "managed": once(managed),
    "trust region without surrogate": once(interpolated, starts=1),
    "FEM, finite differences": once(fem_differences, starts=1),
    f"FEM alone, {STARTS} starts": once(fem_alone, starts=STARTS),
    f"surrogate only, {STARTS} starts": once(surrogate_only, starts=STARTS),
    f"managed, {STARTS} starts": once(managed, starts=STARTS),
    f"FEM alone, {VALUES} constraint values": sweep(fem_alone, starts=1),
    f"surrogate only, {VALUES} constraint values": sweep(surrogate_only, starts=1),
    f"managed, {VALUES} constraint values": sweep(managed, starts=1),
}
"""In the order they are measured; what the gap of a method is to stands before it."""


def kept(study: str, method: str) -> tuple[Path, str, dict[str, Any] | None]:
    """File and key of a cell of the table, and its content where it was measured for this study and these weights."""
    file = CELLS / study / f"{method.replace(' ', '_').replace(',', '')}.json"
    loaded = load_study(ROOT / "studies" / f"{study}.yaml")
    alone = not uses_surrogate(method)
    weights = None if alone else file_key(loaded.folder / str(loaded.model.surrogate.weights))
    # new keys elsewhere leave old cells valid; the method is the cell's own, and nothing is validated
    unused = {"optimizer", "validation"} | ({"sampling", "surrogate", "training"} if alone else set())
    study_key = loaded.model.model_dump(mode="json", exclude_defaults=True, exclude=unused)
    search_key = loaded.model.optimizer.model_dump(mode="json", exclude={"method"})
    key = content_key("benchmark", VERSION, study_key, search_key, weights, method, STARTS, VALUES, SPREAD)
    cell = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"key": None}
    return file, key, cell if cell["key"] == key else None


def measure(study: str, method: str, report: Callable[[str, int, int, str], None]) -> dict[str, Any]:
    """The cell of a study and a method, measured or as it was kept: objectives, solves and times."""
    file, key, cell = kept(study, method)
    if cell is not None:
        return cell
    report(study, 0, 1, method)
    setup = build_setup(load_study(ROOT / "studies" / f"{study}.yaml"))
    surrogate, card = None, None
    if uses_surrogate(method):
        network, card = open_surrogate(setup, setup.study.folder / str(setup.study.model.surrogate.weights))
        surrogate = SurrogateModel(setup, network, card.box)
    for model in filter(None, (FemModel(setup), surrogate)):  # the first answer reads forms and makes graphs
        model.evaluate(setup.initial.numpy()[None])
    found = METHODS[method](setup, surrogate)
    cell = {
        "key": key,
        "sign": setup.sign,
        "objectives": found.objectives.tolist(),
        "violations": found.violations,
        "progress": found.progress,
        "forward": found.solves["forward"],
        "adjoint": found.solves["adjoint"],
        "seconds": round(found.seconds, 3),
        "training_seconds": card.seconds if card else 0.0,
        "training_solves": card.designs + setup.study.model.sampling.held_out if card else 0,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, cell)
    return cell


def uses_surrogate(method: str) -> bool:
    """Whether the surrogate has a part in it."""
    return method.startswith(("surrogate", "managed"))


def rival(method: str) -> str:
    """What the gap of a method is to: finite elements alone, at the same constraint values."""
    return "FEM alone" + (method[method.index(",") :] if method.endswith("values") else "")


def row(study: str, method: str, cell: dict[str, Any], alone: dict[str, Any]) -> Row:
    """The line of the table, against finite elements alone at the same constraint values."""
    objectives, best = np.array(cell["objectives"]), np.array(alone["objectives"])
    gaps = cell["sign"] * (objectives - best) / np.abs(best)
    near = None
    if len(objectives) == 1 and not method.endswith("starts"):
        allowed = best[0] + cell["sign"] * NEAR * abs(best[0])
        met = (n for n, value, off in cell["progress"] if off <= 1 and cell["sign"] * (value - allowed) <= 0)
        near = next(met, None)
    return Row(
        study,
        method,
        float(objectives.mean()),
        float(gaps.max()),
        float(max(cell["violations"])),
        cell["forward"],
        cell["adjoint"],
        near,
        cell["seconds"],
        cell["training_seconds"],
        cell["training_solves"],
    )


def shipped() -> list[str]:
    """Studies whose weights are there."""
    return [study for study in STUDIES if (ROOT / "studies" / "weights" / f"{study}.safetensors").exists()]


def selected(only: Sequence[str]) -> list[tuple[str, str]]:
    """Study and method of the cells to measure; ``only`` holds ``STUDY`` or ``STUDY/METHOD``, all if it is empty."""
    cells = [(study, method) for study in shipped() for method in METHODS]
    return [cell for cell in cells if not only or cell[0] in only or "/".join(cell) in only]


def table() -> list[Row]:
    """Lines of all cells that are measured."""
    rows = []
    for study, method in selected(()):
        cell, alone = kept(study, method)[2], kept(study, rival(method))[2]
        if cell is not None and alone is not None:
            rows.append(row(study, method, cell, alone))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="STUDY[/METHOD]", help="may be repeated")
    cells = selected(parser.parse_args(arguments).only)
    if not cells:
        parser.error(f"--only names no cell; studies: {', '.join(shipped())}; methods: {', '.join(METHODS)}")
    torch.set_num_threads(1)
    with ProgressBars() as bars:
        for done, (study, method) in enumerate(cells):
            measure(study, rival(method), bars)
            measure(study, method, bars)
            bars("studies", done + 1, len(cells), f"{study}: {method}")
    machine, rows = provenance("cpu", 0) | {"command": "python -m benchmarks.studies"}, table()
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / "studies.json", {"machine": machine, "rows": [asdict(r) for r in rows], "fronts": fronts()})
    text = as_markdown(rows, fronts(), machine)
    write_text(RESULTS / "studies.md", text)
    print(text)


def fronts() -> list[dict[str, Any]]:
    """Objective over constraint value of every sweep that is measured: Pareto fronts."""
    found = []
    for study, method in selected(()):
        cell = kept(study, method)[2]
        if method.endswith("values") and cell is not None:
            factors = np.linspace(1 - SPREAD, 1 + SPREAD, VALUES).tolist()
            found.append(
                {"study": study, "method": method, "target_factors": factors, "objectives": cell["objectives"]}
            )
    return found


if __name__ == "__main__":
    main()
