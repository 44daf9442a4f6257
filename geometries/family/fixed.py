"""Parameters held fixed: a family in which they are no design variables but keep their value in the shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from shapewright.geometries.family.family import Family
from shapewright.geometries.family.parts import LARGEST, FamilyError
from shapewright.geometries.mesh.constants import constant


def fix_parameters(family: Family, values: Mapping[str, float]) -> Family:
    """The family of the other parameters, in their order, with those in ``values`` at their value; it may be empty.

    Raises:
        FamilyError: a name that is no parameter, or none is left; or the shapes with these values are no family.
    """
    names = [parameter.name for parameter in family.parameters]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise FamilyError(f"'{unknown[0]}' is no parameter; they are {', '.join(names)}")
    absurd = [name for name, value in values.items() if not abs(value) <= LARGEST]
    if absurd:
        raise FamilyError(f"'{absurd[0]}' is {values[absurd[0]]:g}; allowed are sizes up to {LARGEST:g}")
    if not values:
        return family
    free = [index for index, name in enumerate(names) if name not in values]
    if not free:
        raise FamilyError("all parameters are fixed; one at least must be free")
    base = torch.tensor([values.get(name, 0.0) for name in names], dtype=torch.float64)
    spread = torch.eye(len(names), dtype=torch.float64)[free]  # a product with it changes no digit

    def control_points_at(theta: Tensor) -> Tensor:
        return family.control_points(theta @ constant(spread, theta) + constant(base, theta))

    return replace(family, parameters=tuple(family.parameters[k] for k in free), control_points=control_points_at)
