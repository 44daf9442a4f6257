"""Whether rounding decides how a search ends: the five design studies with values and gradients perturbed at random.

Run as ``python -m benchmarks.noise``; writes ``benchmarks/results/noise.json`` and ``noise.md``. Each search has finite
elements whose values and gradients are off by random relative errors, the same whenever a design is asked for again:
managed searches with a surrogate that has nothing to do with the study, and SLSQP by finite elements alone. They run in
processes with another core type of OpenBLAS and another number of threads each; a core type that this processor lacks
ends its process, which is said.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.studies import RESULTS, ROOT
from shapewright.app.provenance import provenance
from shapewright.studies.files import write_json, write_text
from shapewright.studies.optimize.optimizer import Optimum, optimize
from shapewright.studies.optimize.trust_region_search import SolutionStore, search_by_trust_region
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.schema.loader import load_study

STUDIES = ("torsion", "stokes_body", "stokes_square", "plate_hole", "ns_body")
LEVELS = (1e-15, 1e-14, 1e-13, 1e-12)
"""Largest relative errors."""
CORE_TYPES = ("Haswell", "SkylakeX", "Zen")
THREADS = (1, 2)


def perturbed(part: np.ndarray, theta: np.ndarray, level: float, seed: int) -> np.ndarray:
    """An array with relative errors up to ``level`` that depend on design and seed."""
    digest = hashlib.sha256(theta.tobytes() + bytes([seed, part.ndim])).digest()
    return part * (1 + level * np.random.default_rng(list(digest[:16])).uniform(-1, 1, part.shape))


class NoisyStore(SolutionStore):
    """Solutions whose values and gradients are off."""

    level, seed = 0.0, 0

    def __call__(self, theta: np.ndarray) -> Any:
        found = super().__call__(theta)
        if found is None:
            return None
        parts = {n: perturbed(getattr(found, n).numpy(), theta, self.level, self.seed) for n in ("values", "gradients")}
        return replace(found, **{name: torch.from_numpy(part) for name, part in parts.items()})


class NoisyModel:
    """The same of a model for SLSQP."""

    def __init__(self, model: FemModel, level: float, seed: int) -> None:
        self.model, self.level, self.seed = model, level, seed

    def evaluate(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, gradients = self.model.evaluate(theta)
        return perturbed(values, theta, self.level, self.seed), perturbed(gradients, theta, self.level, self.seed)


class Ignorant:
    """Smooth functionals unrelated to the study, as a surrogate of no use."""

    def __init__(self, setup: Setup) -> None:
        self.count = len(setup.problem.functionals)

    def evaluate(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        waves = np.cos(np.outer(np.arange(1, self.count + 1), np.arange(1, theta.shape[1] + 1)))
        phases = theta @ waves.T
        return 1 + np.sin(phases), np.cos(phases)[..., None] * waves


def searches(name: str, coarser: float, seeds: range, tolerance: float | None) -> list[dict[str, Any]]:
    """Every search of one study in this process."""
    path = ROOT / "studies" / f"{name}.yaml"
    size = coarser * load_study(path).model.geometry.mesh_size
    options = (f"geometry.mesh_size={size}", "optimizer.method=slsqp", "optimizer.starts=1", "surrogate.weights=null")
    setup = build_setup(load_study(path, options))
    config = setup.study.model.optimizer
    if tolerance is not None:
        config = config.model_copy(update={"kkt_tolerance": tolerance, "least_radius": 1e-9, "max_solves": 200})
    managed = config.model_copy(update={"method": "trust_region", "max_iterations": 10})
    model, rows = FemModel(setup), []

    def add(method: str, level: float, seed: int, optimum: Optimum) -> None:
        best = optimum.best
        last = best.history[-1].fem
        residual = None if last is None else last.kkt_residual
        row = {"study": name, "method": method, "level": level, "seed": seed, "reason": best.reason.name}
        rows.append(row | {"objective": best.objective, "violation": best.violation, "kkt": residual})

    for level in LEVELS:
        for seed in seeds:
            with TemporaryDirectory() as folder:
                store = NoisyStore(setup, Path(folder))
                store.level, store.seed = level, seed
                starts = Path(folder) / "starts.json"
                add("managed", level, seed, search_by_trust_region(setup, Ignorant(setup), managed, store, starts))
            if seed == seeds[0]:
                add("slsqp", level, seed, optimize(setup, NoisyModel(model, level, seed), config))
    return rows


def as_markdown(rows: list[dict[str, Any]], lost: list[str], machine: dict[str, Any], arguments: Any) -> str:
    """The table."""
    head = [
        "# Searches under rounding",
        "",
        f"Measured by `python -m benchmarks.noise` on {machine['hardware']['processor']}, {machine['started'][:10]}:"
        f" finite elements {arguments.coarser:g} times as coarse as shipped, relative errors of"
        f" {', '.join(f'{level:g}' for level in LEVELS)}, everywhere {arguments.seeds} other seeds each of managed"
        f" searches, one of SLSQP; KKT tolerance {arguments.tolerance or 'of the study'}.",
        "",
        "| study | method | core types and threads | searches | ended | spread of the optima |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["study"] for row in rows):
        for method in ("managed", "slsqp"):
            own = [row for row in rows if row["study"] == name and row["method"] == method]
            if own:
                ended = ", ".join(f"{count} {reason}" for reason, count in Counter(r["reason"] for r in own).items())
                where = ", ".join(dict.fromkeys(row["where"] for row in own))
                values = np.array([row["objective"] for row in own])
                spread = np.ptp(values) / abs(values.mean())
                head.append(f"| {name} | {method} | {where} | {len(own)} | {ended} | {100 * spread:.2g} % |")
    return "\n".join([*head, "", *lost, ""])


def main() -> None:
    """Every study in every environment; what is finished is written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", nargs="+", default=list(STUDIES))
    parser.add_argument("--seeds", type=int, default=5, help="managed searches of each level of errors")
    parser.add_argument("--coarser", type=float, default=1.0, help="factor on the cell size")
    parser.add_argument("--tolerance", type=float, help="KKT tolerance; that of the study if left out")
    parser.add_argument("--core-types", nargs="+", default=list(CORE_TYPES))
    parser.add_argument("--threads", nargs="+", type=int, default=list(THREADS))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        print(json.dumps(searches(arguments.alone, arguments.coarser, seeds, arguments.tolerance)))
        return
    rows: list[dict[str, Any]] = []
    lost: list[str] = []
    for index, core in enumerate(arguments.core_types):
        for again, threads in enumerate(arguments.threads):
            first = arguments.seeds * (index * len(arguments.threads) + again)
            for name in arguments.studies:
                started, where = time.monotonic(), f"{core} {threads}"
                command = [sys.executable, "-m", "benchmarks.noise", "--alone", name, "--seeds", str(arguments.seeds)]
                command += ["--coarser", str(arguments.coarser), "--first", str(first)]
                command += ["--tolerance", str(arguments.tolerance)] if arguments.tolerance else []
                variables = {"OPENBLAS_CORETYPE": core, "OMP_NUM_THREADS": str(threads)}
                done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    lost.append(f"{name}, {where}: the process ended with {done.returncode}. {done.stderr[-200:]}")
                    print(lost[-1], flush=True)
                    continue
                new = [row | {"where": where} for row in json.loads(done.stdout.splitlines()[-1])]
                rows += new
                ended = Counter((row["method"], row["reason"]) for row in new)
                print(f"{name}, {where}: {dict(ended)}, {time.monotonic() - started:.0f} s", flush=True)
                write_json(RESULTS / "noise.json", {"rows": rows, "lost": lost})
                write_text(RESULTS / "noise.md", as_markdown(rows, lost, provenance("cpu", 0), arguments))


if __name__ == "__main__":
    main()
