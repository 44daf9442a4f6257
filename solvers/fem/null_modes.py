"""Motions that a discrete problem does not resist: constants of a component and rigid rotations of a vector field.

A candidate z with the constrained dofs set to zero is a null mode where the assembled operator A maps it to
rounding: |A z| is compared with | |A| |z| |, both as 2-norms over all equations of a field. Row by row that comparison
fails: where the exact integrals of a row vanish (those of the pressure around a vertex of a straight mesh), its
entries are rounding themselves. Fields are apart because their equations have different units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from shapewright.geometries.fields.problem import Field
from shapewright.geometries.mesh.integration import facet_points
from shapewright.solvers.fem.discretization import Discretization

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ROUNDING = {2: 1e-14, 1: 1e-10}
"""Of |A z| relative to | |A| |z| |, by the degree of the field. Measured on 18 to 20,000 cells: null modes of degree 2
have 5e-17 to 2e-16, and the weakest support that must be solved, springs of 5e-8 of the stiffness around plate_hole's
finest mesh, 5e-11. A constant pressure has 1.4 eps |x|/h, as its equations vanish by the divergence theorem over cells
whose Jacobians are rounded each for itself: 1e-15 to 4e-14; one that an outlet determines has 1e-1."""

CORNER = 0.2
"""Angle in radians between facets from which it is taken for a corner of the wall, not for one of the cells."""

STRAIGHT = 1e-9
"""Component of a unit motion along the normal of straight walls that is rounding."""

DEPENDENT = 1e-10
"""Singular value of the candidates, relative to the largest, below which a combination of them vanishes."""


@dataclass(frozen=True)
class NullMode:
    """A motion z of one field: a shift of its components and, of a vector field, a turn about ``centre``.

    Attributes:
        field: which moves.
        shift: by component, of the point ``centre``.
        turn: angle in the plane (1,), vector of rotation in space (3,); empty for a pure shift.
        centre: (d,) point about which it turns.
    """

    field: Field
    shift: tuple[float, ...]
    turn: tuple[float, ...]
    centre: tuple[float, ...]

    def component(self, name: str, points: Array) -> Array:
        """(...) displacement of a component at points (..., d); zero for one of another field."""
        if name not in self.field.components:
            return np.zeros(points.shape[:-1])
        index = self.field.components.index(name)
        if not self.turn:
            return np.full(points.shape[:-1], self.shift[index])
        turned = rotations(points - np.array(self.centre)) @ np.array(self.turn)
        return self.shift[index] + turned[..., index]

    @property
    def text(self) -> str:
        """What the problem leaves open, for messages."""
        moved = [c for c, s in zip(self.field.components, self.shift, strict=True) if s]
        if self.turn:
            names = " and ".join(f"'{c}'" for c in self.field.components)
            axis = f" along ({', '.join(f'{part:.3g}' for part in self.turn)})" if len(self.turn) == 3 else ""
            return f"{names} only up to a rotation about ({', '.join(f'{c:.3g}' for c in self.centre)}){axis}"
        if len(moved) == 1:
            return f"'{moved[0]}' only up to a constant"
        along = ", ".join(f"{s:.3g}" for s in self.shift)
        return f"{' and '.join(f"'{c}'" for c in moved)} only up to a shift along ({along})"

    @property
    def cure(self) -> str:
        """What to add to the problem, for messages."""
        moved = [c for c, s in zip(self.field.components, self.shift, strict=True) if s]
        if self.turn:
            held = " or ".join(f"'{c}'" for c in self.field.components)
            return f"hold {held} on a region, or pin it on one, where that rotation moves it"
        held = " or ".join(f"'{c}'" for c in moved)
        free = ", or leave part of the boundary free" if self.field.degree == 1 else ""
        return f"give {held} a boundary value or a Robin condition, pin it{free}"


@dataclass(frozen=True)
class Walls:
    """Where one field slips, and the operator without what slip adds to it.

    Attributes:
        field: that slips.
        tags: boundary regions.
        matrix: (D, D) Jacobian without them.
    """

    field: Field
    tags: tuple[str, ...]
    matrix: csr_matrix


def rotations(arms: Array) -> Array:
    """(..., d, r) velocities of points ``arms`` (..., d) turning about the origin at unit rate: r = 1 or 3 axes."""
    if arms.shape[-1] == 2:
        return np.stack([-arms[..., 1], arms[..., 0]], -1)[..., None]
    return np.stack([np.cross(axis, arms) for axis in np.eye(3)], -1)


def null_modes(
    matrix: csr_matrix, discretization: Discretization, constrained: Index, walls: Walls | None = None
) -> list[NullMode]:
    """The candidates, and combinations of them within a field, that the operator maps to zero up to rounding.

    A body that slips along a circle may turn, though the cells' normals are not exactly those of the circle: of the
    field that slips, null modes are those of the operator without walls that do not go through them, to within the
    angle between cells and curve.

    Args:
        matrix: (D, D) Jacobian with all its rows and columns.
        discretization: at the present node positions.
        constrained: dofs whose rows and columns are taken out.
        walls: where a field slips.
    """
    free = np.ones(discretization.dofs, dtype=bool)
    free[constrained] = False
    modes: list[NullMode] = []
    for field in discretization.fields:
        slips = walls is not None and field == walls.field
        operator = walls.matrix if walls is not None and slips else matrix
        size = abs(operator)
        candidates, centre, radius = rigid_motions(discretization, field)
        candidates[~free] = 0.0
        null = _annihilated(operator, size, candidates, free, discretization, ROUNDING[field.degree])
        if walls is not None and slips and len(null):
            null = _along(walls, discretization, null, centre, radius)
        if len(null):
            modes += _modes(field, null, centre, radius)
    return modes


def rigid_motions(discretization: Discretization, field: Field) -> tuple[Array, Array, float]:
    """(D, m) unit shifts of the components and, if it can be any exactly, rotations; their centre and radius."""
    nodes = discretization.nodes()
    centre = nodes.mean(0)
    arms = nodes - centre
    radius = float(np.linalg.norm(arms, axis=-1).max())
    count = len(field.components)
    rotates = count == nodes.shape[1] and field.degree == 2
    turned = rotations(arms) / radius if rotates else np.zeros((len(nodes), count, 0))
    columns = np.zeros((discretization.dofs, count + turned.shape[-1]))
    for k, component in enumerate(field.components):
        dofs = discretization.component_dofs[component]
        columns[dofs, k] = 1.0
        columns[dofs[:, 0], count:] = turned[:, k]
    return columns, centre, radius


def _annihilated(
    matrix: csr_matrix,
    size: csr_matrix,
    candidates: Array,
    free: NDArray[np.bool_],
    discretization: Discretization,
    rounding: float,
) -> Array:
    """(k, m) coefficients of independent combinations of the candidates that the free rows map to zero."""
    _, spread, directions = np.linalg.svd(candidates, full_matrices=False)
    if spread[0] == 0:
        return np.zeros((0, candidates.shape[1]))
    kept = spread > DEPENDENT * spread[0]
    basis = directions[kept] / spread[kept, None]  # (r, m), whose combinations are orthonormal
    vectors = candidates @ basis.T
    images, sizes = matrix @ vectors, size @ abs(vectors)
    blocks = [np.zeros((len(basis), len(basis)))]  # as many rows as columns at least
    for field in discretization.fields:
        rows = free & discretization.has_components(field.components)
        scale = np.linalg.norm(sizes[rows])
        if scale > 0:
            blocks.append(images[rows] / scale)
    _, resisted, combinations = np.linalg.svd(np.concatenate(blocks), full_matrices=False)
    return combinations[resisted <= rounding] @ basis


def _along(
    walls: Walls, discretization: Discretization, null: Array, centre: Array, radius: float
) -> Array:
    """Combinations (j, 3) of null modes (k, 3) in the plane, shifts and a rotation, that move no wall along its normal.
    """
    nodes = discretization.nodes()
    across, moved = [], []
    for tag in walls.tags:
        quadrature = facet_points(discretization.tagged, torch.from_numpy(nodes), tag, 4)
        weight = quadrature.weights.sqrt().numpy().reshape(-1, 1)
        arms = (quadrature.points.numpy().reshape(-1, 2) - centre) / radius
        motion = np.stack([null[:, 0] - null[:, -1] * arms[:, 1:], null[:, 1] + null[:, -1] * arms[:, :1]], -1)
        normals = quadrature.normals.numpy().reshape(-1, 1, 2)
        across.append(weight * (motion * normals).sum(-1))  # (P, k)
        moved.append((weight[..., None] * motion).transpose(0, 2, 1).reshape(-1, len(null)))
    facets = np.concatenate([discretization.tagged.facets_on(tag) for tag in walls.tags])
    kinks = _kinks(nodes, facets)
    tolerance = max(STRAIGHT, 2 * float(np.sqrt((kinks**2).mean()))) if len(kinks) else STRAIGHT
    _, triangle = np.linalg.qr(np.concatenate(moved))
    _, size, combined = np.linalg.svd(np.linalg.solve(triangle.T, np.concatenate(across).T).T, full_matrices=False)
    return np.linalg.solve(triangle, combined[size <= tolerance].T).T @ null


def _kinks(nodes: Array, facets: Index) -> Array:
    """Angles between facets (K, 3) where one goes on from another, corners apart: the error of their directions."""
    start, end, middle = (nodes[facets[:, k]] for k in range(3))
    first, last = 4 * middle - 3 * start - end, 3 * end + start - 4 * middle
    begins = np.full((len(nodes), 2), np.nan)
    begins[facets[:, 0]] = first
    onward = begins[facets[:, 1]]
    cross = last[:, 0] * onward[:, 1] - last[:, 1] * onward[:, 0]
    angles = np.abs(np.arctan2(cross, (last * onward).sum(-1)))
    return angles[angles < CORNER]


def _modes(field: Field, null: Array, centre: Array, radius: float) -> list[NullMode]:
    """Pure shifts first, then what turns, from coefficients (k, m) of the candidates."""
    count = len(field.components)
    turns = null[:, count:]
    turning = np.zeros((0, null.shape[1]))
    if turns.size and np.abs(turns).max() > DEPENDENT * np.abs(null).max():
        rotation, size, _ = np.linalg.svd(turns)  # (k, k), whose first columns gather all that turns
        null = rotation.T @ null
        rank = int((size > DEPENDENT * np.abs(null).max()).sum())
        turning, null = null[:rank], null[rank:]
    shifts = null[:, :count]
    origin = tuple(map(float, centre))
    if len(shifts) == count:
        shifts = np.eye(count)
    modes = []
    for shift in shifts:
        unit = shift / shift[np.abs(shift).argmax()]
        unit[np.abs(unit) < 1e-8] = 0.0
        modes.append(NullMode(field, tuple(map(float, unit)), (), origin))
    return [*modes, *(_turn(field, mode, centre, radius) for mode in turning)]


def _turn(field: Field, mode: Array, centre: Array, radius: float) -> NullMode:
    """Rotation at unit rate about the point nearest to ``centre`` that it leaves in place, or moves along its axis."""
    count = len(field.components)
    size = mode[-1] if count == 2 else np.linalg.norm(mode[count:])
    shift, spin = mode[:count] * radius / size, mode[count:] / size
    # w x (x - c) + s vanishes across the axis at x = c + w x s; in the plane w is the unit normal
    about = centre + rotations(shift) @ spin
    shift = shift + rotations(about - centre) @ spin
    for part, scale in ((about, radius), (shift, radius), (spin, 1.0)):
        part[np.abs(part) < 1e-9 * scale] = 0.0
    return NullMode(field, tuple(shift.tolist()), tuple(spin.tolist()), tuple(about.tolist()))
