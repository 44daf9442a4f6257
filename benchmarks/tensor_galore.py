"""Tensor-GaLore beside AdamW, GaLore on unfoldings and the public Tensor-GaLore: memory, error and time.

Run as ``python -m benchmarks.tensor_galore`` (``--device cuda`` and larger sizes where there is a GPU); a run that was
broken off goes on. Writes ``benchmarks/results/tensor_galore.json`` and ``tensor_galore.md``.

Every contender has the same number of trials, short trainings judged on validation data; with the best of them it is
trained on three seeds. Then all are judged on test data that nothing was chosen by.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from app.provenance import provenance
from benchmarks.galore_contenders import Contender, Setting, contenders, load
from benchmarks.galore_training import PROBLEMS, Budget, Parts, finished_run, problem_data
from studies.workspace import write_json, write_text
from surrogate.allocator import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SEEDS = (0, 1, 2)
TRIAL_SEED = 3
MARGIN = 1.1
"""The target error is that of AdamW times this."""


def compare(problem: str, rivals: Sequence[Contender], budget: Budget, data: Parts, folder: Path) -> list[dict[str, Any]]:
    """Rows of a problem."""
    rows = [row_of(problem, contender, budget, data, folder) for contender in rivals]
    dense = rows[0]
    target = MARGIN * mean(look[-1]["error"] for look in dense["looks"])
    for row in rows:
        row["saving"] = 1 - row["optimizer_bytes"] / dense["optimizer_bytes"]
        row["error_to_adamw"] = row["test_error_mean"] / dense["test_error_mean"]
        row["step_to_adamw"] = row["step_seconds"] / dense["step_seconds"]
        row["target_error"] = target
        row["seconds_to_target"] = seconds_to(target, row["looks"])
    return rows


def row_of(problem: str, contender: Contender, budget: Budget, data: Parts, folder: Path) -> dict[str, Any]:
    """Trials, then the three seeds with the best setting."""

    def trained(setting: Setting, seed: int, steps: int) -> dict[str, Any]:
        result = finished_run(problem, contender, setting, seed, steps, budget, data, folder)
        print(
            f"{problem}, {contender.label}, rate {setting.rate:g}, scale {setting.scale:g}, seed {seed}, {steps} steps:"
            f" validation {result['validation_error']:.4f}, test {result['test_error']:.4f}",
            flush=True,
        )
        return result

    trials = {setting: trained(setting, TRIAL_SEED, budget.trial_steps) for setting in contender.settings}
    best = min(trials, key=lambda setting: trials[setting]["validation_error"] if trials[setting]["finite"] else 1e9)
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
        "train_error_mean": mean(run["train_error"] for run in runs),
        "last_tenth": mean(run["looks"][-1]["error"] / run["looks"][-2]["error"] - 1 for run in runs),
        "step_seconds": min(run["step_seconds"] for run in runs),
        "optimizer_seconds": min(run["optimizer_seconds"] for run in runs),
        "refresh_share": mean(run["refresh_share"] for run in runs),
        "learning_rate": best.rate,
        "scale": best.scale,
        "trials": [{**vars(setting), "error": trial["validation_error"]} for setting, trial in trials.items()],
        "looks": [run["looks"] for run in runs],
    }


def seconds_to(target: float, runs: Iterable[Sequence[dict[str, float]]]) -> float | None:
    """Mean seconds of training until the validation error is below the target; None if a run never gets there."""
    times = [next((look["seconds"] for look in looks if look["error"] <= target), None) for looks in runs]
    return None if None in times else mean(times)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean."""
    values = list(values)
    return sum(values) / len(values)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Of one problem, in Markdown."""
    yield (
        "| optimizer | rank | optimizer bytes | saved | test error | spread | to AdamW | train error | step | to AdamW"
        " | refreshes | time to target | rate, scale |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        reached = row["seconds_to_target"]
        yield (
            f"| {row['optimizer']} | {'' if row['rank'] is None else row['rank']} | {row['optimizer_bytes']:,} "
            f"| {row['saving']:.1%} | {row['test_error_mean']:.4f} | {row['test_error_spread']:.4f} "
            f"| {row['error_to_adamw']:.3f} | {row['train_error_mean']:.4f} | {1e3 * row['step_seconds']:.1f} ms "
            f"| {row['step_to_adamw']:.2f} | {row['refresh_share']:.1%} "
            f"| {'not reached' if reached is None else f'{reached:.1f} s'} "
            f"| {row['learning_rate']:g}, {row['scale']:g} |"
        )


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
    try:
        load()
        machine["packages"]["neuraloperator"] = version("neuraloperator")
    except ModuleNotFoundError as error:
        rivals = tuple(rival for rival in rivals if "neuraloperator" not in rival.name)
        print(f"{error}; measuring without it")
    rows = []
    for problem in chosen.problem:
        data = problem_data(problem, budget, chosen.folder, chosen.device)
        rows += compare(problem, rivals, budget, data, chosen.folder)
    chosen.results.mkdir(parents=True, exist_ok=True)
    write_json(chosen.results / "tensor_galore.json", {"machine": machine, "budget": vars(budget), "rows": rows})
    text = as_markdown(rows, budget, machine)
    write_text(chosen.results / "tensor_galore.md", text)
    print(text)


if __name__ == "__main__":
    main()
