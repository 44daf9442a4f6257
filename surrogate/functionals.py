"""Integrals of predicted fields, by the same integrand as the finite-element solver evaluates.

An integrand is ``f(ops, q)``: ``q`` holds coordinates, field components, their first derivatives
(``u_x``), coefficients, and on boundaries the outward normal (``nx``, ``ny``); ``ops`` is torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from geometries.integration import CellPoints, FacetPoints, cell_points, facet_points
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


class _Quantities(Mapping[str, Any]):
    """What an integrand may ask for; derivatives and coefficients are evaluated only when it does."""

    def __init__(self, space: FieldSpace, place: CellPoints | FacetPoints, fields: Tensor) -> None:
        self._space, self._place, self._fields = space, place, fields
        self._known: dict[str, Any] = {"x": place.points[..., 0], "y": place.points[..., 1]}
        names = [*self._known, *space.components, *space.coefficients]
        names += [f"{component}_{axis}" for component in space.components for axis in "xy"]
        if isinstance(place, FacetPoints):
            self._known |= {"nx": place.normals[..., 0], "ny": place.normals[..., 1]}
            names += ["nx", "ny"]
        self._names = tuple(names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(f"there is no quantity '{name}' here; there are {', '.join(self._names)}")
        if name not in self._known:
            self._evaluate(name)
        return self._known[name]

    def _evaluate(self, name: str) -> None:
        space, place = self._space, self._place
        if name in space.coefficients:
            self._known[name] = space.coefficients[name](torch, self)
        elif name in space.components:
            self._known[name] = place.interpolate(self._fields[..., space.components.index(name)])
        else:
            component = name[:-2]
            gradient = place.gradient(self._fields[..., space.components.index(component)])
            self._known[f"{component}_x"], self._known[f"{component}_y"] = gradient.unbind(-1)


def integrate(functional: Functional, space: FieldSpace, mesh: TaggedMesh, nodes: Tensor, fields: Tensor) -> Tensor:
    """(B,) integrals for nodes (B, N, 2) and nodal fields (B, N, c).

    Raises:
        KeyError: the integrand asks for a quantity that there is not.
    """
    place = cell_points(mesh, nodes) if functional.on is None else facet_points(mesh, nodes, functional.on)
    density = functional.integrand(torch, _Quantities(space, place, fields))
    return (density * place.weights).flatten(1).sum(-1)


def integrate_all(
    functionals: Sequence[Functional], space: FieldSpace, mesh: TaggedMesh, nodes: Tensor, fields: Tensor
) -> Tensor:
    """(B, J) values of several functionals."""
    return torch.stack([integrate(functional, space, mesh, nodes, fields) for functional in functionals], -1)
