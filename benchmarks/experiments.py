"""The experiments by which the mGNO is known, each a study: error, training time, and time per solve beside dolfinx's.

Run as ``python -m benchmarks.experiments`` (``--only NAME``, ``--device cuda``); trainings go on where they were broken
off. Writes ``benchmarks/results/experiments.json`` and ``experiments.md``. Burgers' equation has its own command,
``python -m benchmarks.burgers``; its rows are taken over.

Both sides are timed on one thread, in processor time where both run on the CPU, and so that what can be done once is
done before: for dolfinx, forms are compiled and the mesh is there; for the operator, the weights are. dolfinx's mesh is
the coarsest of a list on which its error against the resolved solution is no larger than the operator's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inverse import measure, recover, sensor_points
from benchmarks.target_response import Load, fem_energies, match_energies
from shapewright.app.progress import ProgressBars
from shapewright.app.provenance import provenance
from shapewright.geometries.cad.mesher import MeshError
from shapewright.solvers.errors import SolveError
from shapewright.studies.files import write_json, write_text
from shapewright.studies.problem.operator_setup import OperatorSetup, load_operator_study
from shapewright.studies.run.operator_run import (
    FemCost,
    fem_cost,
    held_out,
    measure_errors,
    run_operator_study,
    seconds_per_solve,
)
from shapewright.studies.run.workspace import Workspace
from shapewright.surrogate.models.model_card import OperatorCard
from shapewright.surrogate.models.problem_operator import ProblemOperator
from shapewright.surrogate.training.physics_training import Solutions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
NAMES = ("nonlinear_poisson", "hyperelasticity", "lid_cavity", "channel_flow")
WITH_SOLUTIONS = ("lid_cavity", "channel_flow")
"""Studies that are trained a second time, with 50 finite-element solutions beside the physics."""
COARSENING = (12.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5)
"""Cell sizes of dolfinx's meshes, in those of the resolved one."""
UNKNOWN = ("c1", "c2", "beta1", "beta2", "x1", "y1", "x2", "y2")
NOISE = 0.005
LOAD = Load("load", np.array([0.04, 0.08, 0.12]))


def experiment_rows(name: str, folder: Path, device: str, bars: ProgressBars) -> Iterator[dict[str, Any]]:
    """All rows of a study: its variants, and what is designed with its operator."""
    setup, network, card = yield from study_rows(name, "physics only", (), folder / name, device, bars)
    if name in WITH_SOLUTIONS:
        more = ("training.solutions=50", f"surrogate.weights=weights/{name}_solutions.safetensors")
        yield from study_rows(name, "physics and 50 solutions", more, folder / f"{name}_solutions", device, bars)
    if name == "nonlinear_poisson":
        yield inverse_row(setup, network, card.seconds)
    if name == "hyperelasticity":
        yield target_row(setup, network, card.seconds)


def study_rows(
    name: str, variant: str, overrides: tuple[str, ...], folder: Path, device: str, bars: ProgressBars
) -> Generator[dict[str, Any], None, tuple[OperatorSetup, ProblemOperator, OperatorCard]]:
    """Errors by the size of the input cloud, with times; returns the trained operator."""
    workspace = Workspace(folder)
    with workspace.lock():
        study = load_operator_study(ROOT / "studies" / f"{name}.yaml", overrides)
        setup, network, card = run_operator_study(study, workspace, device, bars)
        truth = held_out(setup, workspace, bars)
        errors = measure_errors(setup, network, truth)
        costs = fem_costs(setup, truth, min(errors.mean.values()))
        one, many = truth.instances.subset(slice(0, 1)), setup.population.draw(256, 7)
        for points, error in errors.mean.items():
            enough = next((cost for cost in costs if cost.squared_relative_error <= error), None)
            yield {
                "experiment": name,
                "variant": f"{variant}, {points} points",
                "squared_relative_error": error,
                "median": errors.median[points],
                "worst": errors.worst[points],
                "train_seconds": card.seconds,
                "solve_seconds": seconds_per_solve(setup, network, one, points, setup.lift),
                "solve_seconds_of_256": seconds_per_solve(setup, network, many, points, setup.lift),
                "dolfinx_seconds_at_same_error": enough.seconds if enough else None,
                "dolfinx_nodes": enough.nodes if enough else None,
                "dolfinx_error": enough.squared_relative_error if enough else None,
                "device": device,
                "trained_on": card.hardware["device"],
            }
    return setup, network, card


def fem_costs(setup: OperatorSetup, truth: Solutions, error: float) -> list[FemCost]:
    """Finite elements from the coarsest mesh that all shapes allow to one that is as good as the operator."""
    few, costs = Solutions(truth.instances.subset(slice(0, 8)), truth.fields[:8], truth.lift), []
    for factor in COARSENING:
        try:
            costs.append(fem_cost(setup, few, factor * setup.study.model.evaluation.mesh_size))
        except (MeshError, SolveError):  # too coarse for a shape
            continue
        if costs[-1].squared_relative_error <= error:
            break
    return costs


def inverse_row(setup: OperatorSetup, network: ProblemOperator, train_seconds: float, count: int = 4) -> dict[str, Any]:
    """Shape and source from noisy values at 20 points, on unseen instances, judged by finite elements."""
    exact, shapes, misfits, times = network.double().requires_grad_(False), [], [], []
    drawn = setup.population.draw(count, seed=5000)
    for index in range(count):
        instance = drawn.subset(slice(index, index + 1))
        sensors = measure(setup, instance, sensor_points(20, 0.55), NOISE, seed=index)
        start = time.process_time()
        found = recover(setup, exact, sensors, instance, UNKNOWN, starts=3, cloud=400)
        times.append(time.process_time() - start)
        misfits.append(found.fem_misfit)
        shapes.append(_outline_error(setup, instance.theta, found.instance.theta))
    return {
        "experiment": "inverse_poisson",
        "variant": f"outline from 20 sensors of noise {NOISE}; misfit by dolfinx {np.mean(misfits):.2f} noise",
        "squared_relative_error": float(np.mean(shapes)),
        "train_seconds": train_seconds,
        "solve_seconds": float(np.mean(times)),
        "dolfinx_seconds_at_same_error": None,
        "fem_misfits": misfits,
        "device": "cpu",
    }


def target_row(setup: OperatorSetup, network: ProblemOperator, train_seconds: float, count: int = 4) -> dict[str, Any]:
    """Pores whose energies under three loads are those that finite elements give for unseen shapes."""
    exact, errors, times = network.double().requires_grad_(False), [], []
    starts = setup.population.draw(3, seed=6000).theta.numpy()
    for hidden in setup.population.draw(count, seed=5000).theta.numpy():
        target = fem_energies(setup, hidden, LOAD)
        start = time.process_time()
        found = match_energies(setup, exact, LOAD, target, list(starts))
        times.append(time.process_time() - start)
        errors.append((found.fem / target - 1) ** 2)
    return {
        "experiment": "target_hyperelasticity",
        "variant": f"energies at three loads by dolfinx, worst {100 * np.sqrt(np.max(errors)):.2f} % off the target",
        "squared_relative_error": float(np.mean(errors)),
        "train_seconds": train_seconds,
        "solve_seconds": float(np.mean(times)),
        "dolfinx_seconds_at_same_error": None,
        "device": "cpu",
    }


def _outline_error(setup: OperatorSetup, exact: torch.Tensor, found: torch.Tensor) -> float:
    """Mean squared distance of control points over the mean square of their distance from the origin."""
    one, other = (setup.family.control_points(theta) for theta in (exact, found))
    return float(((one - other) ** 2).sum(-1).mean() / (one**2).sum(-1).mean())


def burgers_rows() -> list[dict[str, Any]]:
    """What ``benchmarks.burgers`` has measured; its rival is a spectral solver, so dolfinx has no time there."""
    path = RESULTS / "burgers.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    missing = {"dolfinx_seconds_at_same_error": None}
    return [{name: row[name] for name in row if name != "history"} | missing for row in rows]


def _heading(machine: dict[str, Any], device: str) -> list[str]:
    on = machine["hardware"]
    chosen = (name for name in machine["packages"] if "torch" in name or "dolfinx" in name)
    packages = ", ".join(f"{name} {machine['packages'][name]}" for name in chosen)
    return [
        "# Experiments",
        "",
        f"Measured by `python -m benchmarks.experiments` on {on['processor']}, one thread of {on['cores']} cores,"
        f" device {device}; {packages}. GPU: not measured,"
        " unless a device is named here. Errors are squared, relative, in L2, of instances that neither trained nor"
        " chose the weights; medians and worst ones are in `experiments.json`. Training curves:"
        " [training.png](training.png).",
        "",
    ]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| experiment | variant | squared relative error | training, s | one solve, ms | one of 256, ms |"]
    lines[0] += " dolfinx at that error, ms (nodes) | dolfinx / operator, one | of 256 |"
    lines.append("|" + "---|" * 9)
    for row in rows:
        fem, one, many = row.get("dolfinx_seconds_at_same_error"), row["solve_seconds"], row.get("solve_seconds_of_256")
        cells = [row["experiment"], row["variant"]]
        cells += [f"{row['squared_relative_error']:.2e}", f"{row['train_seconds']:.0f}"]
        cells.append("" if one is None else f"{1e3 * one:.1f}")
        cells.append("" if many is None else f"{1e3 * many:.1f}")
        cells.append("" if fem is None else f"{1e3 * fem:.1f} ({row.get('dolfinx_nodes')})")
        cells.append("" if fem is None or one is None else f"{fem / one:.2f}")
        cells.append("" if fem is None or many is None else f"{fem / many:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=NAMES, help="one experiment; the rows of others stay")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "experiments")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / "experiments.json"
    for name in (chosen.only,) if chosen.only else NAMES:
        with ProgressBars() as bars:
            fresh = list(experiment_rows(name, chosen.out, chosen.device, bars))
        rows = json.loads(path.read_text())["rows"] if path.exists() else []
        replaced = {row["experiment"] for row in fresh} | {"burgers"}
        rows = [row for row in rows if row["experiment"] not in replaced] + fresh + burgers_rows()
        machine = provenance(chosen.device, 0)
        write_json(path, {"machine": machine, "rows": rows})
        text = "\n".join([*_heading(machine, chosen.device), *_table(rows), ""])
        write_text(RESULTS / "experiments.md", text)
        print(text)


if __name__ == "__main__":
    main()
