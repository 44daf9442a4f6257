"""Finite-element solutions that several searches of one shape and physics share, such as those of a front.

A solution serves every search, whichever of the functionals is its objective and which are under a condition: a solve
that one search paid for is free for the next, its fields join the span of a reduced basis, and its values and gradients
the interpolation of the trust region.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shapewright.studies.optimize.correction import Array
from shapewright.studies.optimize.trust_region_search import SAME, SolutionStore
from shapewright.studies.problem.known_solutions import KnownSolution
from shapewright.studies.problem.setup import Setup
from shapewright.surrogate.training.dataset import Dataset, read_dataset

NEAREST = 24
"""Solutions of other searches that the interpolation takes up, at most: those nearest to the start."""


class SharedSolutions(SolutionStore):
    """The solutions of one search, and through ``common`` those of all others.

    Args:
        setup: study of this search; its functionals are those of ``common``, in any order.
        common: store of all searches, whose files these are.
        start: (P,) design from which the search begins.
    """

    def __init__(self, setup: Setup, common: SolutionStore, start: Array) -> None:
        super().__init__(setup, common.folder, common.tangents)
        self.common, self._near = common, start
        names = [functional.name for functional in common.setup.problem.functionals]
        self._order = torch.tensor([names.index(functional.name) for functional in setup.problem.functionals])
        self._before = common.known()

    def __call__(self, theta: Array) -> Dataset | None:
        """The solution at a design (P,), with the functionals in the order of this search."""
        before = Counter(self.common.solves)
        found = super().__call__(theta)
        self.solves.update({kind: count - before[kind] for kind, count in self.common.solves.items()})
        if found is not None:
            self._near = theta
        return found

    def _solve(self, theta: Array, file: object) -> Dataset | None:
        found = next((known for known in self._before if self._apart(known.theta[0], theta) < 2 * SAME), None)
        if found is None:
            found = self.common(theta)
        return None if found is None else self._ordered(found)

    def known(self) -> list[Dataset]:
        """Solutions of all searches so far, those nearest to the last design of this one at the end."""
        return sorted(self.common.known(), key=lambda known: -self._apart(known.theta[0], self._near))

    def keep_spans(self) -> None:
        """See :class:`SolutionStore`."""
        self.common.keep_spans()

    def spans(self) -> list[KnownSolution]:
        """See :class:`SolutionStore`; of all searches, those nearest to the last design of this one at the end."""
        return sorted(self.common.spans(), key=lambda known: -self._apart(known.theta, self._near))

    def elsewhere(self, theta: Array) -> list[Dataset]:
        """Solutions of other searches nearest to a design (P,), without that at the design itself."""
        others = [known for known in self._before if self._apart(known.theta[0], theta) >= 2 * SAME]
        nearest = sorted(others, key=lambda known: self._apart(known.theta[0], theta))[:NEAREST]
        return [self._ordered(known) for known in nearest]

    def _ordered(self, found: Dataset) -> Dataset:
        return replace(found, values=found.values[:, self._order], gradients=found.gradients[:, self._order])

    def _apart(self, design: Tensor, theta: Array) -> float:
        """Largest distance of a parameter, in shares of its range."""
        lower, upper = self.setup.family.bounds.numpy().T
        return float(np.abs((design.numpy() - theta) / (upper - lower)).max())


def take_up(common: SolutionStore, files: Iterable[str]) -> None:
    """Have the store know solutions of its folder that earlier searches asked for, by the paths of their files."""
    there = {file.name for file in common.files}
    for name in dict.fromkeys(Path(file).name for file in files):
        found = None if name in there else read_dataset(common.folder / name)
        if found is not None and len(found) == 1:
            common(found.theta[0].numpy())
