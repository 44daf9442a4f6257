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
from benchmarks.galore_contenders import Contender, Setting, contenders, load, torchs_adamw
from benchmarks.galore_design import RATES, design_rows
from benchmarks.galore_memory import LargeNetwork, finished_memory
from benchmarks.galore_training import PROBLEMS, Budget, Parts, finished_run, problem_data, step_seconds
from studies.workspace import write_json, write_text
from surrogate.allocator import keep_freed_memory

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SEEDS = (0, 1, 2)
TRIAL_SEED = 3
MARGIN = 1.1
"""The target error is that of AdamW times this."""


def compare(
    problem: str, rivals: Sequence[Contender], budget: Budget, data: Parts, folder: Path
) -> list[dict[str, Any]]:
    """Rows of a problem."""
    rows = [row_of(problem, contender, budget, data, folder) for contender in rivals]
    rows = [row | times for row, times in zip(rows, step_seconds(rivals, budget, data), strict=True)]
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
        "refresh_share": None if runs[0]["refresh_share"] is None else mean(run["refresh_share"] for run in runs),
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


def as_markdown(content: dict[str, Any]) -> str:
    """All tables."""
    machine, budget = content["machine"], content["budget"]
    packages, on = machine["packages"], machine["hardware"]
    public = packages.get("neuraloperator", "not installed, left out")
    text = [
        "# Tensor-GaLore beside its rivals",
        "",
        f"Measured by `{machine['command']}` on {on['gpu'] or on['processor']}, one thread,"
        f" {machine['started'][:10]}, torch {packages['torch']}, neuraloperator {public}. Single precision. Times are"
        " processor seconds on a CPU, with other work beside. "
        + ("" if on["gpu"] else "On a GPU: not measured."),
        "",
        f"Fourier neural operator of {budget['layers']} layers, width {budget['width']}, dense complex weights"
        f" {2 * budget['modes']} x {budget['modes']} x {budget['width']} x {budget['width']}; {budget['train']}"
        f" training, {budget['validation']} validation, {budget['test']} test samples on {budget['resolution']} x"
        f" {budget['resolution']} points, batches of {budget['batch']}. {budget['steps']} steps with warm-up and cosine"
        f" decay, {len(SEEDS)} seeds (spread is largest less smallest), with the best of four settings, each tried for"
        f" {budget['trial_steps']} steps on validation data with a seed of its own. Errors are relative L2 means.",
        "",
        "Dense AdamW in eight bits and matrix GaLore are our own code, the former at full rank, the latter with moments"
        " rotated at refreshes; both stand for the method's bytes and errors, not for the speed of others' kernels.",
    ]
    for problem in dict.fromkeys(row["problem"] for row in content["rows"]):
        rows = [row for row in content["rows"] if row["problem"] == problem]
        text += ["", f"## {problem}", "", *table(rows)]
        text += ["", f"Target: validation error {rows[0]['target_error']:.4f}, {MARGIN} times that of AdamW at its end."
                 " Validation errors change by "
                 f"{min(row['last_tenth'] for row in rows):.1%} to {max(row['last_tenth'] for row in rows):.1%} over"
                 " the last tenth of the steps."]  # fmt: skip
    text += ["", "## Memory of a large network", "", *memory_table(content["memory"])]
    text += ["", "## The mGNO of a shipped study", "", *design_table(content["design"])]
    return "\n".join(text) + "\n"


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Of one problem."""
    yield (
        "| optimizer | rank | bytes | saved | test error | spread | to AdamW | train error | step | to AdamW"
        " | optimizer's part | refreshes | to the target | rate, scale |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        reached = row["seconds_to_target"]
        share = "not measured" if row["refresh_share"] is None else f"{row['refresh_share']:.1%}"
        yield (
            f"| {row['optimizer']} | {'' if row['rank'] is None else row['rank']} | {row['optimizer_bytes']:,} "
            f"| {row['saving']:.1%} | {row['test_error_mean']:.2%} | {row['test_error_spread']:.2%} "
            f"| {row['error_to_adamw']:.3f} | {row['train_error_mean']:.2%} | {1e3 * row['step_seconds']:.0f} ms "
            f"| {row['step_to_adamw']:.2f} | {1e3 * row['optimizer_seconds']:.1f} ms | {share} "
            f"| {'not reached' if reached is None else f'{reached:.0f} s'} "
            f"| {row['learning_rate']:g}, {row['scale']:g} |"
        )


def memory_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Of the large network."""
    dense = rows[0]
    sizes = LargeNetwork()
    yield (
        f"{dense['parameters']:,} real parameters (width {sizes.width}, weights {2 * sizes.modes} x {sizes.modes} x"
        f" {sizes.width} x {sizes.width}, {sizes.layers} layers), batch {sizes.batch} on {sizes.resolution} x"
        f" {sizes.resolution} points: {1e3 * dense['passes_seconds']:.0f} ms for both passes of AdamW, which no"
        " optimizer changes and a larger batch multiplies. Peak memory is that of the process beyond the one before"
        " the network, and holds weights, gradients, optimizer and what a step needs."
    )
    yield ""
    yield "| optimizer | rank | optimizer bytes | saved | peak MiB | first step | a later step |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['optimizer']} | {'' if row['rank'] is None else row['rank']} | {row['optimizer_bytes']:,} "
            f"| {1 - row['optimizer_bytes'] / dense['optimizer_bytes']:.1%} | {row['peak_mib']:.0f} "
            f"| {row['first_step_seconds']:.2f} s | {row['later_step_seconds']:.2f} s |"
        )


def design_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Of the shipped study; errors of each seed."""
    yield (
        f"Study {rows[0]['study']}, {rows[0]['steps']} steps, {len(rows[0]['gradient_error'])} seeds, the best of"
        f" {len(RATES)} learning rates; errors on held-out designs that nothing was chosen by."
        " Saved: of 12 bytes a complex parameter; AdamW on real pairs, as torch's, takes 16."
    )
    yield ""
    yield "| optimizer | rank | moments | bytes | saved | field | objective | design gradient | 1 - cosine | rate |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        errors = (
            ", ".join(f"{error:{form}}" for error in row[f"{name}_error"])
            for name, form in (("field", ".2%"), ("objective", ".2%"), ("gradient", ".2%"), ("angle", ".1e"))
        )
        yield (
            f"| {row['optimizer']} | {row['rank'] or ''} | {row['moments']} | {row['optimizer_bytes']:,} "
            f"| {1 - row['optimizer_bytes'] / row['dense_bytes']:.1%} | {' | '.join(errors)} "
            f"| {row['learning_rate']:g} |"
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
    machine["command"] = f"python -m benchmarks.tensor_galore --problem {' '.join(chosen.problem)}"
    try:
        load()
        machine["packages"]["neuraloperator"] = version("neuraloperator")
    except ModuleNotFoundError as error:
        rivals = tuple(rival for rival in rivals if "neuraloperator" not in rival.name)
        print(f"{error}; measuring without it")
    content: dict[str, Any] = {"machine": machine, "budget": vars(budget), "rows": [], "memory": []}
    for problem in chosen.problem:
        data = problem_data(problem, budget, chosen.folder, chosen.device)
        content["rows"] += compare(problem, rivals, budget, data, chosen.folder)
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
