"""One process of a distributed training: ``python -m tests.surrogate.galore_worker RANK WORLD FOLDER``.

Trains on its share of the global batch and leaves its parameters in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from tests.surrogate.galore_cases import galore, random

STEPS, BATCH = 9, 8


def train(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    torch.manual_seed(rank)  # DDP itself makes the processes start alike
    model = DistributedDataParallel(network())
    run(model, slice(rank * BATCH // world, (rank + 1) * BATCH // world))
    torch.save(model.module.state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def network() -> torch.nn.Module:
    layers = [torch.nn.Conv1d(8, 8, 5, padding=2, dtype=torch.float64) for _ in range(2)]
    for seed, layer in enumerate(layers):
        layer.weight.data = 0.3 * random(layer.weight.shape, seed=seed)
        layer.bias.data = 0.3 * random(layer.bias.shape, seed=seed)
    return torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])


def run(model: torch.nn.Module, share: slice) -> None:
    optimizer = galore(model.parameters(), lr=0.02, update_gap=3)
    for step in range(STEPS):
        inputs = random((BATCH, 8, 16), seed=step)
        optimizer.zero_grad()
        (model(inputs[share]) - inputs[share].roll(1, 2)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


if __name__ == "__main__":
    train(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
