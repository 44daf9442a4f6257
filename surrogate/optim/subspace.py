"""Tucker subspaces of tensors: orthonormal factors from Gram matrices, updated by subspace iteration, and their ranks.

A tuple of factors has one entry for each mode: a matrix (n, r) with orthonormal columns, or None for a mode that is
not truncated. Tensors may have a leading batch dimension of equal shapes; factors then are (batch, n, r). Complex
tensors use conjugate transposes. A subspace of ranks r has prod(r) core entries and n r entries for every factor.
tensorly gives the same subspaces (tests/surrogate/test_subspace.py) in three to seven times the time on weights of
(2, 10, 10, 32, 32), since it decomposes the unfoldings themselves.

L. De Lathauwer, B. De Moor, J. Vandewalle, *A multilinear singular value decomposition* (SIAM J. Matrix Anal.
Appl. 21, 2000) and *On the best rank-1 and rank-(R1, ..., RN) approximation of higher-order tensors* (same issue).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

Factors = tuple[Tensor | None, ...]
Rank = float | Sequence[int | float]
RULES = ("spectrum", "uniform", "energy")
_EXCHANGE = 1.02
"""Directions are exchanged between modes for this many times the energy: each truncated mode takes time."""


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
    """Core of (batch, *shape) in the subspace: product with the conjugate-transposed factor of every truncated mode."""
    for mode, factor in _order(factors):
        tensor = mode_product(tensor, factor.mH, mode)
    return tensor


def lift(core: Tensor, factors: Factors) -> Tensor:
    """Back to the full shape; with :func:`project` before it, the orthogonal projection onto the subspace."""
    for mode, factor in reversed(_order(factors)):
        core = mode_product(core, factor, mode)
    return core


def lift_onto(target: Tensor, core: Tensor, factors: Factors, keep: float, scale: float = 1.0) -> None:
    """``target`` becomes ``keep`` times itself plus ``scale`` times the lifted core.

    Both are without batch, ``target`` is contiguous. The last mode's product is added to it directly, so that nothing
    of its size is allocated. At least one mode has a factor.
    """
    *others, (last, matrix) = reversed(_order(factors))
    core = core[None]
    for mode, factor in others:
        core = mode_product(core, factor[None], mode)
    matrix, shape = matrix.resolve_conj(), target.shape
    after = torch.Size(shape[last + 1 :]).numel()
    if after == 1:
        target.view(-1, shape[last]).addmm_(core.reshape(-1, matrix.shape[1]), matrix.mT, beta=keep, alpha=scale)
    else:
        blocks = target.view(-1, shape[last], after)
        core = core.reshape(len(blocks), matrix.shape[1], after)
        blocks.baddbmm_(matrix.expand(len(blocks), *matrix.shape), core, beta=keep, alpha=scale)


def spectra_and_bases(tensor: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Squared singular values and left singular vectors of every unfolding of a tensor without batch.

    From eigenvectors of the Gram matrices, which cost one product each; a singular value decomposition of the
    unfolding costs tens. Directions below the root of the rounding error relative to the first are not resolved.

    Returns:
        values (n,) in descending order and the vectors (n, n) as columns in the same order, for each mode.
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
    column signs (phases) are chosen so that an unchanged subspace has an unchanged factor. If the tensor has fewer
    directions than the factor, the factor's others are kept.
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
    """(n, rank) orthonormal columns: those of ``basis`` (n, k), then of ``preferred`` (n, m), then others."""
    if basis.shape[1] >= rank:
        return basis[:, :rank]
    others = torch.eye(len(basis), dtype=basis.dtype, device=basis.device)
    rest = torch.cat([preferred, 1e-2 * others], dim=1)
    for _ in range(2):  # one pass leaves rounding errors
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


def _order(factors: Factors) -> list[tuple[int, Tensor]]:
    """Modes that have a factor, with it, in the order of their reduction, the largest first."""
    present = [(mode, factor) for mode, factor in enumerate(factors) if factor is not None]
    return sorted(present, key=lambda entry: entry[1].shape[-1] / entry[1].shape[-2])


def check_rank(rank: Rank, rule: str) -> None:
    """Refuse a rank or a rule that is not defined.

    Raises:
        ValueError: names what was found and what is allowed.
    """
    if rule not in RULES:
        raise ValueError(f"rank_rule is {rule!r}; allowed are {', '.join(map(repr, RULES))}")
    if isinstance(rank, (list, tuple)):
        for entry in rank:
            whole = isinstance(entry, int) and entry >= 1
            if isinstance(entry, bool) or not (whole or (isinstance(entry, float) and 0 < entry <= 1)):
                raise ValueError(
                    f"rank has the entry {entry!r}; each mode takes a count (an integer from 1)"
                    " or a share (a float above 0, to 1)"
                )
    elif isinstance(rank, bool) or not isinstance(rank, (int, float)) or not 0 < rank <= 1:
        raise ValueError(f"rank is {rank!r}; allowed are a share above 0, to 1, or one entry for each mode")


def choose_ranks(
    shape: Sequence[int], rank: Rank, rule: str, spectra: Sequence[Sequence[float]] = ()
) -> tuple[int, ...]:
    """Ranks of every mode.

    Args:
        rank: one entry for each mode (a count, or a share of the mode), with any rule; or one number, whose meaning
            depends on the rule.
        rule: "uniform", the number is a share of the parameters and each mode keeps the same share of its size (as
            in tensorly, rounded down); "spectrum", the same budget, for the directions with the most energy;
            "energy", the number is the share of the squared norm to keep.
        spectra: squared singular values of every unfolding in descending order, for the rules that depend on them.

    Returns:
        the shape itself if a subspace would be no smaller than the tensor. At least one direction for each mode, even
        if that exceeds the budget.

    Raises:
        ValueError: the number of entries is not that of the modes.
    """
    if not isinstance(rank, (int, float)):
        ranks = _by_mode(shape, rank)
    elif rank == 1 and rule != "energy":
        ranks = tuple(shape)
    elif rule == "uniform":
        ranks = _uniform(shape, rank * math.prod(shape))
    elif rule == "spectrum":
        ranks = _by_spectrum(shape, rank * math.prod(shape), spectra)
    else:
        ranks = _by_energy(shape, rank, spectra)
    return ranks if size(shape, ranks) < math.prod(shape) else tuple(shape)


def size(shape: Sequence[int], ranks: Sequence[int]) -> int:
    """Entries of the core and the factors."""
    return math.prod(ranks) + sum(n * r for n, r in zip(shape, ranks, strict=True) if r < n)


def _by_mode(shape: Sequence[int], entries: Sequence[int | float]) -> tuple[int, ...]:
    if len(entries) != len(shape):
        raise ValueError(f"rank has {len(entries)} entries; a tensor of shape {tuple(shape)} needs {len(shape)}")
    counts = (
        entry if isinstance(entry, int) else math.floor(entry * n) for n, entry in zip(shape, entries, strict=True)
    )
    return tuple(min(n, max(1, count)) for n, count in zip(shape, counts, strict=True))


def _uniform(shape: Sequence[int], budget: float) -> tuple[int, ...]:
    def at(share: float) -> tuple[int, ...]:
        return _useful(shape, tuple(max(1, math.floor(share * n)) for n in shape))

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if size(shape, at(middle)) <= budget else (low, middle)
    return at(low)


def _by_spectrum(shape: Sequence[int], budget: float, spectra: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Drop, one by one, the direction that loses the least energy for each core entry it frees."""
    ranks = list(shape)
    while size(shape, ranks) > budget:
        core = math.prod(ranks)
        loss = [values[r - 1] * r / core if r > 1 else math.inf for values, r in zip(spectra, ranks, strict=True)]
        least = min(range(len(ranks)), key=loss.__getitem__)
        if ranks[least] == 1:
            break
        ranks[least] -= 1
    return _grown(shape, _useful(shape, tuple(ranks)), budget, spectra)


def _grown(
    shape: Sequence[int], ranks: tuple[int, ...], budget: float, spectra: Sequence[Sequence[float]]
) -> tuple[int, ...]:
    """Use the rest of the budget: in a mode of few directions the last one dropped may free more than was needed.

    A mode gets one direction more, or all, and if the budget is exceeded another one loses some, as long as the
    product of the shares of energy that modes keep grows: by :data:`_EXCHANGE` at least if another one loses any.
    """
    totals = [list(accumulate(values)) for values in spectra]
    shares = [[part / (total[-1] or 1.0) for part in total] for total in totals]

    def kept(candidate: Sequence[int]) -> float:
        return math.prod(share[rank - 1] for share, rank in zip(shares, candidate, strict=True))

    while True:
        grown = [
            (*ranks[:mode], rank, *ranks[mode + 1 :])
            for mode, n in enumerate(shape)
            for rank in {min(ranks[mode] + 1, n), n} - {ranks[mode]}
        ]
        candidates = [candidate for more in grown for candidate in _affordable(shape, more, budget)]
        worth = {c: kept(c) / (1.0 if _covers(c, ranks) else _EXCHANGE) for c in candidates}
        best = max(worth, key=worth.__getitem__, default=ranks)
        if worth.get(best, 0.0) <= kept(ranks) * (1 + 1e-9):
            return ranks
        ranks = best


def _affordable(shape: Sequence[int], ranks: tuple[int, ...], budget: float) -> Iterator[tuple[int, ...]]:
    """These ranks or, if they exceed the budget, those with one mode lowered until they do not."""
    for mode in range(len(ranks)):
        candidate = ranks
        while size(shape, candidate) > budget and candidate[mode] > 1:
            candidate = (*ranks[:mode], candidate[mode] - 1, *ranks[mode + 1 :])
        if size(shape, candidate) <= budget and _useful(shape, candidate) == candidate:
            yield candidate


def _covers(ranks: Sequence[int], others: Sequence[int]) -> bool:
    return all(rank >= other for rank, other in zip(ranks, others, strict=True))


def _by_energy(shape: Sequence[int], share: float, spectra: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Smallest ranks whose truncated tails add up to at most 1 - share; the tails bound the lost energy."""
    ranks = []
    for n, values in zip(shape, spectra, strict=True):
        allowed, tail, rank = (1 - share) / len(shape) * sum(values), 0.0, n
        while rank > 1 and tail + values[rank - 1] <= allowed:
            rank -= 1
            tail += values[rank]
        ranks.append(rank)
    return _useful(shape, tuple(ranks))


def _useful(shape: Sequence[int], ranks: tuple[int, ...]) -> tuple[int, ...]:
    """A truncated mode cannot use more directions than the product of the others; one that is not has no factor."""
    result = list(ranks)
    for mode, n in enumerate(shape):
        if result[mode] < n:
            result[mode] = min(result[mode], math.prod(result) // result[mode])
    return tuple(result)
