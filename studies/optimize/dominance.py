"""Which designs of a front are dominated, and the hypervolume that the others cover, by moocore."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def dominated_by(objectives: Array) -> list[int | None]:
    """For each of (n, 2) designs, objectives to be minimized, another one that is better or as good in both; or None.

    Of equal designs the first one counts as not dominated.
    """
    import moocore  # half a second, which only fronts need

    best = moocore.is_nondominated(objectives)
    return [None if ok else _better(objectives, best, index) for index, ok in enumerate(best.tolist())]


def _better(objectives: Array, best: NDArray[np.bool_], index: int) -> int:
    better = best & (objectives <= objectives[index]).all(axis=1)
    return int(np.flatnonzero(better)[0])


def hypervolume(objectives: Array, reference: Array) -> float:
    """Area that (n, 2) designs, objectives to be minimized, dominate up to a reference (2,).

    E. Zitzler, L. Thiele, IEEE Trans. Evol. Comput. 3 (1999) 257.
    """
    import moocore

    return float(moocore.hypervolume(objectives, ref=reference))
