"""Names of coordinates, components and derivatives in formulas: the one file that spells out x, y and z."""

from __future__ import annotations

COORDINATES = ("x", "y", "z")
"""Of any dimension; see :func:`coordinates`."""

VECTOR_COMPONENTS = ("u", "v", "w")
"""Of a displacement or velocity in any dimension; see :func:`vector`."""

MEASURES = ("length", "area", "volume")
"""Name of the size of a domain by its dimension, from one on."""

LIFTING = "lifting"
"""The function that is 1 at the nodes of a boundary region and 0 at all others."""


def coordinates(dimension: int) -> tuple[str, ...]:
    """Names of the coordinates: x, y in the plane."""
    return COORDINATES[:dimension]


def normal(dimension: int) -> tuple[str, ...]:
    """Names of the components of the outward unit normal of a boundary: nx, ny in the plane."""
    return tuple(f"n{x}" for x in coordinates(dimension))


def vector(dimension: int) -> tuple[str, ...]:
    """Names of the components of the vector field of a physics: u, v in the plane."""
    return VECTOR_COMPONENTS[:dimension]


def derivatives(name: str, dimension: int) -> tuple[str, ...]:
    """Names of the first derivatives of the quantity ``name``: u_x, u_y in the plane."""
    return tuple(f"{name}_{x}" for x in coordinates(dimension))


def is_derivative(name: str) -> bool:
    """Whether ``name`` is that of a first derivative."""
    return name.endswith(tuple(f"_{x}" for x in COORDINATES))


def source(component: str) -> str:
    """Name of the source that a problem gives to ``component``."""
    return f"source_{component}"


def entry(tensor: str, row: int, column: int) -> str:
    """Name of an entry of a tensor by coordinates: stress_xy."""
    return f"{tensor}_{COORDINATES[row]}{COORDINATES[column]}"


def measure(dimension: int) -> str:
    """Name of the size of a domain: area in the plane."""
    return MEASURES[dimension - 1]
