"""Training of the design surrogates from nothing, by Tensor-GaLore on the channels in, in the time there is.

Steps of these small networks are bound by launches and not by arithmetic, so several trainings share one GPU, each a
process of its own (``python -m benchmarks.gpu.training``). A training that its share of time does not hold gets fewer
steps, with the schedule of its own length, rather than being cut off: a few steps are timed first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.problems import Bundle, open_bundle
from benchmarks.gpu.results import Recorder
from studies.design_training import DesignProblem, TrainingData, train_network
from surrogate.model_card import ModelCard
from surrogate.trainer import Progress
from surrogate.training import TrainingConfig, train

GALORE = {"optimizer": "tensor_galore", "rank": {"channels_in": 0.25}, "moments": "full"}
TIMED_STEPS = 12
KEPT_FOR_THE_END = 0.12
"""Share of a training's time that looks at held-out errors and the card take."""
ROOT = Path(__file__).resolve().parents[2]


class _Timed(BaseException):
    """Ends the steps that only tell how long one takes."""


def train_together(
    record: Recorder, bundle: Bundle, names: Sequence[str], out: Path, device: torch.device, deadline: float,
    steps: int | None = None,
) -> None:  # fmt: skip
    """Train ``names`` at the same time, a process each, until ``deadline`` (of ``time.monotonic``) at the latest."""
    seconds = deadline - time.monotonic()
    if seconds < 10:
        record.row(", ".join(names), None, "left out: no time")
        return
    threads = max(1, (os.cpu_count() or 1) // max(1, len(names)))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    children = {}
    for name in names:
        command = [sys.executable, "-m", "benchmarks.gpu.training", name, "--bundle", str(bundle.folder)]
        command += ["--out", str(out), "--device", device.type, "--seconds", f"{seconds:.1f}"]
        command += ["--beside", str(len(names) - 1)] + ([] if steps is None else ["--steps", str(steps)])
        children[name] = subprocess.Popen(command, cwd=ROOT, env=environment)
    for name, child in children.items():
        try:
            code = child.wait(max(5.0, deadline + 15 - time.monotonic()))
            if code:
                record.row(name, f"the training's process ended with exit code {code}", "failure")
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            record.row(name, "not finished in its time; the process was ended", "failure")


def train_one(
    record: Recorder, bundle: Bundle, name: str, out: Path, device: torch.device, seconds: float, beside: int,
    steps: int | None = None,
) -> ModelCard:  # fmt: skip
    """Train one surrogate and write its weights; rows of its errors, beside those of the shipped card."""
    deadline = time.monotonic() + seconds
    problem, data = bundle.problem(name), bundle.data(name)
    problem = with_galore(problem)
    if steps is None:
        problem = fitting(problem, data, device, deadline)
    else:
        problem = shortened(problem, steps)
    took = problem.training.steps
    begun, last = time.monotonic(), time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 15:
            last = time.monotonic()
            text = f"step {progress.step} of {progress.steps}, loss {progress.loss:.4f}, error {progress.error:.4f}"
            print(f"  {name}: {text}", flush=True)

    card = train_network(problem, data, out / f"{name}.safetensors", device.type, report)
    spent = time.monotonic() - begun
    shipped = bundle.note(name).get("card")
    alone = "alone" if beside == 0 else f"{beside} other trainings beside"
    finish = (problem.finish or {}).get("steps", 0)
    record.row(f"{name}, training", spent, "s", f"{took} + {finish} steps on the GPU, {alone}")
    for part, error in card_errors(card).items():
        before = _of_card(shipped, part)
        beside_text = "" if before is None else f"shipped card {before:.3g}: {error / before:.2f} times"
        record.row(f"{name}, {part}", error, "relative error" if part != "cosine" else "", beside_text)
    return card


def with_galore(problem: DesignProblem) -> DesignProblem:
    """The study's training with Tensor-GaLore on the channels in."""
    return replace(
        problem,
        training=replace(problem.training, **GALORE),
        training_section=dict(problem.training_section) | GALORE,
    )


def fitting(problem: DesignProblem, data: TrainingData, device: torch.device, deadline: float) -> DesignProblem:
    """The problem with as many steps of its training and its finish as the time holds, at most its own."""
    network = problem.network(problem.normalization(data.designs, data.reference)).to(device)
    ticks: list[float] = []

    def tick(progress: Progress) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        ticks.append(time.monotonic())
        if len(ticks) == TIMED_STEPS:
            raise _Timed

    never = replace(problem.training, check_every=10**6, checkpoint_every=10**6)
    try:
        train(network, data.designs, data.held_out.subset(slice(0, 4)), never, None, tick)
    except _Timed:
        pass
    half = TIMED_STEPS // 2
    step = (ticks[-1] - ticks[half]) / (TIMED_STEPS - 1 - half)
    affordable = int((deadline - time.monotonic()) * (1 - KEPT_FOR_THE_END) / step)
    wanted = problem.training.steps + (problem.finish or {}).get("steps", 0)
    print(f"  a step takes {1e3 * step:.1f} ms: {min(wanted, affordable)} of {wanted} steps", flush=True)
    return problem if affordable >= wanted else shortened(problem, max(20, affordable))


def shortened(problem: DesignProblem, steps: int) -> DesignProblem:
    """The problem with ``steps`` steps, shared between training and finish as its own are; the card says so."""
    finish = None if problem.finish is None else dict(problem.finish)
    if finish is not None:
        finish["steps"] = max(1, steps * finish["steps"] // (problem.training.steps + finish["steps"]))
        steps = max(1, steps - finish["steps"])
    training: TrainingConfig = replace(problem.training, steps=steps)
    section = dict(problem.training_section) | {"steps": steps} | ({} if finish is None else {"finish": finish})
    return replace(problem, training=training, finish=finish, training_section=section)


def card_errors(card: ModelCard) -> dict[str, float]:
    """Held-out errors by name."""
    fields = {f"field {name}": error for name, error in card.held_out.field.items()}
    held_out = card.held_out
    return fields | {"objective": held_out.objective, "gradient": held_out.gradient, "cosine": held_out.cosine}


def _of_card(card: dict[str, Any] | None, part: str) -> float | None:
    if card is None:
        return None
    return card["field"].get(part.removeprefix("field ")) if part.startswith("field ") else card[part]


def main() -> None:
    """One training, in a process of its own; checkpoints stay out of what comes back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--beside", type=int, default=0, help="how many others train at the same time")
    parser.add_argument("--steps", type=int, help="so many, whatever the time; for rehearsals")
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    record, bundle, device = Recorder(chosen.out, "training"), open_bundle(chosen.bundle), torch.device(chosen.device)
    with TemporaryDirectory() as folder, record.guarded(chosen.study):
        train_one(
            record, bundle, chosen.study, Path(folder), device, chosen.seconds, chosen.beside, chosen.steps
        )
        weights = Path(folder) / f"{chosen.study}.safetensors"
        target = chosen.out / weights.name
        target.write_bytes(weights.read_bytes())


if __name__ == "__main__":
    main()
