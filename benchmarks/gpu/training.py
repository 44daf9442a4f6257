"""Training of the design surrogates from nothing, by Tensor-GaLore on the channels in, in the time there is.

Steps of these small networks are bound by launches and not by arithmetic, so several trainings share one GPU, each a
process of its own (``python -m benchmarks.gpu.training``). A training that its share of time does not hold gets fewer
steps, with the schedule of its own length, rather than being cut off: a few steps are timed first.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.problems import Bundle, open_bundle
from benchmarks.gpu.results import Recorder
from benchmarks.gpu.timing import median_seconds
from shapewright.studies.problem.design_training import DesignProblem, TrainingData, save_trained, train_network
from shapewright.surrogate.models.model_card import ModelCard
from shapewright.surrogate.training.accuracy import measure
from shapewright.surrogate.training.derivative_informed import (
    TrainingConfig,
    batch_loss,
    draw_batch,
    graphed_loss,
    loss_inputs,
    loss_scales,
    train,
)
from shapewright.surrogate.training.interruption import TrainingInterrupted
from shapewright.surrogate.training.loop import Progress, read_checkpoint

GALORE = {"optimizer": "tensor_galore", "rank": {"channels_in": 0.25}, "moments": "full"}
TIMED_STEPS = 12
KEPT_FOR_THE_END = 0.15
"""Share of a training's time that is left to what is not measured beforehand, such as checkpoints and the card."""
LAST_CALL = 0.08
"""Share of its time before the end at which a training is stopped, and the best weights of its checkpoint taken."""
ROOT = Path(__file__).resolve().parents[2]

GRACE = 15.0
"""Seconds at most by which a training is told to end before its process is ended."""


class GraphRefused(RuntimeError):
    """A CUDA graph of a step that is wrong or does not pay."""


class _Timed(BaseException):
    """Ends the steps that only tell how long one takes."""


def train_together(
    record: Recorder, bundle: Bundle, queues: Sequence[Sequence[str]], out: Path, device: torch.device,
    deadline: float, steps: int | None = None,
) -> None:  # fmt: skip
    """Train the studies of several queues at the same time, a process each, until ``deadline`` at the latest.

    A study's share of its queue's time is that of its steps; what one leaves is the next ones'.
    """
    with ThreadPoolExecutor(max(1, len(queues))) as pool:
        for queue in queues:
            pool.submit(_train_queue, record, bundle, queue, out, device, deadline, steps, len(queues))


def queues_of(bundle: Bundle, names: Sequence[str], graphed: bool, device: torch.device) -> list[list[str]]:
    """One queue on a CPU; two, the longest training first, where graphs leave the GPU the limit; else one each."""
    ordered = sorted(names, key=lambda name: -wanted_steps(bundle, name))
    if device.type == "cpu":
        return [ordered]
    if not graphed or len(ordered) < 3:
        return [[name] for name in ordered]
    return [ordered[:1], ordered[1:]]


def wanted_steps(bundle: Bundle, name: str) -> int:
    """Steps of a study's training and fine-tuning."""
    problem = bundle.note(name)["problem"]
    return problem["training"]["steps"] + (problem["fine_tuning"] or {}).get("steps", 0)


def _train_queue(
    record: Recorder, bundle: Bundle, queue: Sequence[str], out: Path, device: torch.device, deadline: float,
    steps: int | None, beside: int,
) -> None:  # fmt: skip
    threads = max(1, (os.cpu_count() or 1) // max(1, beside))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    for index, name in enumerate(queue):
        to_come = sum(wanted_steps(bundle, each) for each in queue[index:])
        seconds = (deadline - time.monotonic()) * wanted_steps(bundle, name) / to_come
        if seconds < 10 and steps is None:
            record.row(name, None, "left out: no time")
            continue
        command = [sys.executable, "-m", "benchmarks.gpu.training", name, "--bundle", str(bundle.folder)]
        own = max(1.0, seconds - min(GRACE, 0.25 * seconds))
        command += ["--out", str(out), "--device", device.type, "--seconds", f"{own:.1f}"]
        command += ["--started", f"{time.time():.2f}"]
        command += ["--beside", str(beside - 1)] + ([] if steps is None else ["--steps", str(steps)])
        child = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            code = child.wait(max(5.0, seconds) if steps is None else 600.0)
            if code:
                record.row(name, f"the training's process ended with exit code {code}", "failure")
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            record.row(name, "not finished in its time; the process was ended", "failure")


def train_one(
    record: Recorder, bundle: Bundle, name: str, out: Path, device: torch.device, seconds: float, beside: int,
    steps: int | None = None, graphed: bool = False,
) -> ModelCard:  # fmt: skip
    """Train one surrogate and write its weights; rows of its errors, beside those of the shipped card."""
    deadline = time.monotonic() + seconds
    problem, data = bundle.problem(name), bundle.data(name)
    problem = with_galore(problem)
    if graphed:
        compare_graph(Recorder(record.folder, "graphs"), name, problem, data, device)
    held, end = None, 0.0
    if steps is None:
        held, end = fitting(problem, data, device, deadline, graphed)
    problem = shortened(problem, steps) if held is None else held
    took = problem.training.steps
    begun, last = time.monotonic(), time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        if steps is None and time.monotonic() > deadline - LAST_CALL * seconds - end:
            raise KeyboardInterrupt  # which the trainer answers by a checkpoint at this step
        if time.monotonic() - last > 15:
            last = time.monotonic()
            text = f"step {progress.step} of {progress.steps}, loss {progress.loss:.4f}, error {progress.error:.4f}"
            print(f"  {name}: {text}", flush=True)

    path, stopped = out / f"{name}.safetensors", ""
    try:
        card = train_network(problem, data, path, device.type, report, graphed)
    except TrainingInterrupted:
        card = from_checkpoint(problem, data, path, device, time.monotonic() - begun)
        stopped = ", stopped before the end"
    spent = time.monotonic() - begun
    shipped = bundle.note(name).get("card")
    alone = "alone" if beside == 0 else f"{beside} other trainings beside"
    alone += ", steps replayed from a CUDA graph" if graphed else ""
    fine_tuning = (problem.fine_tuning or {}).get("steps", 0)
    record.row(f"{name}, training", spent, "s", f"{took} + {fine_tuning} steps on {device.type}, {alone}{stopped}")
    for part, error in card_errors(card).items():
        before = _of_card(shipped, part)
        beside_text = "" if before is None else f"shipped card {before:.3g}: {error / before:.2f} times"
        record.row(f"{name}, {part}", error, "relative error" if part != "cosine" else "", beside_text)
    return card


def from_checkpoint(
    problem: DesignProblem, data: TrainingData, path: Path, device: torch.device, seconds: float
) -> ModelCard:
    """Write the best weights that a stopped training has saved; its card says at which step it was saved.

    Raises:
        FileNotFoundError: it has saved none.
    """
    files = sorted(path.parent.glob(f"{path.name}.checkpoint*"), key=lambda file: file.stat().st_mtime)
    files = [file for file in files if not file.name.endswith((".seconds", ".part"))]
    content = read_checkpoint(files[-1], device) if files else None
    if content is None:
        raise FileNotFoundError(f"{path.name}: its time was up before the first checkpoint")
    network = problem.network(problem.normalization(data.designs, data.reference)).to(device)
    looked = math.isfinite(content["best_error"])  # before the first look there are no best ones
    network.load_state_dict(content["best_weights" if looked else "weights"])
    section = dict(problem.training_section) | {"stopped_at": f"{files[-1].suffix} step {content['step']}"}
    return save_trained(replace(problem, training_section=section), network, data, path, device.type, seconds)


def with_galore(problem: DesignProblem) -> DesignProblem:
    """The study's training with Tensor-GaLore on the channels in."""
    return replace(
        problem,
        training=replace(problem.training, **GALORE),
        training_section=dict(problem.training_section) | GALORE,
    )


def compare_graph(
    record: Recorder, name: str, problem: DesignProblem, data: TrainingData, device: torch.device
) -> None:
    """Time of a step's passes without and with a CUDA graph, and the difference of their gradients.

    Raises:
        GraphRefused: the gradients differ, or a replay is no faster.
    """
    network = problem.network(problem.normalization(data.designs, data.reference)).to(device)
    given, config = data.designs.to(device), problem.training
    scales, parameters = loss_scales(network, given), list(network.parameters())
    graph = graphed_loss(network, given, scales, config)

    def eager(step: int) -> list[Tensor]:
        loss = batch_loss(network, *draw_batch(given, config, step), scales, config)
        return [loss.detach(), *torch.autograd.grad(loss, parameters)]

    def replayed(step: int) -> list[Tensor]:
        loss = graph(*loss_inputs(network, *draw_batch(given, config, step)))
        return [loss.detach(), *torch.autograd.grad(loss, parameters)]

    worst = 0.0
    for step in (1, 2):
        for expected, found in zip(eager(step), replayed(step), strict=True):
            size = float(expected.norm())
            worst = max(worst, float((found - expected).norm()) / size if size else float(found.norm()))
    seconds = [median_seconds(lambda passes=passes: passes(3), device, 1.5, 10) for passes in (eager, replayed)]
    record.row(f"{name}, both passes", 1e3 * seconds[0], "ms")
    beside = f"{seconds[0] / seconds[1]:.1f} times as fast, gradients differ by {worst:.1e}"
    record.row(f"{name}, both passes by a graph", 1e3 * seconds[1], "ms", beside)
    if worst > 1e-3 or seconds[1] > seconds[0]:
        raise GraphRefused(f"gradients differ by {worst:.1e}, {seconds[0] / seconds[1]:.2f} times as fast")


def fitting(
    problem: DesignProblem, data: TrainingData, device: torch.device, deadline: float, graphed: bool = False
) -> tuple[DesignProblem, float]:
    """The problem with as many steps as the time holds, at most its own; and seconds that its end takes.

    At the end half of the held-out designs choose the weights, the others measure their errors, twice.
    """
    network = problem.network(problem.normalization(data.designs, data.reference)).to(device)
    ticks: list[float] = []

    def tick(progress: Progress) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        ticks.append(time.monotonic())
        if len(ticks) == TIMED_STEPS:
            raise _Timed

    never = replace(problem.training, check_every=10**6, checkpoint_every=10**6)
    with suppress(_Timed):
        train(network, data.designs, data.held_out.subset(slice(0, 4)), never, None, tick, graphed=graphed)
    half = TIMED_STEPS // 2
    step = (ticks[-1] - ticks[half]) / (TIMED_STEPS - 1 - half)
    few = data.held_out.subset(slice(0, 4)).to(device)
    begun = time.monotonic()
    measure(network, few)
    end = 1.5 * len(data.held_out) * (time.monotonic() - begun) / len(few)
    affordable = int(((deadline - time.monotonic()) * (1 - KEPT_FOR_THE_END) - end) / step)
    wanted = problem.training.steps + (problem.fine_tuning or {}).get("steps", 0)
    print(f"  a step takes {1e3 * step:.1f} ms: {min(wanted, affordable)} of {wanted} steps", flush=True)
    return (problem if affordable >= wanted else shortened(problem, max(20, affordable))), end


def shortened(problem: DesignProblem, steps: int) -> DesignProblem:
    """The problem with ``steps`` steps, shared between training and fine-tuning as its own are; the card says so."""
    fine_tuning = None if problem.fine_tuning is None else dict(problem.fine_tuning)
    if fine_tuning is not None:
        fine_tuning["steps"] = max(1, steps * fine_tuning["steps"] // (problem.training.steps + fine_tuning["steps"]))
        steps = max(1, steps - fine_tuning["steps"])
    training: TrainingConfig = replace(problem.training, steps=steps)
    section = dict(problem.training_section) | {"steps": steps}
    section |= {} if fine_tuning is None else {"fine_tuning": fine_tuning}
    return replace(problem, training=training, fine_tuning=fine_tuning, training_section=section)


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
    parser.add_argument("--started", type=float, default=time.time(), help="when they began, in seconds since 1970")
    parser.add_argument("--beside", type=int, default=0, help="how many others train at the same time")
    parser.add_argument("--steps", type=int, help="so many, whatever the time; for rehearsals")
    parser.add_argument("--eager", action="store_true", help="without a CUDA graph")
    chosen = parser.parse_args()
    began, graphed = time.monotonic(), chosen.device == "cuda" and not chosen.eager
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    record, bundle, device = Recorder(chosen.out, "training"), open_bundle(chosen.bundle), torch.device(chosen.device)
    seconds = chosen.seconds - (time.time() - chosen.started)  # this process took its time to start
    trained = False
    with TemporaryDirectory() as folder, record.guarded(f"{chosen.study}{', by a graph' if graphed else ''}"):
        train_one(
            record, bundle, chosen.study, Path(folder), device, seconds, chosen.beside, chosen.steps, graphed
        )
        weights = Path(folder) / f"{chosen.study}.safetensors"
        target = chosen.out / weights.name
        target.write_bytes(weights.read_bytes())
        trained = True
    left = seconds - (time.monotonic() - began)
    if graphed and not trained and left > 20:  # in a new process: a recording that broke off can spoil this one
        again = [*sys.argv[1:], "--eager", "--seconds", f"{left:.1f}", "--started", f"{time.time():.2f}"]
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.gpu.training", *again])


if __name__ == "__main__":
    main()
