# ruff: noqa: ANN001, ANN202 (arguments of kernels are pointers, which Triton types itself)
"""Sums over neighbourhoods and their slopes on a GPU, each in one pass over points.

torch writes and reads every activation of an edge about ten times; here they stay in registers, and a point's row, its
neighbours' rows and K weights are all that is read. With z_nk = nodes[index_nk] + stencil_k - position_n for a gather
and z_nk = rows_n + stencil_k for a scatter:

    gathered_n = sum_k weight_nk gelu(z_nk)           scattered_m = sum over index_nk = m of mass_nk gelu(z_nk)

Tensors are contiguous and of one type, float32 or float64, ``index`` int64. Sums into nodes are atomic additions, as
torch's own, in no fixed order, and order no other access ("relaxed"). A kernel is compiled for each number of
neighbours and of channels, not of points.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

POINTS = 32
"""Points of a program: with 32 channels eight values of each array for one of its 128 threads."""
_ROOT_HALF = tl.constexpr(0.7071067811865476)
_DENSITY = tl.constexpr(0.3989422804014327)


def gathered(nodes: Tensor, index: Tensor, weight: Tensor, stencil: Tensor, position: Tensor) -> Tensor:
    """(N, h) sums from nodes (M, h), index and weight (N, K), stencil (K, h), position (N, h)."""
    found = torch.empty_like(position)
    _launch(_gather, index, stencil, nodes, index, weight, stencil, position, found)
    return found


def gather_slopes(
    nodes: Tensor,
    index: Tensor,
    weight: Tensor,
    stencil: Tensor,
    position: Tensor,
    grad: Tensor,
    of_nodes: Tensor | None,
    of_stencil: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Slopes by weight and position from those by the sums, ``grad`` (N, h); adds those by nodes and stencil."""
    found = torch.empty_like(weight), torch.empty_like(position)
    given = nodes, index, weight, stencil, position, grad
    _launch(_gather_slopes, index, stencil, *given, of_nodes, of_stencil, *found)
    return found


def scattered(rows: Tensor, index: Tensor, mass: Tensor, stencil: Tensor, total: Tensor) -> None:
    """Add the sums of rows (N, h), index and mass (N, K), stencil (K, h) to ``total`` (M, h)."""
    _launch(_scatter, index, stencil, rows, index, mass, stencil, total)


def scatter_slopes(
    rows: Tensor, index: Tensor, mass: Tensor, stencil: Tensor, grad: Tensor, of_stencil: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Slopes by rows and mass from those by the sums, ``grad`` (M, h); adds those by the stencil."""
    found = torch.empty_like(rows), torch.empty_like(mass)
    _launch(_scatter_slopes, index, stencil, rows, index, mass, stencil, grad, of_stencil, *found)
    return found


def try_out(device: torch.device) -> None:
    """Compile the four kernels for one channel and compare a sum; raises what a machine without a compiler raises.

    Raises:
        RuntimeError: the sum is wrong.
    """
    one = torch.ones(1, 1, device=device)
    index, total = torch.zeros(1, 1, dtype=torch.int64, device=device), torch.zeros_like(one)
    scattered(one, index, one, one, total)
    expected = torch.nn.functional.gelu(2 * one)
    close = torch.allclose(total, expected) and torch.allclose(gathered(one, index, one, 2 * one, one), expected)
    gather_slopes(one, index, one, one, one, one, total, total)
    scatter_slopes(one, index, one, one, one, total)
    if not close:
        raise RuntimeError("a sum by Triton differs from torch's")


def _launch(kernel: triton.JITFunction, index: Tensor, stencil: Tensor, *arrays: Tensor | None) -> None:
    count, edges = index.shape
    width = stencil.shape[1]
    if count:
        programs = (triton.cdiv(count, POINTS),)
        with torch.cuda.device_of(index):
            kernel[programs](*arrays, count, edges, width, CHANNELS=triton.next_power_of_2(width), POINTS=POINTS)


@triton.jit
def _distribution(z):
    return 0.5 * (1.0 + tl.erf(z * _ROOT_HALF))


@triton.jit
def _density(z):
    return _DENSITY * tl.exp(-0.5 * z * z)


@triton.jit
def _block(count, width, CHANNELS: tl.constexpr, POINTS: tl.constexpr):
    """Points, whether they exist, channels, and offsets and mask of a (points, channels) block."""
    point = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    channel = tl.arange(0, CHANNELS)
    there = point < count
    return point, there, channel, point[:, None] * width + channel[None, :], there[:, None] & (channel < width)[None, :]


@triton.jit(do_not_specialize=["count"])
def _gather(
    nodes, index, weight, stencil, position, found, count, edges: tl.constexpr, width: tl.constexpr,
    CHANNELS: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    point, there, channel, at, mask = _block(count, width, CHANNELS, POINTS)
    shift = tl.load(position + at, mask, other=0.0)
    total = tl.zeros_like(shift)
    for k in range(edges):
        node = tl.load(index + point * edges + k, there, other=0)
        share = tl.load(weight + point * edges + k, there, other=0.0)
        step = tl.load(stencil + k * width + channel, channel < width, other=0.0)
        row = tl.load(nodes + node[:, None] * width + channel[None, :], mask, other=0.0)
        z = row + step[None, :] - shift
        total += share[:, None] * z * _distribution(z)
    tl.store(found + at, total, mask)


@triton.jit(do_not_specialize=["count"])
def _gather_slopes(
    nodes, index, weight, stencil, position, grad, of_nodes, of_stencil, of_weight, of_position, count,
    edges: tl.constexpr, width: tl.constexpr, CHANNELS: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    point, there, channel, at, mask = _block(count, width, CHANNELS, POINTS)
    shift = tl.load(position + at, mask, other=0.0)
    slope = tl.load(grad + at, mask, other=0.0)
    total = tl.zeros_like(shift)
    for k in range(edges):
        node = tl.load(index + point * edges + k, there, other=0)
        share = tl.load(weight + point * edges + k, there, other=0.0)
        step = tl.load(stencil + k * width + channel, channel < width, other=0.0)
        where = node[:, None] * width + channel[None, :]
        z = tl.load(nodes + where, mask, other=0.0) + step[None, :] - shift
        part = _distribution(z)
        tl.store(of_weight + point * edges + k, tl.sum(slope * z * part, 1), there)
        of_z = share[:, None] * slope * (part + z * _density(z))
        if of_nodes is not None:
            tl.atomic_add(of_nodes + where, of_z, mask, sem="relaxed")
        if of_stencil is not None:
            tl.atomic_add(of_stencil + k * width + channel, tl.sum(of_z, 0), channel < width, sem="relaxed")
        total += of_z
    tl.store(of_position + at, -total, mask)


@triton.jit(do_not_specialize=["count"])
def _scatter(
    rows, index, mass, stencil, total, count, edges: tl.constexpr, width: tl.constexpr, CHANNELS: tl.constexpr,
    POINTS: tl.constexpr,
):  # fmt: skip
    point, there, channel, at, mask = _block(count, width, CHANNELS, POINTS)
    row = tl.load(rows + at, mask, other=0.0)
    for k in range(edges):
        node = tl.load(index + point * edges + k, there, other=0)
        share = tl.load(mass + point * edges + k, there, other=0.0)
        step = tl.load(stencil + k * width + channel, channel < width, other=0.0)
        z = row + step[None, :]
        where = node[:, None] * width + channel[None, :]
        tl.atomic_add(total + where, share[:, None] * z * _distribution(z), mask, sem="relaxed")


@triton.jit(do_not_specialize=["count"])
def _scatter_slopes(
    rows, index, mass, stencil, grad, of_stencil, of_rows, of_mass, count, edges: tl.constexpr, width: tl.constexpr,
    CHANNELS: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    point, there, channel, at, mask = _block(count, width, CHANNELS, POINTS)
    row = tl.load(rows + at, mask, other=0.0)
    total = tl.zeros_like(row)
    for k in range(edges):
        node = tl.load(index + point * edges + k, there, other=0)
        share = tl.load(mass + point * edges + k, there, other=0.0)
        step = tl.load(stencil + k * width + channel, channel < width, other=0.0)
        z = row + step[None, :]
        slope = tl.load(grad + node[:, None] * width + channel[None, :], mask, other=0.0)
        part = _distribution(z)
        tl.store(of_mass + point * edges + k, tl.sum(slope * z * part, 1), there)
        of_z = share[:, None] * slope * (part + z * _density(z))
        if of_stencil is not None:
            tl.atomic_add(of_stencil + k * width + channel, tl.sum(of_z, 0), channel < width, sem="relaxed")
        total += of_z
    tl.store(of_rows + at, total, mask)
