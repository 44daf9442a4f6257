"""The file of a study of a solid as pydantic models: a user's own CAD, deformed by a lattice, under several loads.

``python -m shapewright.studies.schema.solid_study`` writes ``studies/solid_schema.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, ValidationError, model_validator

from shapewright.geometries.fields.names import normal, vector
from shapewright.studies.schema.base import (
    Count,
    Formula,
    Name,
    NotNegative,
    PhysicsObject,
    Positive,
    Section,
    Share,
    fault,
    schema_text,
)
from shapewright.studies.schema.messages import report
from shapewright.studies.schema.physics import BoundaryCondition
from shapewright.studies.schema.python import Arguments
from shapewright.studies.schema.study import Constraint, Objective
from shapewright.studies.schema.value import Study
from shapewright.studies.schema.yaml_source import StudyError

SCHEMA_FILE = Path(__file__).parents[1] / "solid_schema.json"

Axis = Literal["x", "y", "z"]
Point = Annotated[tuple[float, float, float], Strict(False)]
Direction = Literal["x", "y", "z", "-x", "-y", "-z"] | Point
Rows = Literal["all"] | Annotated[tuple[Annotated[tuple[int, ...], Strict(False)], ...], Strict(False)]


class Plane(Section):
    """A plane face, where it lies and which way it looks."""

    x: float | None = None
    """Of a plane across x, its x."""
    y: float | None = None
    """Of a plane across y, its y."""
    z: float | None = None
    """Of a plane across z, its z."""
    normal: Direction | None = None
    """Outward normal."""


class Round(Section):
    """What faces about an axis have in common."""

    axis: Direction | None = None
    """Direction of the axis, or the opposite."""
    through: Point | None = None
    """A point of the axis."""
    hollow: bool | None = None
    """Whether the material lies outside: a bore, a fillet in a corner."""


class Cylinder(Round):
    """A cylindrical face: a bore, a boss or a fillet."""

    radius: Positive | None = None
    """Its radius, length unit."""


class Cone(Round):
    """A conical face."""

    half_angle: Positive | None = None
    """Between the axis and the face, degrees."""


class Torus(Round):
    """A face of a torus: a rounded edge of a turned part."""

    radius: Positive | None = None
    """From the axis to the middle of the tube, length unit."""
    minor_radius: Positive | None = None
    """Of the tube, length unit."""


class Sphere(Section):
    """A spherical face."""

    radius: Positive | None = None
    """Its radius, length unit."""
    centre: Point | None = None
    """Its centre."""
    hollow: bool | None = None
    """Whether the material lies outside."""


class FaceRule(Section):
    """Which faces of the CAD a region is made of: those for which all that is given holds."""

    plane: Plane | None = None
    """Plane faces, such as {x: 0}."""
    cylinder: Cylinder | None = None
    """Cylindrical faces, such as {radius: 4, axis: z}."""
    cone: Cone | None = None
    """Conical faces."""
    sphere: Sphere | None = None
    """Spherical faces."""
    torus: Torus | None = None
    """Faces of a torus."""
    box: Annotated[tuple[Point, Point], Strict(False)] | None = None
    """Faces that lie inside a box, given by its corners."""
    normal: Direction | None = None
    """Plane faces with this outward normal."""
    name: Name | None = None
    """Faces with this name in the file."""
    colour: Name | None = None
    """Faces of this colour in the file: '#rrggbb'."""
    largest: Count | None = None
    """Of the faces found, how many of the largest."""
    tolerance: Positive | None = None
    """Difference of lengths that is none, length unit; 1e-4 of the part's size if left out."""
    faces: Annotated[tuple[Count, ...], Strict(False), Field(min_length=1)] | None = None
    """Numbers of faces, as `shapewright inspect` prints them."""
    count: Count | None = None
    """How many faces this has to be; any number but none if left out."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        given = self.model_fields_set - {"largest", "count", "tolerance"}
        if not any(getattr(self, rule) is not None for rule in given):
            kinds = "plane, cylinder, cone, sphere, torus, box, normal, name, colour or faces"
            raise fault("", f"found no rule; expected {kinds}")
        return self


class LatticeBox(Section):
    """The control points whose motion deforms the solid."""

    box: Literal["part"] | Annotated[tuple[Point, Point], Strict(False)] = "part"
    """Corners of the lattice, or part for the box around the part."""
    points: Annotated[tuple[Count, Count, Count], Strict(False)] = (3, 3, 3)
    """Rows of control points along x, y and z."""
    move: Annotated[tuple[Axis, ...], Strict(False), Field(min_length=1)] = ("x", "y", "z")
    """Axes along which control points move."""
    symmetric: Annotated[tuple[Axis, ...], Strict(False)] = ()
    """Axes across whose middle plane of the lattice the motion is mirrored."""
    ties: dict[Axis, Rows] = Field(default_factory=dict)
    """Axis -> rows across it that move together, from 0: all, or groups such as [[0, 1], [2, 3]]."""
    limit: Annotated[float, Field(gt=0, le=0.5)] = 0.08
    """Largest motion of a control point along an axis, in diagonals of the box around the part."""


class SolidGeometry(Section):
    """The shape: a solid from a CAD file, and how it may be deformed."""

    cad: Name
    """STEP file with one solid, relative to this file."""
    length_unit: Literal["m", "cm", "mm"] = "mm"
    """Unit of every length in this study; it must be the CAD file's own, unless that is another one than these."""
    solid: Count | None = None
    """Which solid of the file, from 1, if there are several."""
    regions: dict[Name, FaceRule] = Field(default_factory=dict)
    """Names of boundary regions, with the faces each is made of; the other faces are the region rest."""
    keep: Annotated[tuple[Name, ...], Strict(False)] = ()
    """Regions that stay exactly as they are."""
    keep_width: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Distance over which the freedom of the solid grows beside what is kept, in diagonals of its box."""
    lattice: LatticeBox = Field(default_factory=LatticeBox)
    mesh_size: Positive
    """Largest edge of the cells, length unit."""
    curvature: Annotated[int, Field(ge=0)] = 12
    """Cells around a full turn of a curved face; 0 for no refinement there."""

    @property
    def dimension(self) -> int:
        """Of space."""
        return 3

    @model_validator(mode="after")
    def _keeps_what_there_is(self) -> Self:
        for index, name in enumerate(self.keep):
            if name not in self.regions:
                raise fault(f"keep.{index}", f"found '{name}'; expected a region: {', '.join(self.regions) or 'none'}")
        return self


class SolidLoad(BoundaryCondition):
    """A flux on a boundary region: by component, as a traction vector, or as a pressure."""

    traction: Annotated[tuple[Formula, Formula, Formula], Strict(False)] | None = None
    """Force per area along x, y and z: numbers or formulas."""
    pressure: Formula | None = None
    """Force per area against the outward normal: a number or a formula."""

    @property
    def values(self) -> dict[str, float | str | Callable[..., Any]]:
        """Component -> number, formula or Python function."""
        if self.traction is not None:
            return dict(zip(vector(3), self.traction, strict=True))
        if self.pressure is not None:
            return {c: f"-({self.pressure}) * {n}" for c, n in zip(vector(3), normal(3), strict=True)}
        return dict(self.__pydantic_extra__)

    @property
    def patch(self) -> None:
        """Solids have no loads on patches."""
        return

    @model_validator(mode="after")
    def _names_a_component(self) -> Self:
        given = [name for name in ("traction", "pressure") if getattr(self, name) is not None]
        given += ["a component"] if self.__pydantic_extra__ else []
        if len(given) != 1:
            found = " and ".join(given) or "no load"
            raise fault("", f"found {found}; expected one of traction, pressure, and components such as u: 0")
        if self.pressure is not None and callable(self.pressure):
            raise fault("pressure", "found a Python function; expected a number or a formula as text")
        return self


class SolidLoadCase(Section):
    """What one load case has beside what holds in all; supports are the same in all of them."""

    natural: Annotated[tuple[SolidLoad, ...], Strict(False)] = ()
    """Loads on the boundary, added to those of all cases."""
    source: Formula | dict[Name, Formula] = Field(default_factory=dict)
    """Body force per component, in place of that of all cases."""
    dirichlet: Annotated[tuple[BoundaryCondition, ...], Strict(False)] = ()
    """Prescribed values in place of those of all cases, on supports that these have too."""


class SolidPhysics(Section):
    """The boundary-value problem: elasticity or poisson."""

    name: Name | PhysicsObject
    """Equations: elasticity, poisson, or my_physics.py:Name beside this file."""
    coefficients: dict[Name, Formula] = Field(default_factory=dict)
    """Parameters of the physics where they differ from its defaults: a number or a formula of x, y and z."""
    source: Formula | dict[Name, Formula] = Field(default_factory=dict)
    """Source or body force per component, a number or a formula of x, y and z."""
    dirichlet: Annotated[tuple[BoundaryCondition, ...], Strict(False)] = ()
    """Prescribed values, such as {on: bolts, u: 0, v: 0, w: 0}."""
    natural: Annotated[tuple[SolidLoad, ...], Strict(False)] = ()
    """Loads and fluxes, such as {on: pin, traction: [0, 0, -10]}; convection as {on: rest, u: 5 * (20 - u)}."""

    @property
    def pins(self) -> tuple[()]:
        """Solids have none."""
        return ()

    @property
    def slip(self) -> tuple[()]:
        """Solids have none."""
        return ()


class SolidSearch(Section):
    """How the shape is found: a trust region on the reduced basis of the solutions, corrected by finite elements."""

    model: Literal["reduced_basis", "fem"] = "reduced_basis"
    """What proposes steps: the reduced basis, or nothing but the finite elements themselves, by SLSQP."""
    max_solves: Count = 40
    """Largest number of designs solved by finite elements on one mesh."""
    max_iterations: Count = 100
    """Of fem: largest number of iterations."""
    tolerance: Positive = 1e-4
    """Of fem: relative change of the objective at which SLSQP has converged."""
    kkt_tolerance: Positive = 0.05
    """KKT residual by the finite-element gradient at which the search has converged."""
    radius: Share = 0.25
    """Half the width of the first box around the start, relative to the bounds."""
    least_radius: Positive = 1e-3
    """Radius at which it ends."""
    restarts: Annotated[int, Field(ge=0)] = 2
    """Largest number of times that the search goes on from a mesh of the deformed CAD, pulled back."""
    least_jacobian: Share = 0.3
    """Least det grad F of the deformation, by its smooth minimum, unless a constraint on jacobian says another."""


class SolidValidation(Section):
    """What the certificate tolerates; all errors are relative."""

    refinements: Annotated[int, Field(ge=2, le=4)] = 3
    """Meshes of the re-read CAD, each with cells smaller by 1.4."""
    moved_mesh: Positive = 0.005
    """Objective on the moved mesh against that on a fresh mesh of the re-read CAD."""
    discretization_error: Positive = 0.02
    """Objective on the finest mesh against its extrapolation."""
    kkt_residual: Positive = 0.1
    """Norm of the projected gradient of the Lagrangian over that of the objective."""
    cad_deviation: Positive = 2e-5
    """Distance of the moved mesh's boundary from the re-read CAD, in diagonals of the part's box."""
    volume_error: Positive = 2e-4
    """Volume of the re-read CAD against a condition on it."""
    gain_error: NotNegative = 0.0
    """Least improvement of the objective against the part as it came."""


class SolidStudyModel(Section):
    """A study of a solid: a CAD file, its physics under load cases, an objective and constraints."""

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", json_schema_extra={"format": "file-name"})
    ]
    """Name of the study and of its output folder: letters, digits, _ . -"""
    description: str = ""
    """What the study is about, for the report."""
    geometry: SolidGeometry
    physics: SolidPhysics
    cases: dict[Name, SolidLoadCase] = Field(default_factory=dict)
    """Load cases by name; what stands under physics holds in all of them."""
    objective: Objective
    constraints: Annotated[tuple[Constraint, ...], Strict(False)] = ()
    """Conditions that the optimum meets; jacobian at_least optimizer.least_jacobian is always added."""
    optimizer: SolidSearch = Field(default_factory=SolidSearch)
    validation: SolidValidation = Field(default_factory=SolidValidation)

    @property
    def operator(self) -> None:
        """No operator serves solids."""
        return

    @property
    def objectives(self) -> None:
        """Solids have one objective."""
        return


def solid_study(folder: str | Path = ".", **sections: Any) -> Study[SolidStudyModel]:
    """A study of a solid made in Python.

    Args:
        folder: that paths in it are relative to.
        sections: of a study file by name: ``geometry``, ``physics``, ``cases``, ``objective``, ``constraints`` ..., as
            mappings; formulas may be numbers, text, or functions f(ops, q).

    Raises:
        StudyError: all that is wrong, one line each, with the argument that it stands in.
    """
    data = {"name": "study", **sections}
    try:
        model = SolidStudyModel.model_validate(data)
    except ValidationError as error:
        raise StudyError(report(error, data, Arguments("solid_study"), SolidStudyModel)) from None
    return Study.of_model(model, Path(folder).resolve() / "study.py", Arguments("solid_study"))


def json_schema_text() -> str:
    """What ``solid_schema.json`` holds."""
    return schema_text(SolidStudyModel)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
