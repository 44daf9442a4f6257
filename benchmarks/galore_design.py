"""The mGNO of a shipped study trained by AdamW and by Tensor-GaLore with the same budget: its held-out errors.

Each optimizer has the same short trials of its learning rate; the best by half of the held-out designs is trained on
two seeds and judged on the other half.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.galore_code import optimizer_code
from benchmarks.optimizer_bytes import optimizer_state_bytes
from shapewright.studies.files import content_key, write_json
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.problem.surrogates import build_surrogate, normalization_of
from shapewright.studies.run.pipeline import Run, sample
from shapewright.studies.run.workspace import Workspace
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.model_card import Accuracy
from shapewright.surrogate.training.accuracy import measure
from shapewright.surrogate.training.derivative_informed import TrainingConfig, train
from shapewright.surrogate.training.loop import make_optimizer

STUDY = Path(__file__).resolve().parents[1] / "studies" / "torsion.yaml"
OPTIMIZERS: tuple[dict[str, Any], ...] = (
    {"optimizer": "adamw"},
    {"optimizer": "tensor_galore", "rank": 0.25},
    {"optimizer": "tensor_galore", "rank": (1.0, 1.0, 1.0, 0.25, 1.0), "moments": "8bit"},
)
"""The last one truncates the channels in alone."""
RATES = (4e-3, 8e-3)
TRIAL_STEPS, STEPS, SEEDS = 100, 300, (0, 1)


def design_rows(folder: Path, device: str) -> list[dict[str, Any]]:
    """One row an optimizer; finished trainings are files in ``folder``."""
    setup = _setup(0)
    workspace = Workspace(folder / STUDY.stem)
    workspace.folder.mkdir(parents=True, exist_ok=True)
    data, held_out, reference = sample(Run(setup, workspace, device))
    choosing, judging = held_out.subset(slice(0, len(held_out) // 2)), held_out.subset(slice(len(held_out) // 2, None))

    def trained(options: dict[str, Any], rate: float, seed: int, steps: int) -> dict[str, Any]:
        code = optimizer_code() if options["optimizer"] == "tensor_galore" else None
        key = content_key(setup.trained_for(), data.hash, options, rate, seed, steps, device, code)
        path = folder / f"design_{key}.json"
        if not path.exists():
            config = TrainingConfig(**options, steps=steps, learning_rate=rate, seed=seed, check_every=steps)
            surrogate = build_surrogate(_setup(seed), normalization_of(setup, data, reference)).to(device)
            train(surrogate, data, choosing, config)
            found = {"choosing": measure(surrogate, choosing), "judging": measure(surrogate, judging)}
            errors = {name: _errors(accuracy) for name, accuracy in found.items()}
            write_json(path, errors | {"optimizer_bytes": _bytes(surrogate, config)})
        result = json.loads(path.read_text(encoding="utf-8"))
        print(f"{STUDY.stem}, {options}, rate {rate:g}, seed {seed}, {steps} steps: {result['judging']}", flush=True)
        return result

    rows, dense = [], _bytes(build_surrogate(setup), TrainingConfig(optimizer="tensor_galore", rank=1.0))
    for options in OPTIMIZERS:
        trials = {rate: trained(options, rate, len(SEEDS), TRIAL_STEPS)["choosing"]["gradient"] for rate in RATES}
        best = min(trials, key=trials.__getitem__)
        runs = [trained(options, best, seed, STEPS) for seed in SEEDS]
        rows.append(
            {"study": STUDY.stem, "rank": None, "moments": "full"}
            | options
            | {"steps": STEPS, "learning_rate": best, "optimizer_bytes": runs[0]["optimizer_bytes"]}
            | {"dense_bytes": dense}
            | {f"{name}_error": [run["judging"][name] for run in runs] for name in runs[0]["judging"]}
        )
    return rows


def _setup(seed: int) -> Setup:
    return build_setup(load_study(STUDY, ("surrogate.weights=null", f"training.seed={seed}")))


def _errors(accuracy: Accuracy) -> dict[str, float]:
    return {
        "field": max(accuracy.field.values()),
        "objective": accuracy.objective,
        "gradient": accuracy.gradient,
        "angle": 1 - accuracy.cosine,
    }


def _bytes(surrogate: torch.nn.Module, config: TrainingConfig) -> int:
    """Of the optimizer's state, after a step from any gradient."""
    optimizer = make_optimizer(surrogate, config)
    for parameter in surrogate.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return optimizer_state_bytes(optimizer)
