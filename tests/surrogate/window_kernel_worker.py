"""Compares the kernels of Triton with torch's derivatives of the same sums; with TRITON_INTERPRET=1 it needs no GPU.

A passing run does not prove that a GPU's compiler takes them; tests/surrogate/test_cuda.py sums on one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from shapewright.surrogate.mgno import window_kernels as kernels
from shapewright.surrogate.mgno import window_sums
from tests.surrogate.design_cases import lively_surrogate, random_designs

POINTS, NODES, EDGES = 70, 40, 9  # the last program of 32 points is not full


def check(dtype: torch.dtype, width: int, tolerance: float) -> None:
    """All four kernels for one number of channels."""
    generator = torch.Generator().manual_seed(width)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    def close(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected.detach(), rtol=tolerance, atol=tolerance)

    index = torch.randint(NODES, (POINTS, EDGES), generator=generator)
    nodes, weight, stencil, position = (
        each.requires_grad_() for each in (random(NODES, width), random(POINTS, EDGES), random(EDGES, width),
                                           random(POINTS, width))
    )  # fmt: skip
    plain = [each.detach() for each in (weight, stencil, position)]

    sums = (weight[..., None] * functional.gelu(nodes[index] + stencil - position[:, None])).sum(1)
    grad = random(POINTS, width)
    of_nodes, *expected = torch.autograd.grad(sums, (nodes, stencil, weight, position), grad)
    close(kernels.gathered(nodes.detach(), index, *plain), sums)
    into = torch.zeros_like(nodes), torch.zeros_like(stencil)
    found = kernels.gather_slopes(nodes.detach(), index, *plain, grad, *into)
    for ours, theirs in zip((*into, *found), (of_nodes, *expected), strict=True):
        close(ours.detach(), theirs)
    without = kernels.gather_slopes(nodes.detach(), index, *plain, grad, None, None)
    assert all(torch.equal(a, b) for a, b in zip(found, without, strict=True))

    edges = weight[..., None] * functional.gelu(position[:, None] + stencil)
    total = torch.ones(NODES, width, dtype=dtype).index_add(0, index.flatten(), edges.flatten(0, 1))
    grad = random(NODES, width)
    expected = list(torch.autograd.grad(total, (stencil, position, weight), grad))
    weight, stencil, position = plain
    ours = torch.ones(NODES, width, dtype=dtype)
    kernels.scattered(position, index, weight, stencil, ours)
    close(ours, total)
    of_stencil = torch.zeros_like(stencil)
    found = kernels.scatter_slopes(position, index, weight, stencil, grad, of_stencil)
    for mine, theirs in zip((of_stencil, *found), expected, strict=True):
        close(mine, theirs)


def check_surrogate() -> None:
    """Values, design gradients and a weight's derivative of a surrogate whose sums run by the kernels."""
    surrogate, theta = lively_surrogate(), random_designs(2, seed=5)

    def found() -> list[Tensor]:
        of_weights = torch.autograd.grad(surrogate.evaluate(theta)[1].square().sum(), list(surrogate.parameters()))
        return [*surrogate.value_and_gradient(theta), *of_weights]

    by_torch = found()
    window_sums.kernels_for = lambda like: kernels
    for ours, theirs in zip(found(), by_torch, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


if __name__ == "__main__":
    check_surrogate()
    for width in (8, 5):
        check(torch.float32, width, 1e-5)
        check(torch.float64, width, 1e-12)
    kernels.try_out(torch.device("cpu"))
