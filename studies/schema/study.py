"""The study file as pydantic models: every key with its type, limits, default and meaning.

``python -m shapewright.studies.schema.study`` writes ``studies/schema.json``, from which editors complete and check.
Models are strict (no text where a number belongs, no true or false as a number), refuse unknown keys and
numbers that are not finite, and are frozen. What depends on the physics or on the geometry family is checked
where these are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from shapewright.geometries.fields.problem import Functional
from shapewright.studies.schema.base import (
    Count,
    FamilyObject,
    Formula,
    FunctionalObject,
    Interval,
    Name,
    Positive,
    Section,
    Seed,
    fault,
    plain,
    schema_text,
)
from shapewright.studies.schema.front import Front, of_front, without_first_objective
from shapewright.studies.schema.learning import Infill, ShapeSurrogate, Training
from shapewright.studies.schema.physics import Physics
from shapewright.studies.schema.scatter import Scatter

SCHEMA_FILE = Path(__file__).parents[1] / "schema.json"


class Geometry(Section):
    """The shape: a parametric family and its bounds."""

    family: Name | FamilyObject
    """Geometry family: a shipped one such as closed_bar, or my_shapes.py:Nozzle beside this file."""
    options: Annotated[dict[Name, Any], AfterValidator(plain)] = Field(default_factory=dict)
    """Options of the family; `shapewright list` shows them."""
    bounds: dict[Name, Interval] = Field(default_factory=dict)
    """Bounds [lower, upper] of design parameters where they differ from the family's."""
    initial: dict[Name, float] = Field(default_factory=dict)
    """Start values of design parameters where they differ from the family's."""
    fixed: dict[Name, float] = Field(default_factory=dict)
    """Values of parameters that are held fixed: they are no design variables, and have neither bounds nor start."""
    length_unit: Literal["m", "cm", "mm"] = "m"
    """Unit of every length in this file; it is written into the CAD files."""
    thickness: Positive | None = None
    """Depth to which the part is extruded into a solid; without it the part is exported as a face."""
    mesh_size: Positive = 0.1
    """Target cell size of the reference mesh, length unit."""

    @property
    def dimension(self) -> int:
        """Of space."""
        return 2

    @field_validator("bounds")
    @classmethod
    def _bounds_do_not_cross(cls, bounds: dict[str, Any]) -> dict[str, Any]:
        for name, (lower, upper) in bounds.items():
            if lower >= upper:
                raise fault(name, f"found [{lower}, {upper}]; expected [lower, upper] with lower < upper")
        return bounds

    @model_validator(mode="after")
    def _fixed_is_not_free(self) -> Self:
        for name in self.fixed:
            for section in ("bounds", "initial"):
                if name in getattr(self, section):
                    raise fault(f"fixed.{name}", f"found it in {section}, too; expected it in one of them")
        return self

    @model_validator(mode="after")
    def _start_is_within_bounds(self) -> Self:
        for name, value in self.initial.items():
            lower, upper = self.bounds.get(name, (value, value))
            if not lower <= value <= upper:
                raise fault(
                    f"initial.{name}",
                    f"found {value}; expected a start within bounds.{name} [{lower}, {upper}]",
                )
        return self


class Integral(Section):
    """A functional of one's own: the integral of a formula."""

    name: Name
    """What the report calls it."""
    integrand: Formula
    """Formula of x, y, components, their derivatives (u_x), coefficients; on a boundary also of nx, ny."""
    on: Name | None = None
    """Boundary region to integrate over; the whole domain if left out."""
    unit: str = "1"
    """Unit of the integral, for the report."""


class OnRegion(Section):
    """A functional of the physics on a boundary region that the study names."""

    name: Name
    """Functional of the physics that needs a region, such as drag; `shapewright list` shows which do."""
    on: Name
    """Boundary region of the family."""


def name_of(functional: str | Integral | OnRegion | Functional | Combined) -> str:
    """Name under which a functional of a study appears in constraints, tables and files."""
    if isinstance(functional, str):
        return functional
    if isinstance(functional, Combined):
        way = {"mean": "mean", "sum": "sum of", "worst": "worst"}[functional.way]
        return f"{way} {name_of(functional.functional)}"
    return f"{functional.name} on {functional.on}" if isinstance(functional, OnRegion) else functional.name


def _kind_of_functional(value: Any) -> str:
    for kind, known in (("<combined>", Combined), ("<on region>", OnRegion), ("<object>", Functional)):
        if isinstance(value, known):
            return kind
    if isinstance(value, Integral | dict):
        keys = value.keys() if isinstance(value, dict) else {"integrand"}
        if keys & {"mean", "sum", "worst", "weights", "sharpness"}:
            return "<combined>"
        return "<on region>" if "on" in keys and not keys & {"integrand", "unit"} else "<integral>"
    return "<name>"


_Single = (
    Annotated[Name, Tag("<name>")]
    | Annotated[Integral, Tag("<integral>")]
    | Annotated[OnRegion, Tag("<on region>")]
    | Annotated[FunctionalObject, Tag("<object>")]
)
Single = Annotated[_Single, Discriminator(_kind_of_functional)]
"""One functional: a name, an integral of one's own, one of the physics on a region, or a Python object."""


class Combined(Section):
    """One functional over all load cases or scenarios: the mean or weighted sum of its values, or the worst of them."""

    mean: Single | None = None
    """Functional whose mean over all cases counts, by the weights of the scenarios where the study has scatter."""
    sum: Single | None = None
    """Functional whose values in all cases are added."""
    weights: dict[Name, Positive] = Field(default_factory=dict)
    """Of the sum: case -> factor, one where left out."""
    worst: Single | None = None
    """Functional whose largest value counts (the least of what is maximized), by a smooth maximum."""
    sharpness: Positive = 50.0
    """Of the smooth maximum of K cases: it lies below the true one by at most log(K)/sharpness of the values' size."""

    @property
    def way(self) -> Literal["mean", "sum", "worst"]:
        """How the cases are combined."""
        return "sum" if self.sum is not None else ("mean" if self.worst is None else "worst")

    @property
    def functional(self) -> str | Integral | OnRegion | Functional:
        """Name of a functional of the physics, or one's own."""
        functional = getattr(self, self.way)
        assert functional is not None  # the validator below has seen to it
        return functional

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        found = [way for way in ("mean", "sum", "worst") if getattr(self, way) is not None]
        if len(found) != 1:
            told = {0: "neither", 2: "both"}.get(len(found), "all")
            of = " and ".join(found) if len(found) == 2 else "mean, sum and worst"
            raise fault("", f"found {told} of {of}; expected one of them")
        if self.weights and self.sum is None:
            raise fault("weights", "found it without sum; expected none")
        if self.sharpness != Combined.model_fields["sharpness"].default and self.worst is None:
            raise fault("sharpness", "found it without worst; expected none")
        return self


Wanted = Annotated[
    _Single | Annotated[Combined, Tag("<combined>")],
    Discriminator(_kind_of_functional),
]
"""One functional, or one over all load cases."""


def below(given: str | Integral | OnRegion | Functional | Combined) -> str:
    """Key of the functional below one over all load cases; empty where it stands alone."""
    return f".{given.way}" if isinstance(given, Combined) else ""


class Objective(Section):
    """What is sought: the largest or the smallest value of one functional."""

    maximize: Wanted | None = None
    """Functional to make as large as possible: its name, {name: drag, on: body} or {name: ..., integrand: ...}; with
    load cases {sum: ...}, {mean: ...} or {worst: ...}, with scatter {mean: ...} or {worst: ...}."""
    minimize: Wanted | None = None
    """Functional to make as small as possible: its name, {name: drag, on: body} or {name: ..., integrand: ...}; with
    load cases {sum: ..., weights: ...}, {mean: ...} or {worst: ...}, with scatter {mean: ...} or {worst: ...}."""

    @property
    def given(self) -> str | Integral | OnRegion | Functional | Combined:
        """What stands under maximize or minimize."""
        given = self.minimize if self.maximize is None else self.maximize
        assert given is not None  # the validator below has seen to it
        return given

    @property
    def functional(self) -> str | Integral | OnRegion | Functional:
        """Name of a functional of the physics, or one's own; of load cases that of each."""
        return self.given.functional if isinstance(self.given, Combined) else self.given

    @property
    def below(self) -> str:
        """Key of that functional below maximize or minimize."""
        return below(self.given)

    @property
    def functional_name(self) -> str:
        """Name of the functional; of load cases that of each."""
        return name_of(self.functional)

    @property
    def name(self) -> str:
        """Name of the objective."""
        return name_of(self.given)

    @property
    def sign(self) -> int:
        """Factor that makes it a minimization: 1 for minimize, -1 for maximize."""
        return -1 if self.minimize is None else 1

    @model_validator(mode="after")
    def _one_goal(self) -> Self:
        if (self.maximize is None) == (self.minimize is None):
            found = "neither" if self.maximize is None else "both"
            raise fault("", f"found {found} of maximize and minimize; expected one of them")
        return self


ConstraintKind = Literal["equals", "at_least", "at_most"]


class Constraint(Section):
    """A condition on a geometric quantity of the part, or on a functional of the solution."""

    quantity: Wanted
    """Quantity such as area, thickness, jacobian; a functional of the physics such as lift; an integral of one's own,
    {name: ..., integrand: ...}, or the name of one that the objective or another constraint defines; {name: drag, on:
    body} for a functional of the physics on a region; with load cases or scatter also {mean: ...} or {worst: ...}."""
    equals: float | Literal["initial"] | None = None
    """Required value, or initial for the value of the start design."""
    at_least: float | Literal["initial"] | None = None
    """Lower limit, or initial for the value of the start design."""
    at_most: float | Literal["initial"] | None = None
    """Upper limit, or initial for the value of the start design."""
    tolerance: Positive = 1e-6
    """Violation that counts as satisfied, relative to the target.

    Where the target is 0, it is relative to the quantity at the start. Where that is 0 too, it is relative to the
    part's size, or for a functional to its change over the ranges of the parameters. For a centroid it is relative to
    the part's size, if that is larger than the target. Earlier versions took it as absolute for targets below one.

    A functional is evaluated on fresh meshes of the exported CAD: let this be no less than the error of
    geometry.mesh_size.
    """

    case: Name | None = None
    """Load case in which a functional has to meet it; without it in each of them."""

    @property
    def name(self) -> str:
        """Name of the quantity."""
        return name_of(self.quantity)

    @property
    def functional(self) -> str | Integral | OnRegion | Functional:
        """The quantity; over all load cases that of each."""
        return self.quantity.functional if isinstance(self.quantity, Combined) else self.quantity

    @property
    def kind(self) -> ConstraintKind:
        """Which of the three is given."""
        if self.equals is not None:
            return "equals"
        return "at_most" if self.at_least is None else "at_least"

    @property
    def target(self) -> float | Literal["initial"]:
        """The value that is given."""
        return getattr(self, self.kind)

    @model_validator(mode="after")
    def _over_cases(self) -> Self:
        if isinstance(self.quantity, Combined) and self.case is not None:
            raise fault("case", f"found it with {self.name}, which is over all load cases; expected none")
        if isinstance(self.quantity, Combined) and self.quantity.worst is not None and self.equals is not None:
            raise fault("equals", f"found it with {self.name}; expected at_most or at_least")
        return self

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        kinds = ("equals", "at_least", "at_most")
        found = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(found) != 1:
            raise fault(
                "", f"found {' and '.join(found) or 'none'} of {', '.join(kinds)}; expected exactly one"
            )
        return self


class Sampling(Section):
    """Finite-element solutions for the surrogate to learn from."""

    designs: Count = 1000
    """Designs to train on."""
    held_out: Count = 128
    """Further designs to measure the errors of the surrogate on."""
    tangents: Count = 1
    """Directions per design along which the material derivative of the fields is recorded."""
    directions: Literal["isotropic", "axes"] = "isotropic"
    """Random directions in the box, or single parameters, which teaches the effect of each where one outweighs all."""
    seed: Seed = 0
    """Seed of designs and directions."""
    workers: Count = 2
    """Processes that solve at the same time."""


class Engine(Section):
    """Where finite elements work when many designs are solved: the samples, and the starts of a search by FEM alone."""

    name: Literal["processes", "dask", "slurm", "mpi"] = "processes"
    """processes of this machine, sampling.workers of them; workers of a Dask scheduler; jobs of Slurm; or ranks of MPI.

    The last is for `mpiexec -n N python -m mpi4py.futures -m shapewright.app.cli run STUDY.yaml`, whose first rank
    leads. All but processes need an extra of this package, and the study's folder at the same path on every machine.
    """
    address: Name | None = None
    """Of dask: its scheduler's, such as tcp://host:8786, or its file (*.json); of slurm: local does without Slurm."""
    jobs: Count = 16
    """Of slurm: largest number of jobs, among which designs are dealt."""
    options: Annotated[dict[Name, Any], AfterValidator(plain)] = Field(default_factory=dict)
    """Of slurm: what submitit's jobs take, such as {slurm_partition: cpu, timeout_min: 120}."""

    @model_validator(mode="after")
    def _address_is_of_a_scheduler(self) -> Self:
        if self.name == "dask" and self.address is None:
            raise fault("address", "found nothing; expected the scheduler's of name dask, such as tcp://host:8786")
        if self.name == "slurm" and self.address not in (None, "local"):
            raise fault("address", f"found {self.address}; expected local, or nothing, of name slurm")
        if self.name in ("processes", "mpi") and self.address is not None:
            raise fault("address", f"found {self.address}, which name {self.name} has no use for; expected nothing")
        if self.name != "slurm" and (self.options or self.jobs != Engine.model_fields["jobs"].default):
            key = "options" if self.options else "jobs"
            raise fault(key, f"found it with name {self.name}, which has no use for it; expected slurm")
        return self


class Optimizer(Section):
    """How the shape is found."""

    method: Literal["slsqp", "trust_constr", "trust_region"] = "slsqp"
    """slsqp, trust_constr: scipy, on one model; trust_region: the surrogate, corrected at every centre by FEM.

    With an operator as `model` trust_region is the default. On fem, trust_region has no surrogate: from one start it
    interpolates what finite elements gave at its centres, for a linear physics with the reduced basis of its solutions.
    """
    on: Literal["surrogate", "fem"] = "surrogate"
    """Model that gives objective and gradient: fem, or the surrogate, which is an operator where `model` names one."""
    max_iterations: Count = 200
    """Largest number of iterations from each start."""
    tolerance: Positive = 1e-8
    """Relative change of the scaled objective at which a run has converged."""
    starts: Count = 8
    """Start designs: the initial one and random ones within the bounds; the best result is kept."""
    seed: Seed = 0
    """Seed of the random start designs."""
    kkt_tolerance: Positive = 5e-3
    """Of trust_region: KKT residual by the finite-element gradient at which it has converged."""
    max_solves: Count = 60
    """Of trust_region: largest number of finite-element solutions."""
    radius: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of trust_region: half the width of the first box around a centre, relative to the bounds; five times that, 1 at
    most, for a linear problem on its finite-element solutions or on an operator for all shapes."""
    least_radius: Positive = 1e-5
    """Of trust_region: radius at which it gives up."""


class Validation(Section):
    """What the finite-element certificate tolerates; all errors are relative."""

    refinements: Annotated[int, Field(ge=3)] = 3
    """Meshes of the re-read CAD, each of half the cell size; three give an observed order."""
    mesh_size: Positive | None = None
    """Cell size of the coarsest of them, length unit; that of the geometry if left out."""
    objective_error: Positive = 0.005
    """Surrogate against finite elements: objective."""
    field_error: Positive = 0.02
    """Surrogate against finite elements: L2 error of the fields."""
    gradient_cosine: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Surrogate against the finite-element adjoint: least cosine between the design gradients."""
    kkt_residual: Positive = 0.05
    """Norm of the projected finite-element gradient of the Lagrangian over that of the objective."""
    discretization_error: Positive = 0.001
    """Finite-element objective on the finest mesh against its extrapolation."""
    manufacturing: Positive = 0.001
    """Relative loss of the objective for which the certificate states the tolerance of each parameter."""


class PretrainedOperator(Section):
    """An operator that was trained for all shapes of a physics: it needs neither samples nor training."""

    operator: Name
    """One that ships, such as poisson_2d, or a file of weights (*.safetensors) relative to this file."""
    gradient: Literal["lagrangian", "through_operator"] = "lagrangian"
    """Design gradient of any functional: of the Lagrangian with the operator's fields held, state and adjoint in one
    span, or exactly that of the predicted value."""


_OF_A_SURROGATE = ("surrogate", "sampling", "training", "infill")
"""Sections by which a study without `model` says that a surrogate is trained for it."""


class StudyModel(Section):
    """A design study: a parametric shape, its physics, an objective and constraints."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema["required"].remove("objective"))

    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", json_schema_extra={"format": "file-name"})
    ]
    """Name of the study and of its output folder: letters, digits, _ . -"""
    description: str = ""
    """What the study is about, for the report."""
    geometry: Geometry
    physics: Physics
    objective: Objective
    """What is optimized; a study of a front has `objectives` in its place."""
    objectives: Annotated[tuple[Objective, ...], Strict(False), Field(min_length=2, max_length=2)] | None = None
    """Two objectives, which are traded for each other along `front`."""
    front: Front | None = None
    """Designs between the optima of the two `objectives`."""
    scatter: Scatter | None = None
    """Loads, coefficients and manufacturing that are not known exactly; the objective is a mean or the worst."""
    constraints: Annotated[tuple[Constraint, ...], Strict(False)] = ()
    """Conditions that the optimum meets."""
    sampling: Sampling = Field(default_factory=Sampling)
    engine: Engine | None = None
    """Where many designs are solved; if left out, samples in processes of this machine, and starts of a search here."""
    surrogate: ShapeSurrogate = Field(default_factory=ShapeSurrogate)
    training: Training = Field(default_factory=Training)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    model: Literal["surrogate", "fem", "auto"] | PretrainedOperator | None = None
    """Model that the search is on: an operator for all shapes, {operator: poisson_2d}; surrogate, trained for this
    study; fem; or auto, the cheapest of finite elements, an operator that fits, and weights that the study names.

    `shapewright plan` shows what each would cost. If left out, it is auto in a study that says nothing of surrogate,
    sampling, training, infill, optimizer.on and optimizer.method but seeds, and else what optimizer.on says.
    """
    infill: Infill | None = None
    """Tuning of the surrogate by the solutions of trust_region; none if left out."""
    validation: Validation = Field(default_factory=Validation)

    @model_validator(mode="before")
    @classmethod
    def _optimizer_goes_with_model(cls, data: Any) -> Any:
        """Fill in what `model` implies for the optimizer where the study does not say it, and the default, auto."""
        if not isinstance(data, Mapping):
            return data
        data = of_front(dict(data), Objective)
        optimizer = data.get("optimizer", {})
        if not isinstance(optimizer, Mapping):
            return data
        choice = data.get("model")
        trains = any(data.get(name) and set(data[name]) != {"seed"} for name in _OF_A_SURROGATE)
        if choice is None and not trains and not {"on", "method"} & optimizer.keys():
            data["model"] = "auto"
        elif choice == "fem":
            data["optimizer"] = {"on": "fem", **optimizer}
        elif isinstance(choice, Mapping | PretrainedOperator):
            data["optimizer"] = {"method": "trust_region", **optimizer}
        return data

    @model_serializer(mode="wrap")
    def _as_a_file_has_it(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_first_objective(handler(self))

    @model_validator(mode="after")
    def _front_has_a_model(self) -> Self:
        if self.objectives is None:
            return self
        if self.objectives[0] == self.objectives[1]:
            raise fault("objectives", "found the same objective twice; expected two that differ")
        if self.infill is not None:
            raise fault("infill", "found it with objectives; expected none")
        if self.optimizer.on != "fem" and self.operator is None:
            found = f"{self.model or 'a surrogate'} with objectives"
            raise fault("model", f"found {found}; expected fem or an operator, which know two objectives")
        return self

    @field_validator("constraints")
    @classmethod
    def _no_constraint_twice(cls, constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        known = {(c.name, c.kind) for c in constraints if c.case is None}
        counts = Counter((c.name, c.kind, c.case) for c in constraints)
        for index, constraint in enumerate(constraints):
            same = counts[constraint.name, constraint.kind, constraint.case]
            if same > 1 or (constraint.case is not None and (constraint.name, constraint.kind) in known):
                what = f"{constraint.name} {constraint.kind}"
                raise fault(str(index), f"found more than one '{what}'; expected each once")
        return constraints

    @property
    def operator(self) -> PretrainedOperator | None:
        """The operator that the search is on; None where it is on something else."""
        chosen = self.model
        return chosen if isinstance(chosen, PretrainedOperator) and self.optimizer.on == "surrogate" else None

    @property
    def undecided(self) -> bool:
        """Whether the model is still to be chosen by what each costs."""
        return self.model == "auto" and self.optimizer.on == "surrogate"

    @model_validator(mode="after")
    def _infill_has_solutions(self) -> Self:
        if self.infill is None:
            return self
        if self.optimizer.method != "trust_region":
            raise fault("infill", f"found it with optimizer.method {self.optimizer.method}; expected trust_region")
        if self.optimizer.on == "fem" or isinstance(self.model, PretrainedOperator):
            if self.optimizer.on == "fem":
                found, instead = "finite elements alone", "a surrogate of this study, which it tunes"
            else:
                found = "an operator for all shapes"
                instead = "none: `shapewright train` tunes the operator to this study, and says how to use the result"
            raise fault("infill", f"found it with {found}; expected {instead}")
        return self

    @model_validator(mode="after")
    def _search_is_on_the_model(self) -> Self:
        if self.model == "fem" and self.optimizer.on != "fem":
            raise fault("model", f"found fem with optimizer.on {self.optimizer.on}; expected optimizer.on fem or none")
        return self

    @model_validator(mode="after")
    def _samples_suffice(self) -> Self:
        if self.training.batch > self.sampling.designs:
            limit = f"at most sampling.designs, {self.sampling.designs}"
            raise fault("training.batch", f"found {self.training.batch}; expected {limit}")
        return self


def json_schema_text() -> str:
    """What ``schema.json`` holds."""
    return schema_text(StudyModel)


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json_schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
