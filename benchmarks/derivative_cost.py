"""What derivatives of the fields cost: a training step with them as a multiple of one on values alone.

Run as ``python -m benchmarks.derivative_cost``; writes ``benchmarks/results/derivative_cost.md`` and ``.json``. A step
is encode, Fourier blocks, decode with derivatives, a loss of them, and the reverse pass into every weight. One thread
is timed by the processor time that it takes, so that other programs on the machine count little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shapewright.app.provenance import provenance
from shapewright.geometries.design.point_cloud import INTERIOR, PointCloud
from shapewright.studies.files import write_json, write_text
from shapewright.surrogate.mgno.derivatives import FieldDerivatives, field_derivatives
from shapewright.surrogate.mgno.latent_grid import LatentGrid, grid_around
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig

RESULTS = Path(__file__).resolve().parent / "results"
REPEATS = 4


@dataclass(frozen=True)
class Case:
    """A network and how many points it reads and answers."""

    grid: tuple[int, ...]
    points: int
    queries: int
    width: int = 32
    outputs: int = 1

    @property
    def name(self) -> str:
        return f"{'x'.join(map(str, self.grid))}, {self.outputs} field{'s' * (self.outputs > 1)}"


@dataclass(frozen=True)
class Variant:
    """Which derivatives a step takes; ``order`` 0 is the data-only step."""

    name: str
    order: int
    mode: str = "forward"
    second: str = "laplacian"


CASES = (
    Case((32, 32), 500, 500),
    Case((32, 32), 2000, 2000),
    Case((64, 64), 2000, 2000),
    Case((32, 32), 2000, 2000, outputs=3),
    Case((16, 16, 16), 500, 500),
)
VARIANTS = (
    Variant("values", 0),
    Variant("gradient, forward", 1),
    Variant("gradient, nested reverse", 1, "reverse"),
    Variant("Laplacian, forward", 2),
    Variant("Hessian, forward", 2, second="hessian"),
    Variant("Laplacian, nested reverse", 2, "reverse"),
)


def cloud(points: Tensor, normals: Tensor, tag: int) -> PointCloud:
    """Of one shape, with equal weights that sum to one."""
    count = len(points)
    tags, offsets = torch.full((count,), tag), torch.tensor([0, count])
    return PointCloud(points, torch.full((count,), 1 / count), normals, tags, offsets, ("wall",))


def steps(case: Case) -> tuple[MollifiedGraphNeuralOperator, dict[Variant, Callable[[], Tensor]]]:
    """The network, and for each variant what gives its loss."""
    torch.manual_seed(0)
    dimension = len(case.grid)
    grid: LatentGrid = grid_around([0.0] * dimension, [1.0] * dimension, case.grid, radius=2)
    modes = (10, 10) if dimension == 2 else (4, 4, 4)
    network = MollifiedGraphNeuralOperator(grid, OperatorConfig(case.width, case.width, modes), 0, 1, case.outputs)
    inside = torch.rand(case.points, dimension)
    normals = torch.nn.functional.normalize(torch.randn(case.points // 8, dimension), dim=-1)
    interior = cloud(inside, torch.zeros_like(inside), INTERIOR)
    boundary = cloud(0.5 + 0.5 * normals, normals, 0)
    queries, owner = torch.rand(case.queries, dimension), torch.zeros(case.queries, dtype=torch.int64)

    def derivatives(variant: Variant) -> FieldDerivatives:
        latent = network.encode(interior, boundary)
        if variant.order == 0:
            return FieldDerivatives(network.decode(latent, queries, owner), queries.new_zeros(()))
        return field_derivatives(network, latent, queries, owner, variant.order, variant.mode, variant.second)

    def loss(variant: Variant) -> Tensor:
        found = derivatives(variant)
        total = found.values.square().mean() + found.gradients.square().mean()
        return total if found.laplacians is None else total + found.laplacians.square().mean()

    return network, {variant: lambda v=variant: loss(v) for variant in VARIANTS}


def kept_mib(loss: Callable[[], Tensor]) -> float:
    """Memory of the tensors that a loss keeps for its reverse pass."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        alive = loss()
    del alive
    return sum(storages.values()) / 2**20


def measure(case: Case) -> list[dict[str, object]]:
    """Rows of seconds, multiples of the data-only step, and memory; variants take turns, the fastest turn counts."""
    network, losses = steps(case)
    weights = list(network.parameters())
    seconds = dict.fromkeys(losses, float("inf"))
    for _ in range(REPEATS):
        for variant, loss in losses.items():
            start = time.process_time()
            torch.autograd.grad(loss(), weights, allow_unused=True)
            seconds[variant] = min(seconds[variant], time.process_time() - start)
    data = seconds[VARIANTS[0]]
    return [
        {
            "case": case.name,
            "points": case.points,
            "queries": case.queries,
            "variant": variant.name,
            "seconds": seconds[variant],
            "multiple": seconds[variant] / data,
            "kept_mib": kept_mib(loss),
        }
        for variant, loss in losses.items()
    ]


def as_markdown(rows: list[dict[str, object]], machine: dict) -> str:
    """One line a case: multiples of the data-only step, and what is kept for the reverse pass."""
    on = machine["hardware"]
    names = [variant.name for variant in VARIANTS]
    text = [
        "# Cost of derivatives",
        "",
        f"Measured by `python -m benchmarks.derivative_cost` on {on['processor']}, one thread, processor time,",
        f"{machine['started'][:10]}, torch {machine['packages']['torch']}, float32. A step is encode, four Fourier",
        "blocks of width 32, decode, loss and reverse pass; in brackets what is kept for the reverse pass, in MiB.",
        "",
        f"| latent grid | points | queries | {names[0]} | {' | '.join(names[1:])} |",
        "|---" * (3 + len(names)) + "|",
    ]
    for k in range(0, len(rows), len(names)):
        case = rows[k : k + len(names)]
        costs = [f"{1e3 * case[0]['seconds']:.0f} ms ({case[0]['kept_mib']:.0f})"]
        costs += [f"{row['multiple']:.2f} x ({row['kept_mib']:.0f})" for row in case[1:]]
        text.append(f"| {case[0]['case']} | {case[0]['points']} | {case[0]['queries']} | {' | '.join(costs)} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    rows = [row for case in CASES for row in measure(case)]
    machine = provenance("cpu", 0)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / "derivative_cost.json", {"machine": machine, "rows": rows})
    text = as_markdown(rows, machine)
    write_text(RESULTS / "derivative_cost.md", text)
    print(text)


if __name__ == "__main__":
    main()
