"""Differentiable stand-ins for the largest value of a quantity, with bounds of what they miss.

A maximum is not differentiable where it moves from one point to another; a p-norm and the Kreisselmeier-Steinhauser
function are, and are functions of one integral. G. Kreisselmeier, R. Steinhauser, IFAC Proc. 12 (1979) 113; the
bounds follow from the integral over the neighbourhood of the maximum in which a Lipschitz quantity stays near it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from shapewright.geometries.fields.problem import Function, Functional


def p_norm(
    name: str,
    density: Function,
    unit: str,
    description: str,
    *,
    exponent: int,
    on: str | None = None,
    along_boundary: bool = False,
    scale: float = 1.0,
) -> Functional:
    """(int |s|^p)^(1/p), for even ``exponent`` p: a smooth maximum of |s|.

    Args:
        name, unit, description: of the functional; the unit is that of s times the region's measure^(1/p).
        density: s, a function of ``ops`` and the quantities.
        exponent: p, even.
        on: boundary region; None for the domain.
        along_boundary: whether it needs a boundary region that a study names.
        scale: a typical size of s, so that s^p neither over- nor underflows.

    Raises:
        ValueError: an exponent that is odd or below 2.
    """
    if exponent < 2 or exponent % 2:
        raise ValueError(f"{name}: exponent of the p-norm is {exponent}; allowed is an even number of 2 or more")

    def power(ops: Any, q: Mapping[str, Any]) -> Any:
        return (density(ops, q) / scale) ** exponent

    def root(ops: Any, integral: Any) -> Any:
        return scale * integral ** (1 / exponent)

    def bounds(value: float, measure: float, slope: float | None) -> tuple[float, float | None]:
        return p_norm_bounds(value, exponent, measure, slope)

    def magnitude(ops: Any, q: Mapping[str, Any]) -> Any:
        return ops.abs(density(ops, q))  # which alone an even power sees

    region_as: Literal["on"] | None = "on" if along_boundary else None
    return Functional(
        name, power, unit, description, on, root, maximum_of=magnitude, bounds=bounds, region_as=region_as
    )


def kreisselmeier_steinhauser(
    name: str,
    density: Function,
    unit: str,
    description: str,
    *,
    sharpness: float,
    on: str | None = None,
    along_boundary: bool = False,
    scale: float = 1.0,
) -> Functional:
    """scale / rho log int exp(rho s / scale), for ``sharpness`` rho; other arguments as for :func:`p_norm`.

    Take as ``scale`` a typical size of s: the exponential overflows at rho s / scale = 709.
    """

    def exponential(ops: Any, q: Mapping[str, Any]) -> Any:
        return ops.exp(sharpness / scale * density(ops, q))

    def logarithm(ops: Any, integral: Any) -> Any:
        return scale / sharpness * ops.log(integral)

    def bounds(value: float, measure: float, slope: float | None) -> tuple[float, float | None]:
        steepness = None if slope is None else slope / scale
        least, largest = kreisselmeier_steinhauser_bounds(value / scale, sharpness, measure, steepness)
        return scale * least, None if largest is None else scale * largest

    region_as: Literal["on"] | None = "on" if along_boundary else None
    return Functional(
        name, exponential, unit, description, on, logarithm, maximum_of=density, bounds=bounds, region_as=region_as
    )


def p_norm_bounds(
    value: float, exponent: int, length: float, slope: float | None
) -> tuple[float, float | None]:
    """Least and largest max |s| on a closed curve that a p-norm ``value`` allows.

    From value^p <= M^p length, and from s >= M - slope t at arc length t on both sides of the maximum M:
    value^p >= 2 M^(p + 1) (1 - (1 - h slope/M)^(p + 1)) / (slope (p + 1)), h = min(length/2, M/slope).

    Args:
        value: of the p-norm.
        exponent: p.
        length: of the curve; the first bound holds in a domain too, with its area.
        slope: Lipschitz constant of |s| along it; None where none is known, and then no largest.
    """
    least = value / length ** (1 / exponent)
    if slope is None:
        return least, None
    if slope == 0:
        return least, least

    def implied(maximum: float) -> float:
        """Logarithm of the least p-norm^p of a curve with this maximum."""
        reach = length / 2 * slope / maximum
        if reach < 1e-12:  # as good as constant
            return exponent * math.log(maximum) + math.log(length)
        tail = -math.expm1((exponent + 1) * math.log1p(-reach)) if reach < 1 else 1.0
        return exponent * math.log(maximum) + math.log(length * tail / (reach * (exponent + 1)))

    low, high = least, 2 * least
    while implied(high) < exponent * math.log(value):
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if implied(middle) < exponent * math.log(value) else (low, middle)
    return least, high


def kreisselmeier_steinhauser_bounds(
    value: float, sharpness: float, length: float, slope: float | None
) -> tuple[float, float | None]:
    """Least and largest maximum of s on a closed curve that a ``value`` of the KS function (scale 1) allows.

    From int exp(rho s) <= length exp(rho M) and >= 2 exp(rho M) (1 - exp(-rho slope length/2)) / (rho slope); other
    arguments as for :func:`p_norm_bounds`.
    """
    least = value - math.log(length) / sharpness
    if slope is None:
        return least, None
    steepness = sharpness * slope
    bent = steepness * length > 1e-12  # else as good as constant
    width = -2 * math.expm1(-steepness * length / 2) / steepness if bent else length
    return least, value - math.log(width) / sharpness
