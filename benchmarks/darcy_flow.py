"""Darcy flow through a medium of two permeabilities: -div(a grad u) = 1 in the unit square, u = 0 around it.

The medium is that of Z. Li et al., *Fourier Neural Operator for Parametric Partial Differential Equations* (ICLR
2021): 12 where a Gaussian field of covariance (-Laplace + 9)^-2 with Neumann conditions is positive, 3 elsewhere.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, sparse
from scipy.sparse.linalg import splu
from torch import Tensor

PERMEABILITIES = (3.0, 12.0)
_WAVES = 32  # along each axis; the same fields at every resolution from there on


def samples(count: int, cells: int, seed: int) -> tuple[Tensor, Tensor]:
    """Permeabilities and pressures, (count, cells, cells) each, at cell centres and solved on cells half the size."""
    fine = permeability(count, 2 * cells, seed)
    solved = np.stack([pressure(medium) for medium in fine])
    return _coarse(fine), _coarse(solved)


def permeability(count: int, cells: int, seed: int) -> NDArray[np.float64]:
    """Media (count, cells, cells) of the given resolution, at least 32; more of them begin with the same ones."""
    wave = math.pi * np.arange(_WAVES)
    deviation = 1 / (wave[:, None] ** 2 + wave**2 + 9)
    coefficients = np.zeros((count, cells, cells))
    coefficients[:, :_WAVES, :_WAVES] = np.random.default_rng(seed).standard_normal((count, _WAVES, _WAVES)) * deviation
    field = fft.idctn(coefficients, axes=(1, 2), norm="ortho")
    return np.where(field > 0, PERMEABILITIES[1], PERMEABILITIES[0])


def pressure(medium: NDArray[np.float64]) -> NDArray[np.float64]:
    """Finite volumes with two-point fluxes and harmonic means across faces, (n, n) to (n, n)."""
    n = len(medium)
    number = np.arange(n * n).reshape(n, n)
    rows, columns, conductances = [], [], []
    for first, second in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        a, b = medium[first], medium[second]
        rows.append(number[first].ravel())
        columns.append(number[second].ravel())
        conductances.append((2 * a * b / (a + b)).ravel())
    row, column, conductance = map(np.concatenate, (rows, columns, conductances))
    between = sparse.coo_array((conductance, (row, column)), shape=(n * n, n * n))
    outer = np.zeros((n, n))
    for side in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        outer[side] += 2 * medium[side]  # half a cell away from the boundary
    coupling = between + between.T
    matrix = sparse.diags_array(coupling.sum(axis=1) + outer.ravel()) - coupling
    solver = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    return solver.solve(np.full(n * n, 1 / n**2)).reshape(n, n)


def _coarse(fine: NDArray[np.float64]) -> Tensor:
    """Means of two by two cells."""
    count, n, _ = fine.shape
    return torch.from_numpy(fine.reshape(count, n // 2, 2, n // 2, 2).mean((2, 4))).float()
