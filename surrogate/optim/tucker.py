"""Tucker subspaces of tensors: orthonormal factors from Gram matrices, kept up to date by subspace sweeps.

A factor tuple holds one entry a mode: a matrix (n, r) with orthonormal columns, or None for a mode that is kept
whole. Tensors may carry a batch of equal shapes in front; factors then are (batch, n, r). Complex tensors use
conjugate transposes. tensorly gives the same subspaces (tests/surrogate/test_tucker.py) in three to seven times the
time on weights of (2, 10, 10, 32, 32), since it decomposes the unfoldings themselves.

L. De Lathauwer, B. De Moor, J. Vandewalle, *A multilinear singular value decomposition* (SIAM J. Matrix Anal.
Appl. 21, 2000) and *On the best rank-1 and rank-(R1, ..., RN) approximation of higher-order tensors* (same issue).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Factors = tuple[Tensor | None, ...]


def as_real(tensor: Tensor) -> Tensor:
    """Real and imaginary parts in a last dimension, as a view; a real tensor is itself."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def mode_product(tensor: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """Apply ``matrix`` (batch, m, n) along ``mode`` of a tensor (batch, *shape) whose size there is n."""
    matrix = matrix.resolve_conj()  # once, not for every block
    batch, *shape = tensor.shape
    before, after = shape[:mode], shape[mode + 1 :]
    if not after:
        columns = tensor.reshape(batch, -1, shape[mode])
        return (columns @ matrix.mT).reshape(batch, *before, matrix.shape[1])
    blocks = tensor.reshape(batch, -1, shape[mode], torch.Size(after).numel())
    return (matrix[:, None] @ blocks).reshape(batch, *before, matrix.shape[1], *after)


def project(tensor: Tensor, factors: Factors) -> Tensor:
    """Core of (batch, *shape) in the subspace: conjugate-transposed factors along every mode that has one."""
    for mode in _order(factors):
        tensor = mode_product(tensor, factors[mode].mH, mode)
    return tensor


def lift(core: Tensor, factors: Factors) -> Tensor:
    """Back to the full shape; with :func:`project` before it, the orthogonal projection onto the subspace."""
    for mode in reversed(_order(factors)):
        core = mode_product(core, factors[mode], mode)
    return core


def lift_onto(target: Tensor, core: Tensor, factors: Factors, keep: float) -> None:
    """``target`` becomes ``keep`` times itself plus the lifted core; both without batch, ``target`` contiguous.

    The last mode's product goes straight into it, so that nothing of its size is allocated. At least one mode has
    a factor.
    """
    *others, last = reversed(_order(factors))
    core = core[None]
    for mode in others:
        core = mode_product(core, factors[mode][None], mode)
    matrix, shape = factors[last].resolve_conj(), target.shape
    after = torch.Size(shape[last + 1 :]).numel()
    if after == 1:
        target.view(-1, shape[last]).addmm_(core.reshape(-1, matrix.shape[1]), matrix.mT, beta=keep)
    else:
        blocks = target.view(-1, shape[last], after)
        core = core.reshape(len(blocks), matrix.shape[1], after)
        blocks.baddbmm_(matrix.expand(len(blocks), *matrix.shape), core, beta=keep)


def spectra_and_bases(tensor: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Squared singular values and left singular vectors of every unfolding of a tensor without batch.

    By eigenvectors of the Gram matrices, which cost one product each where a singular value decomposition of the
    unfolding costs tens; directions below the root of the rounding error relative to the first are not resolved.

    Returns:
        values (n,) in descending order, and the vectors (n, n) as columns in the same order, a mode each.
    """
    tensor = tensor / tensor.abs().max().clamp_min(torch.finfo(tensor.dtype).tiny)  # squares must not underflow
    values, vectors = [], []
    for mode in range(tensor.dim()):
        unfolding = _unfold(tensor, mode)
        value, vector = torch.linalg.eigh(unfolding @ unfolding.mH)
        values.append(value.flip(0).clamp_min(0))
        vectors.append(vector.flip(1))
    return values, vectors


def truncate(bases: Sequence[Tensor], ranks: Sequence[int]) -> Factors:
    """Leading columns of each basis; None where the rank is the size."""
    return tuple(
        None if rank == len(basis) else basis[:, :rank].clone(memory_format=torch.contiguous_format)
        for basis, rank in zip(bases, ranks, strict=True)
    )


def sweep(tensor: Tensor, factors: Factors) -> Factors:
    """One higher-order orthogonal iteration from the present factors, for a tensor without batch.

    Each mode in turn takes one step of subspace iteration on the tensor projected along the other modes. The
    column signs (phases) are chosen so that a subspace that stays gives the factor it had. Where the tensor
    has fewer directions than the factor, those of the factor that are left stay.
    """
    current = list(factors)
    for mode, factor in enumerate(factors):
        if factor is None:
            continue
        others = tuple(None if k == mode or f is None else f[None] for k, f in enumerate(current))
        unfolding = _unfold(project(tensor[None], others)[0], mode)
        unfolding = unfolding / unfolding.abs().max().clamp_min(torch.finfo(unfolding.dtype).tiny)
        image = unfolding @ (unfolding.mH @ factor)
        basis, triangle = torch.linalg.qr(image)
        diagonal = triangle.diagonal()
        if bool((diagonal.abs() <= _unresolved(image.dtype) * image.norm(dim=0).max()).any()):
            left, size, _ = torch.linalg.svd(image, full_matrices=False)
            resolved = size > _unresolved(image.dtype) * size[0]
            basis = completed(left[:, resolved], factor, factor.shape[1])
            left, _, right = torch.linalg.svd(basis.mH @ factor)
            current[mode] = (basis @ left @ right).contiguous()  # the basis nearest to the old one
        else:
            phase = torch.sgn(diagonal)
            current[mode] = (basis * torch.where(phase == 0, 1, phase)).contiguous()
    return tuple(current)


def completed(basis: Tensor, preferred: Tensor, rank: int) -> Tensor:
    """(n, rank) orthonormal columns: those of ``basis`` (n, k), then directions of ``preferred`` (n, m), then any."""
    if basis.shape[1] >= rank:
        return basis[:, :rank]
    anything = torch.eye(len(basis), dtype=basis.dtype, device=basis.device)
    rest = torch.cat([preferred, 1e-2 * anything], dim=1)
    for _ in range(2):  # once leaves rounding errors
        rest = rest - basis @ (basis.mH @ rest)
    return torch.cat([basis, torch.linalg.svd(rest, full_matrices=False)[0][:, : rank - basis.shape[1]]], dim=1)


def resolved_count(values: Tensor) -> int:
    """How many of the descending squared singular values (n,) are more than rounding errors."""
    return int((values > _unresolved(values.dtype) * values[0]).sum())


def _unresolved(dtype: torch.dtype) -> float:
    """Squared singular values below this share of the first are rounding errors of a Gram matrix."""
    return 16 * torch.finfo(dtype).eps


def _unfold(tensor: Tensor, mode: int) -> Tensor:
    return tensor.movedim(mode, 0).reshape(tensor.shape[mode], -1)


def _order(factors: Factors) -> list[int]:
    """Modes that have a factor, the one that shrinks most first."""
    present = [mode for mode, factor in enumerate(factors) if factor is not None]
    return sorted(present, key=lambda mode: factors[mode].shape[-1] / factors[mode].shape[-2])
