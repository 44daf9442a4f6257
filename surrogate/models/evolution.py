"""From initial data on the periodic unit interval to u(x, t), t in [0, 1]: u = u0(x) + t s N(x, t), N an mGNO.

The operator is given u0 as the values on two point clouds, one on the line t = 0 and one in the space-time domain, and
no point of the circle is special to it. The initial condition holds exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shapewright.geometries.design.point_cloud import INTERIOR, PointCloud
from shapewright.surrogate.mgno.derivatives import field_derivatives
from shapewright.surrogate.mgno.latent_grid import grid_around
from shapewright.surrogate.mgno.operator import MollifiedGraphNeuralOperator, OperatorConfig
from shapewright.surrogate.models.grid_derivatives import (
    SpaceTimeDerivatives,
    central_differences,
    fourier_derivatives,
)
from shapewright.surrogate.models.periodic_functions import PeriodicFunctions

DERIVATIVES = ("exact", "differences", "fourier")


class EvolutionOperator(nn.Module):
    """u at any (x, t) from initial data.

    Args:
        config: sizes of the mGNO.
        grid: nodes of its latent grid along x and t.
        radius: of a neighbourhood, in spacings of the latent grid.
        scale: s, the size of the initial data.
        sensors: points along x, and along t, at which initial data are read.

    Raises:
        ValueError: the latent grid is too small for the radius or for the modes.
    """

    def __init__(
        self,
        config: OperatorConfig,
        grid: tuple[int, int],
        radius: int,
        scale: float,
        sensors: tuple[int, int] = (64, 8),
    ) -> None:
        super().__init__()
        latent = grid_around((0.0, 0.0), (1.0, 1.0), grid, radius, periodic=(True, False))
        self.operator = MollifiedGraphNeuralOperator(
            latent, config, input_functions=1, tags=1, outputs=1, boundary_functions=1
        )
        nn.init.zeros_(self.operator.projection.weight)  # u = u0 at first: no ripples for the residual to magnify
        nn.init.zeros_(self.operator.projection.bias)
        self.scale, self.sensors = scale, sensors

    def encode(self, initial: PeriodicFunctions) -> Tensor:
        """(B, *grid, width) latent fields of B initial data."""
        along, up = self.sensors
        like = self.operator.projection.weight
        x = torch.arange(along).to(like) / along
        given = initial.values(x) / self.scale
        t = (torch.arange(up).to(like) + 0.5) / up
        domain = _cloud(_product(x, t), 1 / (along * up), len(initial), INTERIOR)
        line = _cloud(_product(x, t[:1] * 0), 1 / along, len(initial), 0)
        inside = given[:, :, None].expand(-1, -1, up).reshape(-1, 1)
        return self.operator.encode(domain, line, inside, given.reshape(-1, 1))

    def fields(self, latent: Tensor, initial: PeriodicFunctions, x: Tensor, t: Tensor) -> Tensor:
        """(B, X, T) u at the grid of x (X,) and t (T,), x anywhere on the line."""
        queries, owner = _queries(x, t, len(initial))
        change = self.operator.decode(latent, queries, owner).view(len(initial), len(x), len(t))
        return initial.values(x)[..., None] + t * self.scale * change

    def exact_derivatives(
        self, latent: Tensor, initial: PeriodicFunctions, x: Tensor, t: Tensor
    ) -> SpaceTimeDerivatives:
        """u and its derivatives at the grid of x (X,) and t (T,), in one pass of forward mode."""
        queries, owner = _queries(x, t, len(initial))
        found = field_derivatives(self.operator, latent, queries, owner, order=2, second="diagonal")
        assert found.diagonals is not None  # asked for
        shape = (len(initial), len(x), len(t))
        change, by_x, by_t, by_xx = (
            self.scale * part.reshape(shape)
            for part in (
                found.values[:, 0],
                found.gradients[:, 0, 0],
                found.gradients[:, 0, 1],
                found.diagonals[:, 0, 0],
            )
        )
        start, slope, bend = (part[..., None] for part in initial.derivatives(x))
        return SpaceTimeDerivatives(
            value=start + t * change, t=change + t * by_t, x=slope + t * by_x, xx=bend + t * by_xx
        )

    def derivatives(
        self, kind: str, latent: Tensor, initial: PeriodicFunctions, x: Tensor, t: Tensor
    ) -> SpaceTimeDerivatives:
        """u and its derivatives on a regular grid, in one of three ways.

        Args:
            kind: "exact"; "differences", of second order; or "fourier" in x and differences in t.
            latent: from :meth:`encode`.
            initial: the initial data.
            x: (X,) points i / X + any shift.
            t: (T,) equidistant times.

        Raises:
            ValueError: another kind.
        """
        if kind not in DERIVATIVES:
            raise ValueError(f"derivatives are '{kind}'; allowed are {', '.join(DERIVATIVES)}")
        if kind == "exact":
            return self.exact_derivatives(latent, initial, x, t)
        differentiate = central_differences if kind == "differences" else fourier_derivatives
        return differentiate(self.fields(latent, initial, x, t), float(t[-1] - t[0]) / (len(t) - 1))


def _product(x: Tensor, t: Tensor) -> Tensor:
    """(X T, 2) points of a grid."""
    return torch.cartesian_prod(x, t)


def _queries(x: Tensor, t: Tensor, count: int) -> tuple[Tensor, Tensor]:
    points = _product(x, t)
    return points.repeat(count, 1), torch.arange(count, device=x.device).repeat_interleave(len(points))


def _cloud(points: Tensor, weight: float, count: int, tag: int) -> PointCloud:
    """The same points for each of ``count`` instances; those with a tag lie on the line t = 0."""
    total = count * len(points)
    normals = points.new_zeros(total, 2)
    if tag != INTERIOR:
        normals[:, 1] = -1
    return PointCloud(
        points=points.repeat(count, 1),
        weights=points.new_full((total,), weight),
        normals=normals,
        tags=torch.full((total,), tag, device=points.device),
        offsets=torch.arange(count + 1, device=points.device) * len(points),
        tag_names=("initial",),
    )
