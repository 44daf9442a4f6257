"""One process of a training: ``python -m tests.surrogate.together_worker RANK COUNT FOLDER``.

Leaves its losses, weights and the factors of its optimizer in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from shapewright.surrogate.training import loop as trainer
from shapewright.surrogate.training.derivative_informed import TrainingConfig, train
from shapewright.surrogate.training.loop import make_optimizer
from tests.surrogate.design_cases import exact_dataset, small_surrogate

STEPS = 50


def run() -> dict[str, object]:
    """Losses and held-out errors, weights, and what the optimizer holds of every parameter."""
    made = []

    def remembered(network, config):
        made.append(make_optimizer(network, config))
        return made[-1]

    config = TrainingConfig(update_gap=20, steps=STEPS, batch=6, check_every=10, learning_rate=5e-3)
    data, held_out, losses, surrogate = exact_dataset(40, seed=1), exact_dataset(12, seed=2), [], small_surrogate()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "make_optimizer", remembered)
        history = train(surrogate, data, held_out, config, report=lambda progress: losses.append(progress.loss))
    states = [dict(state) for state in made[0].state.values()]
    return {
        "losses": losses,
        "errors": [progress.error for progress in history],
        "weights": surrogate.state_dict(),
        "states": states,
    }


if __name__ == "__main__":
    rank, count, folder = sys.argv[1:]
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=int(rank), world_size=int(count))
    torch.save(run(), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()
