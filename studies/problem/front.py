"""A front as single designs: each is a study of its own, one objective under a limit on the other.

The method of epsilon constraints (Y. Y. Haimes, L. S. Lasdon, D. A. Wismer, IEEE Trans. Syst. Man Cybern. 1 (1971)
296) finds every design of a front, convex or not, as the optimum of an ordinary study, which an ordinary certificate
can be of. Its limits are set so that the designs are spread evenly: where the normals to the line between the two ends,
at equal distances, meet the front, as in the method of normal boundary intersection (I. Das, J. E. Dennis, SIAM J.
Optim. 8 (1998) 631). That point is predicted from the design before and the front's slope there, which the multiplier
of its limit is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from shapewright.geometries.fields.problem import Functional
from shapewright.studies.schema.front import Front
from shapewright.studies.schema.loader import Study
from shapewright.studies.schema.study import Combined, Constraint, Integral, Objective, StudyModel, name_of

Array = NDArray[np.float64]
CONFLICT = 1e-6
"""Objectives that differ between the two ends by less than this share of their size do not contradict each other."""
LOOSE = 10.0
"""Tolerances by which the limit of an end lies beyond what the design has, so that it holds nothing."""


@dataclass(frozen=True)
class Limit:
    """One of the objectives under a limit.

    Attributes:
        of: 0 or 1, which of the two.
        value: in its own unit; the other objective is optimized.
    """

    of: int
    value: float


def front_of(study: Study[StudyModel]) -> tuple[tuple[Objective, Objective], Front]:
    """Both objectives of a study of a front, and its front."""
    objectives, front = study.model.objectives, study.model.front
    assert objectives is not None  # the schema has seen to it
    assert front is not None
    return (objectives[0], objectives[1]), front


def end_study(study: Study[StudyModel], wanted: int) -> Study[StudyModel]:
    """The study of one objective alone."""
    return _single(study, wanted, None, f"{study.model.name}-end{wanted}")


def limited_study(study: Study[StudyModel], limit: Limit, name: str) -> Study[StudyModel]:
    """The study of one objective under a limit on the other."""
    return _single(study, 1 - limit.of, limit, name)


def _single(study: Study[StudyModel], wanted: int, limit: Limit | None, name: str) -> Study[StudyModel]:
    objectives, front = front_of(study)
    constraints = [*study.model.constraints]
    text = f"{objectives[wanted].name} alone"
    if limit is not None:
        other = objectives[limit.of]
        kind = "at_most" if other.sign > 0 else "at_least"
        own = Constraint.model_validate({"quantity": other.given, kind: limit.value, "tolerance": front.tolerance})
        constraints = [c for c in constraints if (c.name, c.kind) != (own.name, own.kind)]  # a wider one says nothing
        constraints.append(own)
        text = f"{objectives[wanted].name} with {other.name} {kind.replace('_', ' ')} {limit.value:.6g}"
    constraints = list(_defined(constraints, objectives[wanted], objectives))
    whole = f"{study.model.description} On its front: {text}.".strip()
    scatter = study.model.scatter
    return study.updated(
        name=name,
        description=whole,
        objective=objectives[wanted],
        objectives=None,
        front=None,
        constraints=tuple(constraints),
        scatter=None if scatter is None else scatter.model_copy(update={"compare": False}),
    )


def _defined(
    constraints: list[Constraint], objective: Objective, objectives: tuple[Objective, Objective]
) -> Iterator[Constraint]:
    """Constraints, of which the first that names an integral of a missing objective defines it."""
    own = {o.functional_name: o.functional for o in objectives if isinstance(o.functional, Integral | Functional)}
    defined = {objective.functional_name}
    defined |= {name_of(c.functional) for c in constraints if not isinstance(c.functional, str)}
    for constraint in constraints:
        name = constraint.functional
        if isinstance(name, str) and name in own and name not in defined:
            defined.add(name)
            inner = constraint.quantity
            whole = inner.model_copy(update={inner.way: own[name]}) if isinstance(inner, Combined) else own[name]
            yield constraint.model_copy(update={"quantity": whole})
        else:
            yield constraint


@dataclass(frozen=True)
class Frame:
    """The two ends of a front, and coordinates in which both objectives run from 0 (their best) to 1.

    Attributes:
        best: (2,) each objective at its own end, in the sense of minimization.
        span: (2,) what each gets worse by at the other end.
    """

    best: Array
    span: Array

    @classmethod
    def of(cls, ends: Array) -> Frame:
        """By the (2, 2) objectives at both ends, in the sense of minimization; row i is the optimum of objective i."""
        best = np.diag(ends)
        return cls(best, np.array([ends[1, 0] - ends[0, 0], ends[0, 1] - ends[1, 1]]))

    @property
    def conflicting(self) -> bool:
        """Whether each end is better in its own objective."""
        return bool((self.span > CONFLICT * np.maximum(np.abs(self.best), np.abs(self.span))).all())

    def scaled(self, values: Array) -> Array:
        """(..., 2) coordinates."""
        return (values - self.best) / self.span

    def raw(self, scaled: Array) -> Array:
        """Objectives in the sense of minimization."""
        return self.best + self.span * scaled


def next_limit(at: Array, slope: float, along: float) -> tuple[int, float]:
    """Which objective to limit for the next design of a front, and to what, in coordinates of the frame.

    The front is predicted by the cubic polynomial of its sum of coordinates over their difference that continues the
    design before, with its slope, to the second end, where the front is taken to be level.

    Args:
        at: (2,) coordinates of the design before.
        slope: there, of the second objective by the first along the front, negative; minus infinity at the first end.
        along: first coordinate less the second, of the next design: from -1 at the first end to 1 at the second.
    """
    apart = at[0] - at[1]
    steep = -1.0 if math.isinf(slope) else (1.0 + slope) / (1.0 - slope)
    curve = CubicHermiteSpline([apart, 1.0], [at.sum(), 1.0], [steep, 1.0])
    total = float(curve(along))
    of = 1 if curve(along, 1) < 0 else 0  # the one that changes faster, on which the other depends smoothly
    return of, 0.5 * (total - along if of else total + along)
