"""Functionals of predicted fields, by the same integrand as the finite-element solver evaluates.

An integrand is ``f(ops, q)``: ``q`` holds coordinates, field components, their first derivatives (``u_x``),
coefficients, sources (``source_u``), the problem's parameters, on boundaries the outward normal (``nx``, ``ny``), and
where the functional has one the lifting of a boundary region and its derivatives; ``ops`` is torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from shapewright.geometries.mesh.constants import constant
from shapewright.geometries.mesh.integration import CellPoints, FacetPoints, cell_points, facet_points
from shapewright.geometries.mesh.mesh import Mesh

Function = Callable[[Any, Mapping[str, Any]], Any]


class Functional(Protocol):
    """The same object that the finite-element solver takes.

    Attributes:
        name: of the functional.
        integrand: ``f(ops, q)``.
        on: boundary region that is integrated over; None for the whole domain.
        outer: ``f(ops, integral)``, what makes the functional of the integral; None for the integral itself.
        lifting: boundary region at whose nodes the quadratic function ``lifting`` is 1, and 0 at all others; or None.
    """

    @property
    def name(self) -> str: ...
    @property
    def integrand(self) -> Function: ...
    @property
    def on(self) -> str | None: ...
    @property
    def outer(self) -> Function | None: ...
    @property
    def lifting(self) -> str | None: ...


@dataclass(frozen=True)
class FieldSpace:
    """What an integrand may ask for beside places.

    Attributes:
        components: of the fields, in the order of a surrogate's outputs.
        coefficients: of the physics.
        sources: component -> function; 0 where there is none.
        parameters: of the problem, with their values.
    """

    components: tuple[str, ...]
    coefficients: Mapping[str, Function]
    sources: Mapping[str, Function] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=dict)


class _Quantities(Mapping[str, Any]):
    """What an integrand may ask for; all that has to be computed is computed only when it does.

    ``lifting`` (N,) are the nodal values of the lifting, None where the functional has none.
    """

    def __init__(
        self, space: FieldSpace, quadrature: CellPoints | FacetPoints, fields: Tensor, lifting: Tensor | None
    ) -> None:
        self._space, self._quadrature = space, quadrature
        x, y = quadrature.points[..., 0], quadrature.points[..., 1]
        self._known: dict[str, Any] = {"x": x, "y": y, **space.parameters}
        self._nodal = dict(zip(space.components, fields.unbind(-1), strict=True))
        if lifting is not None:
            self._nodal["lifting"] = lifting
        self._functions = dict(space.coefficients) | {
            f"source_{component}": space.sources.get(component, _nothing) for component in space.components
        }
        names = [*self._known, *self._nodal, *self._functions]
        names += [f"{nodal}_{axis}" for nodal in self._nodal for axis in "xy"]
        if isinstance(quadrature, FacetPoints):
            self._known |= {"nx": quadrature.normals[..., 0], "ny": quadrature.normals[..., 1]}
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
        if name in self._functions:
            self._known[name] = self._functions[name](torch, self)
        elif name in self._nodal:
            self._known[name] = self._quadrature.interpolate(self._nodal[name])
        else:
            nodal = name[:-2]
            gradient = self._quadrature.gradient(self._nodal[nodal])
            self._known[f"{nodal}_x"], self._known[f"{nodal}_y"] = gradient.unbind(-1)


def _nothing(ops: Any, q: Mapping[str, Any]) -> float:
    return 0.0


def integrate(functional: Functional, space: FieldSpace, mesh: Mesh, nodes: Tensor, fields: Tensor) -> Tensor:
    """(B,) values of a functional for nodes (B, N, 2) and nodal fields (B, N, c).

    One with an outer function is evaluated in double precision, whose range powers and exponentials need, and by a
    rule of four points a side, as the finite-element solver evaluates it.

    Raises:
        KeyError: the integrand asks for a quantity that there is not, or there is no such region.
    """
    if functional.outer is None:
        return _integral(functional, space, mesh, nodes, fields, 3)
    integral = _integral(functional, space, mesh, nodes.double(), fields.double(), 4)
    return functional.outer(torch, integral).to(fields)


def _integral(
    functional: Functional, space: FieldSpace, mesh: Mesh, nodes: Tensor, fields: Tensor, side: int
) -> Tensor:
    on = functional.on
    quadrature = cell_points(mesh, nodes, side) if on is None else facet_points(mesh, nodes, on, side)
    lifting = None
    if functional.lifting is not None:
        region = constant(mesh.facets_on(functional.lifting), nodes, torch.int64)
        lifting = nodes.new_zeros(nodes.shape[-2]).index_fill(0, region.flatten(), 1.0)
    density = functional.integrand(torch, _Quantities(space, quadrature, fields, lifting))
    return (density * quadrature.weights).flatten(1).sum(-1)


def integrate_all(
    functionals: Sequence[Functional], space: FieldSpace, mesh: Mesh, nodes: Tensor, fields: Tensor
) -> Tensor:
    """(B, J) values of several functionals."""
    return torch.stack([integrate(functional, space, mesh, nodes, fields) for functional in functionals], -1)
