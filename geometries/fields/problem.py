"""Physics and boundary-value problems as data: named fields, parameters, fluxes, sources, functionals.

A formula is a function ``f(ops, q)`` of a namespace of elementary functions under torch's names and of the
named quantities ``q``: coordinates, every component (``u``), its first derivatives (``u_x``), the problem's parameters,
the coefficients of the physics, the given sources (``source_u``, 0 where none is given) and, on a boundary, the outward
normal; see :mod:`geometries.fields.names`. The same function builds the weak form in UFL and the strong residual in
torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal

from shapewright.geometries.fields import names
from shapewright.geometries.fields.interval import ANY_NUMBER, Interval

Function = Callable[[Any, Mapping[str, Any]], Any]
OFFSET = "offset"
"""Parameter of a case by which the boundary lies further out along its normal."""


class ProblemError(ValueError):
    """A problem that is wrong or does not fit its mesh; the message names the key and what is allowed."""


def power_of_length(power: int, unit: str = "") -> str:
    """``unit`` times a power of the length, as the catalogue writes it: ``Pa length^2``; ``1`` for none of both."""
    length = {0: "", 1: "length"}.get(power, f"length^{power}")
    return f"{unit} {length}".strip() or "1"


def unit_in(unit: str, length_unit: str) -> str:
    """A unit of the catalogue with ``length`` spelt out, under its own name where the SI has one."""
    named = {"Pa m^2/s": "W/m", "Pa m": "N/m"}
    spelt = unit.replace("length", length_unit)
    return named.get(spelt, spelt)


@dataclass(frozen=True)
class Field:
    """An unknown of the physics and its finite element.

    Attributes:
        name: of the field.
        components: names of its scalar components.
        degree: of its Lagrange element, 1 or 2.
        unit, description: for people; the unit counts powers of the study's ``length``.
    """

    name: str
    components: tuple[str, ...]
    degree: int
    unit: str
    description: str

    def __post_init__(self) -> None:
        if self.degree not in (1, 2):
            raise ProblemError(f"field '{self.name}': degree is {self.degree}; allowed are 1 and 2")


@dataclass(frozen=True)
class Coefficient:
    """A parameter of a physics; a problem may give it as a function of the other quantities.

    Attributes:
        name: of the coefficient.
        default: where the problem does not give it.
        unit, description: for people.
        allowed: its values, anywhere; outside of them the physics has no solution, or no meaning.
    """

    name: str
    default: float
    unit: str
    description: str
    allowed: Interval = ANY_NUMBER


@dataclass(frozen=True)
class Derived:
    """A quantity at a point that follows from the fields and their derivatives, such as a stress.

    Attributes:
        name: of the quantity.
        value: ``f(ops, q)``, inside the domain.
        unit, description: for people.
        shown: whether the report draws it.
    """

    name: str
    value: Function
    unit: str
    description: str
    shown: bool = False


@dataclass(frozen=True)
class Functional:
    """A quantity of interest: the integral of ``integrand`` over the domain or one boundary region.

    Attributes:
        name: of the functional.
        integrand: ``f(ops, q)``.
        unit: of the functional.
        description: for people.
        on: tag of the boundary region; None for the whole domain.
        outer: ``f(ops, integral)``, a scalar function that makes the functional of the integral, such as the root of a
            p-norm; None for the integral itself.
        lifting: tag of a boundary region; the integrand then knows ``lifting`` and its derivatives: the
            quadratic finite-element function that is 1 at the nodes of the region, 0 at all others.
        maximum_of: ``f(ops, q)``, the quantity of which this is a smooth maximum; None if it is none.
        bounds: of a smooth maximum, ``f(value, measure, slope)``: the least and the largest maximum that its value
            allows, by the length of a closed curve and the quantity's Lipschitz constant along it; in a domain, whose
            measure is the area, there is no slope (None) and no largest.
        region_as: of a functional that needs a boundary region which a study names: ``on`` or ``lifting``, whichever
            the region becomes; see :meth:`at`.
    """

    name: str
    integrand: Function
    unit: str
    description: str
    on: str | None = None
    outer: Callable[[Any, Any], Any] | None = None
    lifting: str | None = None
    maximum_of: Function | None = None
    bounds: Callable[[float, float, float | None], tuple[float, float | None]] | None = None
    region_as: Literal["on", "lifting"] | None = None

    def at(self, region: str) -> Functional:
        """The functional on a boundary region; ProblemError if it needs none."""
        if self.region_as is None:
            raise ProblemError(f"functional '{self.name}' needs no boundary region, found '{region}'")
        return replace(self, on=region) if self.region_as == "on" else replace(self, lifting=region)

    def __post_init__(self) -> None:
        if self.on is not None and self.lifting is not None:
            raise ProblemError(
                f"functional '{self.name}' is over '{self.on}' and has a lifting of '{self.lifting}'; a functional with"
                " a lifting is over the whole domain"
            )


@dataclass(frozen=True)
class CaseFunctional(Functional):
    """A functional of several load cases: a scalar function of the values that another one has in each.

    Attributes:
        of: name of that functional, whose integrand and region this has too.
        combine: (K,) tensor of the values in all cases, in the problem's order, to the value.
    """

    of: str = ""
    combine: Callable[[Any], Any] = field(default=lambda values: values.sum())


@dataclass(frozen=True)
class Physics:
    """A system div(flux) + source = 0 of one equation per component.

    Attributes:
        name, description: for people.
        fields: the unknowns.
        coefficients: the parameters.
        flux: ``f(ops, q)`` -> component -> vector; a component left out has none.
        source: ``f(ops, q)`` -> component -> scalar; a component left out has none.
        functionals: built-in quantities of interest.
        energy: ``f(ops, q)``, density of a potential, loads on the boundary apart. A solution makes it stationary: its
            first variation is the weak form, if need be with transformed test functions. None where there is none.
        admissible: ``f(ops, q)``, positive wherever a solution makes sense, such as the determinant of a deformation
            gradient; None if every solution does.
        derived: quantities at a point that are written beside the fields.
        traction: ``f(ops, q)`` -> component -> vector, rows of the stress of the one vector field: where the field
            slips along a wall, its component along the normal is the wall's, that along the tangent zero. None if
            there is no such field.
        dimension: of space.
        through: component -> ``f(ops, q)`` on the boundary whose integral is that of the component's own source over
            the domain, by the divergence theorem: of the pressure of a flow, velocity . n.
    """

    name: str
    description: str
    fields: tuple[Field, ...]
    coefficients: tuple[Coefficient, ...]
    flux: Callable[[Any, Mapping[str, Any]], Mapping[str, Sequence[Any]]]
    source: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    functionals: tuple[Functional, ...] = ()
    energy: Function | None = None
    admissible: Function | None = None
    through: Mapping[str, Function] = field(default_factory=dict)
    traction: Callable[[Any, Mapping[str, Any]], Mapping[str, Sequence[Any]]] | None = None
    derived: tuple[Derived, ...] = ()
    dimension: int = 2

    def __post_init__(self) -> None:
        repeated = [name for name, count in Counter(self.quantities).items() if count > 1]
        if repeated:
            raise ProblemError(
                f"physics '{self.name}': more than one quantity is named {', '.join(repeated)}"
            )

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of all quantities that a formula may ask for, the parameters of a problem apart."""
        d = self.dimension
        derivatives = chain.from_iterable(names.derivatives(c, d) for c in (names.LIFTING, *self.components))
        points = (*names.coordinates(d), *names.normal(d))
        coefficients = (c.name for c in self.coefficients)
        sources = (names.source(c) for c in self.components)
        return (*points, names.LIFTING, *self.components, *derivatives, *coefficients, *sources)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return names.coordinates(self.dimension)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of all scalar components, field by field."""
        return tuple(chain.from_iterable(f.components for f in self.fields))

    def functional(self, name: str) -> Functional:
        """The built-in functional ``name``; ProblemError lists those there are."""
        return _named(self.functionals, name, f"physics '{self.name}': functional")


@dataclass(frozen=True)
class Dirichlet:
    """``component`` = ``value(ops, q)`` on ``tag``; the value depends on the coordinates and the parameters only."""

    component: str
    tag: str
    value: Function


@dataclass(frozen=True)
class Pin:
    """``component`` = 0 at one corner of the mesh, where the equations determine it only up to a constant.

    The corner is the first one on ``tag`` in the reference mesh by its first coordinate, then by the second, and so on.
    """

    component: str
    tag: str


@dataclass(frozen=True)
class Natural:
    """flux . n = ``value(ops, q)`` for ``component`` on ``tag``; a Robin condition if it depends on it."""

    component: str
    tag: str
    value: Function


@dataclass(frozen=True)
class Patch:
    """A flux . n spread smoothly over a narrow patch of ``tag``, its integral over the moved boundary exact.

    Attributes:
        tag: boundary region.
        at: point of the reference mesh to which the nearest point of the region is the patch's middle; the patch moves
            with it.
        width: distance from the middle at which the load has fallen to zero, in the length unit.
        totals: component -> integral of its flux . n.
        factor: name of a parameter of the problem that the totals are multiplied by; None for one.
    """

    tag: str
    at: tuple[float, float]
    width: float
    totals: Mapping[str, float]
    factor: str | None = None


@dataclass(frozen=True)
class Problem:
    """A physics with its data: what is solved, and which functionals of the solution are wanted.

    Attributes:
        physics: the equations.
        coefficients: parameter -> function; parameters left out have their defaults.
        sources: component -> function, added to the source of the physics.
        dirichlet: prescribed values; where two meet in a node the later one holds.
        natural: prescribed fluxes; flux . n = 0 elsewhere.
        functionals: quantities of interest; the first is the objective.
        parameters: name -> default value of numbers that may change from solve to solve, usable in every formula.
        pins: components whose level is fixed at a point, such as the pressure of an enclosed flow.
        patches: loads around points of the boundary, added to the natural conditions.
        slip: boundary regions along which the vector field slips: no normal component, no tangential traction.
        cases: load case -> values of parameters; with any, all functionals are :class:`CaseFunctional`.
        offset_on: boundary regions that the parameter ``offset`` of a case moves outward.
    """

    physics: Physics
    coefficients: Mapping[str, Function] = field(default_factory=dict)
    sources: Mapping[str, Function] = field(default_factory=dict)
    dirichlet: tuple[Dirichlet, ...] = ()
    natural: tuple[Natural, ...] = ()
    functionals: tuple[Functional, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()
    patches: tuple[Patch, ...] = ()
    slip: tuple[str, ...] = ()
    cases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    offset_on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        components = self.physics.components
        for name in self.parameters:
            if name in self.physics.quantities:
                raise ProblemError(f"parameter '{name}' has the name of a quantity of physics '{self.physics.name}'")
        _check("coefficient", self.coefficients, (c.name for c in self.physics.coefficients))
        _check("source of component", self.sources, components)
        _check("boundary value of component", (d.component for d in self.dirichlet), components)
        _check("natural condition of component", (n.component for n in self.natural), components)
        _check("pin of component", (p.component for p in self.pins), components)
        _check("factor of a patch", (p.factor for p in self.patches if p.factor is not None), self.parameters)
        loaded = {(component, patch.tag) for patch in self.patches for component in patch.totals}
        _check("total of component", (component for component, _ in sorted(loaded)), components)
        loaded |= {(n.component, n.tag) for n in self.natural}
        both = {(d.component, d.tag) for d in self.dirichlet} & loaded
        for component, tag in sorted(both):
            raise ProblemError(
                f"'{component}' has a boundary value and a natural condition on '{tag}'; give one"
            )
        self._check_slip()
        plain = [f.name for f in self.functionals if not isinstance(f, CaseFunctional)]
        if self.cases and plain:
            raise ProblemError(f"functional '{plain[0]}' does not say of which load cases it is")
        for values in self.cases.values():
            _check("parameter", values, self.parameters)
        for functional in self.functionals:
            if functional.region_as is not None and getattr(functional, functional.region_as) is None:
                raise ProblemError(f"functional '{functional.name}' needs a boundary region: take its .at(region)")
        found = [f.name for f in self.functionals]
        if len(set(found)) != len(found):
            raise ProblemError(f"functionals must have distinct names, found {', '.join(found)}")

    def _check_slip(self) -> None:
        if self.slip and self.physics.traction is None:
            raise ProblemError(f"physics '{self.physics.name}' has no vector field that could slip on '{self.slip[0]}'")
        conditions: tuple[Dirichlet | Natural, ...] = (*self.dirichlet, *self.natural)
        for condition in conditions:
            if condition.tag in self.slip and condition.component in self.slip_field.components:
                kind = "boundary value" if isinstance(condition, Dirichlet) else "natural condition"
                raise ProblemError(
                    f"'{condition.component}' has a {kind} on '{condition.tag}', along which it slips; give one"
                )
        for patch in self.patches:
            if patch.tag in self.slip:
                raise ProblemError(f"a patch load on '{patch.tag}', along which the body slips; give one of them")

    @property
    def slip_field(self) -> Field:
        """The vector field that slips where anything does."""
        return next(f for f in self.physics.fields if len(f.components) == self.physics.dimension and f.degree == 2)

    @property
    def objective(self) -> Functional:
        """The first functional; ProblemError if the problem has none."""
        if not self.functionals:
            raise ProblemError("the problem has no functionals; the first one is the objective")
        return self.functionals[0]

    @property
    def case_functionals(self) -> tuple[CaseFunctional, ...]:
        """The functionals of all load cases: with cases these are all functionals."""
        return tuple(f for f in self.functionals if isinstance(f, CaseFunctional))

    def single(self) -> Problem:
        """The problem of one case at a time, with the functionals that those of all cases are made of."""
        parts = {f.of: Functional(f.of, f.integrand, f.unit, f.description, f.on, f.outer, f.lifting)
                 for f in self.case_functionals}
        return replace(self, functionals=tuple(parts.values()), cases={})

    def tags(self) -> set[str]:
        """Names of the boundary regions that the problem speaks of."""
        tagged: tuple[Dirichlet | Natural | Pin | Patch, ...]
        tagged = (*self.dirichlet, *self.natural, *self.pins, *self.patches)
        functionals = {tag for f in self.functionals for tag in (f.on, f.lifting) if tag is not None}
        return {condition.tag for condition in tagged} | functionals | {*self.slip}

    def parameter_values(self, given: Mapping[str, float] | None = None) -> dict[str, float]:
        """Every parameter's value, its default where ``given`` has none; ProblemError for an unknown one."""
        given = given or {}
        _check("parameter", given, self.parameters)
        return {name: float(given.get(name, default)) for name, default in self.parameters.items()}


def _check(what: str, found: Iterable[str], allowed: Iterable[str]) -> None:
    allowed = tuple(allowed)
    for name in found:
        if name not in allowed:
            raise ProblemError(f"{what} '{name}' is unknown; allowed are {', '.join(allowed) or 'none'}")


def _named(entries: Iterable[Any], name: str, what: str) -> Any:
    known = {entry.name: entry for entry in entries}
    if name not in known:
        raise ProblemError(f"{what} '{name}' is unknown; allowed are {', '.join(known) or 'none'}")
    return known[name]
