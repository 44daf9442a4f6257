"""The Tensor-GaLore benchmark's results as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.galore_design import RATES
from benchmarks.galore_memory import LargeNetwork

MARGIN = 1.1
"""A seed's target error is that of AdamW with this seed, times this."""


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
        f" decay, {len(content['rows'][0]['test_errors'])} seeds (spread is largest less smallest), with the best of"
        f" four settings: each is tried for {budget['trial_steps']} steps with a seed of its own, the two best are"
        " trained whole with the first seed, all judged on validation data. Errors are relative L2 means.",
        "",
        "Dense AdamW in eight bits and matrix GaLore are our own code, the former at full rank, the latter with moments"
        " rotated at refreshes; both stand for the method's bytes and errors, not for the speed of others' kernels."
        " The ratio to AdamW, seed by seed, is the mean over seeds of that to AdamW's error with the same seed, with"
        " the least and the largest. Steps are timed once for all problems, contenders in turns, and compared to the"
        " complex AdamW of the first row and to torch's own.",
    ]
    for problem in dict.fromkeys(row["problem"] for row in content["rows"]):
        rows = [row for row in content["rows"] if row["problem"] == problem]
        changes = [row["last_tenth"] for row in rows]
        targets = ", ".join(f"{target:.4f}" for target in rows[0]["target_errors"])
        text += ["", f"## {problem}", "", *table(rows), ""]
        text += [
            f"Targets: validation errors of {targets}, {MARGIN} times those of AdamW with the same seed at its end."
            f" Validation errors change by {min(changes):.1%} to {max(changes):.1%} over the last tenth of the steps."
        ]
        longer = [twice(row) for row in content["twice"] if row["problem"] == problem]
        text += [f"With twice the steps: {'; '.join(longer)}."] if longer else []
    text += ["", "## Memory of a large network", "", *memory_table(content["memory"])]
    text += ["", "## The mGNO of a shipped study", "", *design_table(content["design"])]
    return "\n".join(text) + "\n"


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Of one problem."""
    yield (
        "| optimizer | rank | bytes | saved | test error | spread | to AdamW, seed by seed | train error | step"
        " | to AdamW | to torch | optimizer's part | refreshes | to the target | rate, scale |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        reached = row["seconds_to_target"]
        share = "not measured" if row["refresh_share"] is None else f"{row['refresh_share']:.1%}"
        yield (
            f"| {row['optimizer']} | {'' if row['rank'] is None else row['rank']} | {row['optimizer_bytes']:,} "
            f"| {row['saving']:.1%} | {row['test_error_mean']:.2%} | {row['test_error_spread']:.2%} "
            f"| {row['error_to_adamw']:.3f} ({row['error_to_adamw_least']:.3f} to {row['error_to_adamw_most']:.3f}) "
            f"| {row['train_error_mean']:.2%} | {1e3 * row['step_seconds']:.1f} ms "
            f"| {row['step_to_adamw']:.2f} | {row['step_to_torch']:.2f} "
            f"| {1e3 * row['optimizer_seconds']:.1f} ms | {share} "
            f"| {'not reached' if reached is None else f'{reached:.0f} s'} "
            f"| {row['learning_rate']:g}, {row['scale']:g} |"
        )


def twice(row: dict[str, Any]) -> str:
    """What doubling the steps still gives a row."""
    label = row["optimizer"] if row["rank"] is None else f"{row['optimizer']}, rank {row['rank']}"
    return (
        f"{label} comes to {row['test_error_mean']:.2%} (spread {row['test_error_spread']:.2%}), {row['to_once']:.3f}"
        f" ({row['to_once_least']:.3f} to {row['to_once_most']:.3f}) times its error"
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
