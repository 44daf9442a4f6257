"""Integrals of predicted fields, by the same integrand as the finite-element solver evaluates.

An integrand is ``f(ops, q)``: ``q`` holds coordinates, field components, their first derivatives
(``u_x``), coefficients, and on boundaries the outward normal (``nx``, ``ny``); ``ops`` is torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from geometries.integration import cell_points, facet_points
from geometries.mesh import TaggedMesh

Function = Callable[[Any, Mapping[str, Any]], Any]


class Functional(Protocol):
    """What is integrated, and where: ``on`` is a boundary region, or None for the whole domain."""

    @property
    def name(self) -> str: ...
    @property
    def integrand(self) -> Function: ...
    @property
    def on(self) -> str | None: ...


@dataclass(frozen=True)
class FieldSpace:
    """Names of the field components, in the order of a surrogate's outputs, and the physics' coefficients."""

    components: tuple[str, ...]
    coefficients: Mapping[str, Function]


class _Quantities(dict[str, Any]):
    """Evaluates field derivatives and coefficients only where an integrand asks for them."""

    def __init__(self, base: Mapping[str, Tensor], lazy: Callable[[str], Any]) -> None:
        super().__init__(base)
        self._lazy = lazy

    def __missing__(self, name: str) -> Tensor:
        self[name] = self._lazy(name)
        return self[name]


def integrate(functional: Functional, space: FieldSpace, mesh: TaggedMesh, nodes: Tensor, fields: Tensor) -> Tensor:
    """(B,) integrals for nodes (B, N, 2) and nodal fields (B, N, c).

    Raises:
        KeyError: the integrand asks for a quantity that there is not.
    """
    if functional.on is None:
        place: Any = cell_points(mesh, nodes)
        base = {}
    else:
        place = facet_points(mesh, nodes, functional.on)
        base = {"nx": place.normals[..., 0], "ny": place.normals[..., 1]}
    base |= {"x": place.points[..., 0], "y": place.points[..., 1]}

    def lazy(name: str) -> Any:
        if name in space.components:
            return place.interpolate(fields[..., space.components.index(name)])
        component, _, axis = name.rpartition("_")
        if component in space.components and axis in ("x", "y") and functional.on is None:
            gradient = place.gradient(fields[..., space.components.index(component)])
            quantities[component + "_x"], quantities[component + "_y"] = gradient.unbind(-1)
            return quantities[name]
        if name in space.coefficients:
            return space.coefficients[name](torch, quantities)
        raise KeyError(f"functional '{functional.name}' asks for '{name}', which is not a quantity here")

    quantities = _Quantities(base, lazy)
    density = functional.integrand(torch, quantities)
    return (density * place.weights).flatten(1).sum(-1)


def integrate_all(
    functionals: Sequence[Functional], space: FieldSpace, mesh: TaggedMesh, nodes: Tensor, fields: Tensor
) -> Tensor:
    """(B, J) values of several functionals."""
    return torch.stack([integrate(functional, space, mesh, nodes, fields) for functional in functionals], -1)
