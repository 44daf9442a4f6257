"""Problems without a unique solution, and pins that hide what is wrong with one.

A pin fixes the level of what the equations leave open. It is one too many where they leave nothing open, and it carries
a load where the data do not balance: then one equation is not met, that at its corner, and the solution grows
without bound there as the mesh is refined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shapewright.geometries.fields import names
from shapewright.geometries.fields.problem import Pin, Problem
from shapewright.geometries.fields.sampled import sample_quantities
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints, cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.errors import SolveError
from shapewright.solvers.fem.null_modes import NullMode
from shapewright.solvers.fem.patch_load import patch_density

Array = NDArray[np.float64]
Components = Mapping[str, Array]

IMBALANCE = 1e-3
"""Share of all that is given, by size, which may fail to balance: boundaries of curved cells balance to about 1e-5."""

BOUNDARY_POINTS = 6
"""Quadrature points of a boundary facet."""

LEAKAGE = 1e-3
"""Share of the speed at the boundary that may pass through it: curved cells meet a tangential one at an angle."""


def check_regular(problem: Problem, open_modes: list[NullMode], unpinned: list[NullMode]) -> None:
    """Refuse what is left open, and pins beyond what they are needed for.

    Args:
        problem: with the pins.
        open_modes: null modes of the constrained problem.
        unpinned: those without its pins.

    Raises:
        SolveError: names the mode and the cure.
    """
    if open_modes:
        what = "; ".join(f"it determines {mode.text}: {mode.cure}" for mode in open_modes)
        raise SolveError(f"the problem is singular, {what}")
    for field in problem.physics.fields:
        pins = [pin for pin in problem.pins if pin.component in field.components]
        needed = [mode for mode in unpinned if mode.field == field]
        if len(pins) > len(needed):
            names = ", ".join(f"'{pin.component}' on '{pin.tag}'" for pin in pins)
            enough = f"{len(needed)} would do" if needed else "without it the equations determine it already"
            raise SolveError(
                f"{len(pins)} of the pins fix the {field.name} ({names}), {enough}. A pin where nothing is open acts as"
                " a point load, so that the solution grows without bound under refinement: remove it"
            )


@dataclass(frozen=True)
class _State:
    """A solution: problem, mesh, positions of its nodes (N, 2), components (N,) each and parameters."""

    problem: Problem
    mesh: Mesh
    nodes: Array
    components: Components
    parameters: Mapping[str, float]

    def inside(self) -> tuple[CellPoints, Mapping[str, Any]]:
        """Quadrature points of the domain with the quantities there."""
        points = cell_points(self.mesh, torch.from_numpy(self.nodes))
        return points, sample_quantities(self.problem, points, self.components, self.parameters)

    def on(self, tag: str) -> tuple[FacetPoints, Mapping[str, Any]]:
        """Quadrature points of a boundary region with the quantities there."""
        points = facet_points(self.mesh, torch.from_numpy(self.nodes), tag, BOUNDARY_POINTS)
        return points, sample_quantities(self.problem, points, self.components, self.parameters)


def check_balance(
    problem: Problem,
    modes: list[NullMode],
    mesh: Mesh,
    nodes: Array,
    components: Components,
    parameters: Mapping[str, float],
) -> None:
    """Refuse data that do not balance, so that a pin carries the difference.

    Args:
        problem: with pins.
        modes: its null modes without them.
        mesh, nodes: where it was solved.
        components: (N,) nodal values of the solution.
        parameters: it was solved with.

    Raises:
        SolveError: names both sides with their numbers.
    """
    state = _State(problem, mesh, nodes, components, parameters)
    for mode in modes:
        through = [c for c in mode.field.components if c in problem.physics.through]
        net, size, text = _flow(state, through[0]) if through else _loads(state, mode)
        if not abs(net) <= size:
            names = " and ".join(f"that of '{p.component}' on '{p.tag}'" for p in _pins(problem, mode))
            raise SolveError(
                f"the data do not balance, and a pin hides it ({names}): {text}. Without the pin the problem determines"
                f" {mode.text}, and has a solution only if these balance"
            )


def _pins(problem: Problem, mode: NullMode) -> list[Pin]:
    return [pin for pin in problem.pins if pin.component in mode.field.components]


def _flow(state: _State, component: str) -> tuple[float, float, str]:
    """What enters less what leaves, what of it is tolerated, and both in words, by the given boundary values."""
    problem, enters, leaves, speed = state.problem, 0.0, 0.0, 0.0
    for tag in sorted({*state.mesh.tag_names} - {*problem.slip}):  # nothing passes where it slips
        points, q = state.on(tag)
        for condition in problem.dirichlet:
            if condition.tag == tag:
                q = {**q, condition.component: condition.value(torch, q)}
        density = problem.physics.through[component](torch, q) * points.weights
        enters, leaves = enters - float(density.clamp(max=0).sum()), leaves + float(density.clamp(min=0).sum())
        speed += sum(_total(abs(torch.as_tensor(q[d.component])), points) for d in problem.dirichlet if d.tag == tag)
    inside, inner = state.inside()
    added = _total(inner[names.source(component)], inside)
    text = f"inflow {enters:.6g} against outflow {leaves:.6g} through the boundary"
    text += f", and a source of '{component}' of {added:.6g} in all" if added else ""
    return leaves - enters + added, IMBALANCE * (enters + leaves + abs(added)) + LEAKAGE * speed, text


def _loads(state: _State, mode: NullMode) -> tuple[float, float, str]:
    """Work of sources and boundary fluxes along a null mode, what of it is tolerated, and both in words."""
    problem, (inside, inner) = state.problem, state.inside()
    produced = problem.physics.source(torch, inner)
    sources = {c: produced.get(c, 0.0) + inner[names.source(c)] for c in mode.field.components}
    inner_work, inner_size = _work(mode, sources, inside)
    outer_work = outer_size = 0.0
    for natural in problem.natural:
        if natural.component in mode.field.components:
            points, q = state.on(natural.tag)
            work, size = _work(mode, {natural.component: natural.value(torch, q)}, points)
            outer_work, outer_size = outer_work + work, outer_size + size
    for patch in problem.patches:
        points, _ = state.on(patch.tag)
        bump = patch_density(patch, state.mesh, state.nodes, points)
        bump = bump * (1.0 if patch.factor is None else state.parameters[patch.factor])
        totals = {c: total * bump for c, total in patch.totals.items() if c in mode.field.components}
        work, size = _work(mode, totals, points)
        outer_work, outer_size = outer_work + work, outer_size + size
    kind = "moment" if mode.turn else "total"
    text = f"the {kind} of the source is {inner_work:.6g}, that of the boundary flux {outer_work:.6g}"
    return inner_work + outer_work, IMBALANCE * (inner_size + outer_size), text


def _work(mode: NullMode, densities: Mapping[str, Any], points: CellPoints | FacetPoints) -> tuple[float, float]:
    """The integral of densities along a mode, and that of its size."""
    positions = points.points.numpy()
    moved = {c: torch.from_numpy(mode.component(c, positions)) for c in densities}
    work = sum(_total(torch.as_tensor(d) * moved[c], points) for c, d in densities.items())
    size = sum(_total(abs(torch.as_tensor(d) * moved[c]), points) for c, d in densities.items())
    return work, size


def _total(density: Tensor | float, points: CellPoints | FacetPoints) -> float:
    return float((torch.as_tensor(density) * points.weights).sum())
