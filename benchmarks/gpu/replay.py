"""Value and design gradient of shipped surrogates replayed from a CUDA graph, at small batches.

Run by the kit as a process of its own, ``python -m benchmarks.gpu.replay``: a recording that the device refuses can
spoil all that the process does later.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.designs import repeated
from benchmarks.gpu.problems import open_bundle, open_shipped, values_close
from benchmarks.gpu.results import Recorder
from benchmarks.gpu.timing import median_seconds, wait
from shapewright.surrogate.models.design_surrogate import DesignSurrogate

BATCHES = (1, 64)


class Replayed:
    """``value_and_gradient`` of designs (B, P) of one number B, all of them on the latent grid."""

    def __init__(self, network: DesignSurrogate, theta: Tensor) -> None:
        self.theta = theta.clone()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                network.value_and_gradient(self.theta)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.found = network.value_and_gradient(self.theta)

    def __call__(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Functionals (B, J) and gradients (B, J, P), overwritten by the next call."""
        self.theta.copy_(theta)
        self.graph.replay()
        return self.found


def main() -> None:
    """Every study of the bundle until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    chosen = parser.parse_args()
    deadline, device = time.monotonic() + chosen.seconds, torch.device("cuda")
    record, bundle = Recorder(chosen.out, "graphs"), open_bundle(chosen.bundle)
    for name in bundle.studies:
        if time.monotonic() > deadline:
            break
        with record.guarded(f"{name}, value and gradient"):
            network = open_shipped(bundle.problem(name), chosen.weights / f"{name}.safetensors").to(device)
            designs = bundle.data(name).designs.theta
            fem = bundle.note(name)["fem_seconds"]
            for batch in BATCHES:
                theta = repeated(designs, batch).to(device, torch.float32)
                replayed = Replayed(network, theta)
                others = theta.roll(1, 0) if batch > 1 else designs[1:2].to(theta)
                error = values_close(replayed(others)[1], network.value_and_gradient(others)[1])
                wait(device)
                seconds = median_seconds(lambda call=replayed, given=theta: call(given), device, 1.0, 50)
                beside = f"{fem * batch / seconds:.1f} times FEM's designs a second; gradients differ by {error:.1e}"
                record.row(f"{name}, graph, batch {batch}", 1e3 * seconds / batch, "ms per design", beside)


if __name__ == "__main__":
    main()
