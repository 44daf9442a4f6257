"""What a study of a solid is made of, and tests of its derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from shapewright.geometries.cad.solid_checks import volume_and_centroid
from shapewright.studies.problem.models import FemModel
from shapewright.studies.problem.solid_setup import SolidSetup

CORNERS = 16
"""Random corners of the box of parameters at which the deformation is looked at."""
STEPS = 0.02 * 0.5 ** np.arange(3)
"""Of a Taylor test, in shares of the bounds."""
ORDER = 1.8
"""Least order of a remainder that passes."""


@dataclass(frozen=True)
class SolidTaylor:
    """A derivative against differences of solutions: both slopes and the order of the last remainders."""

    name: str
    difference: float
    slope: float
    order: float

    @property
    def passed(self) -> bool:
        """Whether the remainder is of second order and the slopes agree."""
        return self.order >= ORDER and abs(self.difference - self.slope) <= 1e-2 * max(abs(self.slope), 1e-300)


@dataclass(frozen=True)
class SolidCheck:
    """What :func:`check_solid` found: lines about the study, and the tests."""

    lines: tuple[str, ...]
    tests: tuple[SolidTaylor, ...]


def check_solid(setup: SolidSetup, seed: int = 0) -> SolidCheck:
    """Look at a study, and test the derivatives of its functionals along a random direction."""
    unit, mesh = setup.study.model.geometry.length_unit, setup.shape_map.mesh
    volume, centroid = volume_and_centroid(setup.cad)
    least, share = _least_jacobian(setup, seed)
    regions = ", ".join(f"{name} (faces {', '.join(map(str, faces))})" for name, faces in setup.regions.items())
    lattice = setup.family.form.lattice
    lines = (
        f"part: volume {volume:.6g} {unit}^3, centroid ({', '.join(f'{c:.4g}' for c in centroid)}), size"
        f" {setup.size:.4g} {unit}",
        f"regions: {regions or 'none'}; kept: {', '.join(setup.study.model.geometry.keep) or 'none'}",
        f"lattice: {' x '.join(map(str, lattice.points))} from {_point(lattice.low)} to {_point(lattice.high)}, motions"
        f" up to {lattice.limit:.4g} {unit}; {len(setup.family.parameters)} parameters",
        f"mesh: {len(mesh.cells)} cells, {len(mesh.nodes)} nodes",
        f"deformation: least det grad F {least:.3g} over {CORNERS} random corners of the box; {share:.0%} of them fold",
    )
    return SolidCheck(lines, tuple(_taylor(setup, seed)))


def _point(corner: tuple[float, float, float]) -> str:
    return f"({', '.join(f'{x:.4g}' for x in corner)})"


def _least_jacobian(setup: SolidSetup, seed: int) -> tuple[float, float]:
    """Least smooth minimum of det grad F over random corners, and the share of them at which it is not positive."""
    generator = torch.Generator().manual_seed(seed)
    bounds = setup.family.bounds
    sides = torch.randint(0, 2, (CORNERS, len(bounds)), generator=generator)
    corners = torch.where(sides == 1, bounds[:, 1], bounds[:, 0])
    least = torch.stack([setup.quantity("jacobian", corner) for corner in corners])
    return float(least.min()), float((least <= 0).double().mean())


def _taylor(setup: SolidSetup, seed: int) -> list[SolidTaylor]:
    generator = torch.Generator().manual_seed(seed)
    bounds, model = setup.family.bounds, FemModel(setup)  # type: ignore[arg-type]
    direction = torch.randn(len(bounds), generator=generator, dtype=torch.float64)
    direction = direction / direction.norm() * (bounds[:, 1] - bounds[:, 0])
    values, gradients, _ = model.functionals(setup.initial)
    moved = [
        [model.functionals(setup.initial + sign * h * direction)[0] for sign in (1.0, -1.0)] for h in STEPS.tolist()
    ]
    found = []
    for index, functional in enumerate(setup.problem.functionals):
        slope = float(gradients[index] @ direction.numpy())
        central = float((moved[-1][0][index] - moved[-1][1][index]) / (2 * STEPS[-1]))
        remainders = [abs(float(up[index] - values[index]) - h * slope)
                      for (up, _), h in zip(moved, STEPS.tolist(), strict=True)]  # fmt: skip
        found.append(SolidTaylor(functional.name, central, slope, float(np.log2(remainders[-2] / remainders[-1]))))
    return found
