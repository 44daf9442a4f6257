"""How many directions of each mode a Tucker subspace keeps.

A subspace of ranks r holds prod(r) core entries and n r entries for every factor; a mode kept whole has no factor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

Rank = float | Sequence[int | float]
RULES = ("spectrum", "uniform", "energy")
_EXCHANGE = 1.02
"""Directions are exchanged between modes for this many times the energy: each truncated mode takes time."""


def check_rank(rank: Rank, rule: str) -> None:
    """Refuse a rank or a rule that means nothing.

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
    shape: Sequence[int], rank: Rank, rule: str, spectra: Sequence[Sequence[float]] | None = None
) -> tuple[int, ...]:
    """Ranks of every mode.

    Args:
        rank: one entry a mode (a count, or a share of the mode), whatever the rule; or one number, whose meaning
            the rule gives.
        rule: "uniform", the number is a share of the parameters and each mode keeps the same share of its size (as
            tensorly does, rounded down); "spectrum", the same budget, spent on the directions that carry
            the most energy; "energy", the number is the share of the squared norm to keep.
        spectra: squared singular values of every unfolding in descending order, for the rules that look at
            the tensor.

    Returns:
        the shape itself where a subspace would be no smaller than the tensor. At least one direction a mode, even
        if that is more than the budget.

    Raises:
        ValueError: as many entries as modes are needed.
    """
    if isinstance(rank, (list, tuple)):
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
    """Spend what is left: the last direction dropped frees more than was asked for, where a mode has few.

    A mode takes one direction more, or all, and another one pays for it if need be, as long as the product of the
    shares of energy that modes keep grows: by :data:`_EXCHANGE` at least where another pays.
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
    """These ranks, or where they are too many, with one mode lowered until they are not."""
    for mode in range(len(ranks)):
        candidate = ranks
        while size(shape, candidate) > budget and candidate[mode] > 1:
            candidate = (*ranks[:mode], candidate[mode] - 1, *ranks[mode + 1 :])
        if size(shape, candidate) <= budget and _useful(shape, candidate) == candidate:
            yield candidate


def _covers(ranks: Sequence[int], others: Sequence[int]) -> bool:
    return all(rank >= other for rank, other in zip(ranks, others, strict=True))


def _by_energy(shape: Sequence[int], share: float, spectra: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Smallest ranks whose discarded tails add up to at most 1 - share; the tails bound the lost energy."""
    ranks = []
    for n, values in zip(shape, spectra, strict=True):
        allowed, tail, rank = (1 - share) / len(shape) * sum(values), 0.0, n
        while rank > 1 and tail + values[rank - 1] <= allowed:
            rank -= 1
            tail += values[rank]
        ranks.append(rank)
    return _useful(shape, tuple(ranks))


def _useful(shape: Sequence[int], ranks: tuple[int, ...]) -> tuple[int, ...]:
    """A truncated mode cannot use more directions than the others have together; a whole one has no factor to save."""
    result = list(ranks)
    for mode, n in enumerate(shape):
        if result[mode] < n:
            result[mode] = min(result[mode], math.prod(result) // result[mode])
    return tuple(result)
