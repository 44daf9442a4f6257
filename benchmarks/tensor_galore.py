"""Tensor-GaLore beside AdamW, GaLore on unfoldings and the public Tensor-GaLore: memory, error and time.

Run as ``python -m benchmarks.tensor_galore`` (``--device cuda`` and larger sizes where there is a GPU); a run that was
broken off goes on. Writes ``benchmarks/results/tensor_galore.json`` and ``tensor_galore.md``.

Every contender has the same number of trials, short trainings judged on validation data; the two best are trained
whole, and with the better of them on three seeds. Then all are judged on test data that nothing was chosen by.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.galore_contenders import DECISIVE, Contender, Setting, contenders, load, torchs_adamw
from benchmarks.galore_design import design_rows
from benchmarks.galore_memory import finished_memory
from benchmarks.galore_tables import MARGIN, as_markdown
from benchmarks.galore_training import PROBLEMS, Budget, Parts, finished_run, problem_data, step_seconds
from shapewright.app.provenance import provenance
from shapewright.studies.files import write_json, write_text
from shapewright.surrogate.training.allocator import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SEEDS = (0, 1, 2)
TRIAL_SEED = 3
FINALISTS = 2
"""Settings whose short trial was best; it favours rates that are too high for a whole training."""
TWICE = ("AdamW", "ours, rank 0.25")
"""Trained for twice the steps, too."""
BRIEF = ("navier_stokes_1e-4",)
"""Problems on which only the rows that decide are measured, and for no more steps."""


def compare(
    problem: str,
    rivals: Sequence[Contender],
    times: Sequence[dict[str, float]],
    budget: Budget,
    data: Parts,
    folder: Path,
) -> list[dict[str, Any]]:
    """Rows of a problem; ``times`` are those of the rivals and of torch's AdamW after them."""
    rows = [row_of(problem, contender, budget, data, folder) for contender in rivals]
    rows = [row | seconds for row, seconds in zip(rows, times, strict=False)]
    dense, torchs = rows[0], times[-1]
    targets = [MARGIN * looks[-1]["error"] for looks in dense["looks"]]
    for row in rows:
        ratios = [error / its for error, its in zip(row["test_errors"], dense["test_errors"], strict=True)]
        row["saving"] = 1 - row["optimizer_bytes"] / dense["optimizer_bytes"]
        row["error_to_adamw"] = mean(ratios)
        row["error_to_adamw_least"], row["error_to_adamw_most"] = min(ratios), max(ratios)
        row["step_to_adamw"] = row["step_seconds"] / dense["step_seconds"]
        row["step_to_torch"] = row["step_seconds"] / torchs["step_seconds"]
        row["target_errors"] = targets
        row["seconds_to_target"] = seconds_to(targets, row["looks"])
    return rows


def row_of(problem: str, contender: Contender, budget: Budget, data: Parts, folder: Path) -> dict[str, Any]:
    """Trials of every setting, whole trainings of the two best, then the three seeds with the better of these."""

    def trained(setting: Setting, seed: int, steps: int) -> dict[str, Any]:
        return finished_run(problem, contender, setting, seed, steps, budget, data, folder)

    trials = {setting: trained(setting, TRIAL_SEED, budget.trial_steps) for setting in contender.settings}
    finals = {setting: trained(setting, SEEDS[0], budget.steps) for setting in _by_error(trials)[:FINALISTS]}
    best = _by_error(finals)[0]
    runs = [trained(best, seed, budget.steps) for seed in SEEDS]
    errors = [run["test_error"] for run in runs]
    return {
        "problem": problem,
        "resolution": budget.resolution,
        "optimizer": contender.name,
        "rank": contender.rank,
        "parameters": runs[0]["parameters"],
        "optimizer_bytes": runs[0]["optimizer_bytes"],
        "test_error_mean": mean(errors),
        "test_error_spread": max(errors) - min(errors),
        "test_errors": errors,
        "train_error_mean": mean(run["train_error"] for run in runs),
        "last_tenth": mean(run["looks"][-1]["error"] / run["looks"][-2]["error"] - 1 for run in runs),
        "refresh_share": None if runs[0]["refresh_share"] is None else mean(run["refresh_share"] for run in runs),
        "learning_rate": best.rate,
        "scale": best.scale,
        "trials": [{**vars(setting), "error": trial["validation_error"]} for setting, trial in trials.items()],
        "finals": [{**vars(setting), "error": final["validation_error"]} for setting, final in finals.items()],
        "looks": [run["looks"] for run in runs],
    }


def _by_error(runs: dict[Setting, dict[str, Any]]) -> list[Setting]:
    """Settings by the validation error, those that diverged last."""
    return sorted(runs, key=lambda setting: runs[setting]["validation_error"] if runs[setting]["finite"] else 1e9)


def twice_as_long(
    row: dict[str, Any], contender: Contender, budget: Budget, data: Parts, folder: Path
) -> dict[str, Any]:
    """What a row's setting reaches with twice the steps: how far from flat its training ended."""
    setting, problem = Setting(row["learning_rate"], row["scale"]), row["problem"]
    steps = 2 * budget.steps
    runs = [finished_run(problem, contender, setting, seed, steps, budget, data, folder) for seed in SEEDS]
    errors = [run["test_error"] for run in runs]
    ratios = [error / once for error, once in zip(errors, row["test_errors"], strict=True)]
    return {
        **{key: row[key] for key in ("problem", "optimizer", "rank")},
        "test_errors": errors,
        "test_error_mean": mean(errors),
        "test_error_spread": max(errors) - min(errors),
        "to_once": mean(ratios),
        "to_once_least": min(ratios),
        "to_once_most": max(ratios),
    }


def seconds_to(targets: Iterable[float], runs: Iterable[Sequence[dict[str, float]]]) -> float | None:
    """Mean seconds of training until a seed's validation error is at its target; None if one never gets there."""
    times = [
        next((look["seconds"] for look in looks if look["error"] <= target), None)
        for target, looks in zip(targets, runs, strict=True)
    ]
    return None if None in times else mean(times)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    values = list(values)
    return sum(values) / len(values)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", choices=PROBLEMS, nargs="*", default=list(PROBLEMS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "tensor_galore", help="finished runs and data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    for field in fields(Budget):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    budget = Budget(**{field.name: getattr(chosen, field.name) for field in fields(Budget)})
    machine, rivals = provenance(chosen.device, 0), contenders()
    machine["command"] = f"python -m benchmarks.tensor_galore {shlex.join(sys.argv[1:])}".strip()
    try:
        load()
        machine["packages"]["neuraloperator"] = version("neuraloperator")
    except ModuleNotFoundError as error:
        rivals = tuple(rival for rival in rivals if "neuraloperator" not in rival.name)
        print(f"{error}; measuring without it")
    content: dict[str, Any] = {"machine": machine, "budget": vars(budget), "rows": [], "twice": [], "memory": []}
    times: list[dict[str, float]] = []
    for problem in chosen.problem:
        data = problem_data(problem, budget, chosen.folder, chosen.device)
        # once: neither network nor batch depend on the problem
        times = times or step_seconds((*rivals, torchs_adamw()), budget, data)
        measured = [k for k, rival in enumerate(rivals) if problem not in BRIEF or rival.label in DECISIVE]
        compared, seconds = [rivals[k] for k in measured], [times[k] for k in (*measured, -1)]
        rows = compare(problem, compared, seconds, budget, data, chosen.folder)
        content["rows"] += rows
        for row, rival in zip(rows, compared, strict=True):
            if rival.label in TWICE and problem not in BRIEF:
                content["twice"].append(twice_as_long(row, rival, budget, data, chosen.folder))
    for rival in (rivals[0], torchs_adamw(), *rivals[1:]):
        content["memory"].append(finished_memory(rival, chosen.folder, chosen.device))
        print(content["memory"][-1], flush=True)
    content["design"] = design_rows(chosen.folder, chosen.device)
    chosen.results.mkdir(parents=True, exist_ok=True)
    write_json(chosen.results / "tensor_galore.json", content)
    text = as_markdown(content)
    write_text(chosen.results / "tensor_galore.md", text)
    print(text)


if __name__ == "__main__":
    main()
