"""Solutions of a design on fresh meshes, each measurably finer than the one before."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from shapewright.geometries.cad.mesher import MeshError, mesh_family, mesh_step
from shapewright.geometries.design.shape_map import ShapeMap
from shapewright.geometries.mesh.integration import nodal_weights
from shapewright.geometries.mesh.mesh import Mesh
from shapewright.solvers.fem.load_cases import CaseSolution, solver_of
from shapewright.solvers.fem.solver import FemSolution
from shapewright.studies.certify.convergence import Level, Refined
from shapewright.studies.problem.setup import Setup

REFINEMENT = 1.5
"""Ratio of the measured cell sizes of two levels, at least, where half the size was asked for."""
LEAST_CELLS = 32
"""Cells of the coarsest mesh: on fewer, values say little of what finer meshes give."""
MOST_HALVINGS = 60
"""Of a size that gmsh does not heed because the part is smaller than a cell."""


class Mesher(Protocol):
    """Makes meshes of a design."""

    def __call__(self, size: float, coarsest: bool) -> Mesh:
        """A mesh of a cell size, length unit; ``coarsest`` says that it is for the first level."""
        ...


def step_mesher(setup: Setup, theta: Tensor, step: Path) -> Mesher:
    """Meshes of the STEP file of a design theta (P,), read back; the coarsest is written beside it as ``.msh``.

    Raises:
        MeshError: when called: gmsh fails, or the file does not hold the design.
    """
    control_points = setup.family.control_points(theta).numpy()
    unit = setup.study.model.geometry.length_unit

    def mesh(size: float, coarsest: bool) -> Mesh:
        save = step.with_suffix(".msh") if coarsest else None
        return mesh_step(step, setup.family, control_points, size, unit, save)

    return mesh


def family_mesher(setup: Setup, theta: Tensor) -> Mesher:
    """Meshes of a design theta (P,) by the curves of its family, without a file."""
    control_points = setup.family.control_points(theta).numpy()
    return lambda size, coarsest: mesh_family(setup.family, control_points, size)


def refine(setup: Setup, theta: Tensor, mesher: Mesher) -> Refined:
    """All functionals on fresh meshes of a design, each of half the cell size and measurably finer.

    Where a size is larger than the part, gmsh makes the same coarse mesh of it and of its half; it is then halved until
    the coarsest mesh has :data:`LEAST_CELLS`, and each further one cells smaller by :data:`REFINEMENT`.

    Raises:
        MeshError: gmsh fails, or makes no finer mesh however small the size.
    """
    size, largest = asked_size(setup), math.inf
    levels: dict[str, list[Level]] = {functional.name: [] for functional in setup.problem.functionals}
    for refinement in range(setup.study.model.validation.refinements):
        mesh, size, h = _finer(partial(mesher, coarsest=refinement == 0), size, largest)
        solution = solver_of(setup.problem_at(theta), _meshes(setup, theta, mesh, size)).solve()
        for name, value in solution.values.items():
            levels[name].append(Level(size, h, len(mesh.cells), solution.dofs, value))
        size, largest = size / 2, h / REFINEMENT
    return Refined(levels, solution)


def asked_size(setup: Setup) -> float:
    """Cell size of the coarsest mesh that the study asks for, length unit."""
    return setup.study.model.validation.mesh_size or setup.study.model.geometry.mesh_size


def _finer(mesher: Callable[[float], Mesh], size: float, largest: float) -> tuple[Mesh, float, float]:
    """A mesh of at least :data:`LEAST_CELLS` cells of mean size ``largest`` or less; the size asked for; the mean."""
    for _ in range(MOST_HALVINGS):
        mesh = mesher(size)
        h = math.sqrt(float(nodal_weights(mesh, torch.from_numpy(mesh.nodes)).sum()) / len(mesh.cells))
        if h <= largest and len(mesh.cells) >= LEAST_CELLS:
            return mesh, size, h
        size /= 2
    raise MeshError(f"gmsh makes no mesh with cells of {largest:g} or less, though asked for {size:g}")


def initial_solution(setup: Setup, size: float) -> FemSolution | CaseSolution:
    """Solution of the start design on a fresh mesh of a cell size."""
    mesh = family_mesher(setup, setup.initial)(size, False)
    meshes = _meshes(setup, setup.initial, mesh, size)
    return solver_of(setup.problem_at(setup.initial), meshes).solve()


def _meshes(setup: Setup, theta: Tensor, mesh: Mesh, size: float) -> dict[float, Mesh]:
    """Offset -> mesh of the design theta (P,): ``mesh`` of its own boundary, others by the curves moved outward."""
    meshes = {}
    for offset, own in setup.maps.maps.items():
        assert isinstance(own, ShapeMap)  # the study is planar
        meshes[offset] = mesh_family(setup.family, own.control_points(theta).numpy(), size) if offset else mesh
    return meshes
