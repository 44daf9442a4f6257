"""Length units as OpenCASCADE and gmsh know them, and the size at which CAD programs work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MILLIMETRES = {"m": 1e3, "cm": 10.0, "mm": 1.0}
"""Length units of a study in millimetres, OpenCASCADE's own unit."""
READER_UNITS = {"UM": 1e-3, "MM": 1.0, "CM": 10.0, "M": 1e3, "KM": 1e6}
"""Units into which gmsh reads STEP, by OpenCASCADE's names, in millimetres."""
CAD_SIZE = 64.0
"""Least extent of a part as OpenCASCADE and gmsh see it, whose tolerances of 1e-7 and 1e-8 are absolute."""
LARGEST_CAD_SIZE = 2.0**20
"""Largest extent of the domain around it: beyond, the tolerances come down to rounding."""


def millimetres(unit: str) -> float:
    """A length unit in millimetres; ValueError says which there are."""
    if unit not in MILLIMETRES:
        raise ValueError(f"length unit '{unit}'; allowed are {', '.join(MILLIMETRES)}")
    return MILLIMETRES[unit]


def cad_factor(part: NDArray[np.float64], domain: NDArray[np.float64]) -> float:
    """Power of two that takes points (n, 2) of a part in its ``domain`` (m, 2) to the size that CAD programs work at.

    The part's extent becomes 64 to 128, less where the domain would become larger than 2^20. A power of two changes
    no digit of a coordinate. 1 for points that are not finite or all the same, which other checks refuse.
    """
    wanted = CAD_SIZE / _extent(part), LARGEST_CAD_SIZE / _extent(domain)
    if not all(np.isfinite(wanted)):
        return 1.0
    return float(2.0 ** min(np.ceil(np.log2(wanted[0])), np.floor(np.log2(wanted[1]))))


def _extent(points: NDArray[np.float64]) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.ptp(points, axis=0).max()) or np.nan


def reader_unit(unit: str, extent: float) -> str:
    """OpenCASCADE's name of the unit in which to read a part of ``extent`` study ``unit``s with absolute tolerances.

    The study's own where its extent in it is moderate, otherwise that of :data:`READER_UNITS` in which it is.
    """
    size = extent * millimetres(unit)
    own = size / MILLIMETRES[unit]
    if 0.1 <= own <= 1e4:
        return unit.upper()
    return min(READER_UNITS, key=lambda name: abs(np.log10(size / READER_UNITS[name] / CAD_SIZE)))
