"""Studies made in Python: the value that YAML fills too, and errors that name the argument."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest
import torch
from pydantic_core import PydanticSerializationUnexpectedValue

import shapewright as sw
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.base import _as_text
from shapewright.studies.schema.fingerprint import fingerprint

YAML = """
name: bar
geometry: {family: closed_bar, options: {control_points: 6, start: disc}, mesh_size: 0.3}
physics: {name: poisson, source: {u: 2.0}, dirichlet: [{on: wall, u: 0.0}]}
objective: {maximize: torsional_constant}
constraints: [{quantity: area, equals: 3.0}, {quantity: jacobian, at_least: 0.1}]
"""


def design(**options):
    return sw.Design(sw.families.closed_bar(control_points=6, start="disc"), mesh_size=0.3, **options)


def problem(**options):
    return sw.Problem(sw.physics.poisson(dimension=2), **{"source": 2.0, "dirichlet": {"wall": 0.0}} | options)


def study(**options):
    given = {"name": "bar", "maximize": "torsional_constant"} | options
    return sw.Study(given.pop("design", design()), given.pop("problem", problem()), **given)


def test_it_is_the_value_that_yaml_fills(tmp_path, monkeypatch):
    path = tmp_path / "study.py"
    path.write_text(YAML)
    monkeypatch.chdir(tmp_path)
    made = study(constraints=[sw.equals("area", 3.0), sw.at_least("jacobian", 0.1)])
    assert made == sw.load(path)
    path.write_text(made.to_yaml())
    assert made == sw.load(path)


def test_vector_physics_and_functions():
    """A function, a formula and a number that say the same give the same objective."""
    plate = sw.Design(sw.families.plate_with_hole(control_points=8), mesh_size=0.8)
    values = []
    for pull in (1.0, "1", lambda ops, q: 1 + 0 * q["x"]):
        of_plate = sw.Problem(
            sw.physics.plane_stress(),
            dirichlet={("left", "right"): {"v": 0.0}, "left": {"u": 0.0, "v": 0.0}},
            natural={"right": {"u": pull}},
        )
        integral = sw.Functional("strain", lambda ops, q: q["u_x"] ** 2, "1", "int u_x^2")
        model = sw.fem(sw.Study(plate, of_plate, minimize=integral))
        values.append(model.value_and_gradient(model.setup.initial)[0])
    assert values[1] == values[0]
    assert values[2] == pytest.approx(values[0], rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: study(design=design(bounds={"r0": (2.0, 1.0)})), r"Design\(bounds=...\): geometry.bounds.r0: found"),
        (lambda: study(maximize=None), r"Study\(maximize=..., minimize=... or objectives=...\): objective: found ne"),
        (lambda: study(constraints=[{"quantity": "area"}]), r"Study\(constraints=...\): constraints.0: found none of"),
        (lambda: study(optimiser={}), r"Study\(optimiser=...\): optimiser: unknown key; did you mean 'optimizer'"),
        (
            lambda: sw.Study(design(), sw.Problem(sw.physics.stokes(), source=1.0), minimize="dissipation"),
            r"Problem: source: found 1.0 \(a number\); expected a mapping from components: u, v, p",
        ),
        (
            lambda: build_setup(study(problem=problem(source=lambda ops, q: q["z"]))),
            r"Problem\(source=...\): physics.source.u: found .*, which asks for 'z'; expected a function of x, y",
        ),
        (
            lambda: build_setup(study(problem=problem(dirichlet={"wal": 0.0}))),
            r"Problem\(dirichlet=...\): physics.dirichlet.0.on: found 'wal'; expected a boundary region: wall",
        ),
        (lambda: sw.certify(study(), [1.0, 2.0]), r"theta: found .*; expected 6 finite numbers: r0, r1"),
        (
            lambda: sw.optimize(study(maximize="integral"), model=sw.fem(study())),
            "found one of another study, whose objective differs",
        ),
        (
            lambda: study(problem=problem(source=lambda ops, q: 2.0)).to_yaml(),
            r"physics.source.u \(Problem\(source=...\)\): a Python object, which YAML cannot hold",
        ),
        (
            lambda: sw.run(study(problem=problem(source=lambda ops, q: 2.0), model="surrogate"), "unused"),
            r"Problem\(source=...\): physics.source.u: found a Python object in a study whose samples other",
        ),
        (lambda: sw.fem("torsion.yaml"), r"study: found 'torsion.yaml' \(text\); expected a Study, .*shapewright.load"),
        (lambda: sw.run(["torsion.yaml"], "unused"), "study: found list; expected a Study or the name of its file"),
        (lambda: sw.run("no_such.yaml", "unused"), "no_such.yaml: there is no such file"),
        (lambda: sw.load(study()), "path: found Study; expected the name"),
        (lambda: sw.load("a.yaml", "optimizer.starts=1"), r"overrides: found .*; expected a list such as \['optimizer"),
        (
            lambda: sw.optimize(study(), "slsqp", model=sw.fem(study())),
            r"method: found 'slsqp' \(text\); expected SLSQP\(\), TrustConstr\(\) or TrustRegion\(\)",
        ),
        (lambda: sw.optimize(study(), sw.SLSQP, model=sw.fem(study())), r"method: found SLSQP; expected SLSQP\(\)"),
        (lambda: sw.optimize(study(), sw.fem, model=sw.fem(study())), "method: found fem; expected"),
        (lambda: sw.optimize(study(), model="fem"), r"model: found 'fem' \(text\); expected what shapewright.fem"),
        (
            lambda: sw.optimize(study(), sw.SLSQP(starts=0), model=sw.fem(study())),
            "method slsqp: starts: found 0: Input should be greater",
        ),
        (lambda: sw.certify(study(), [1.0] * 6, model=sw.fem(study())), "model: found FemModel; expected the surr"),
        (lambda: sw.certify(study(), study()), "theta: found Study; expected 6 finite numbers"),
        (lambda: sw.fem(study()).solve([1.0]), r"theta: found \[1.0\]; expected 6 finite numbers: r0"),
        (
            lambda: sw.fem(study()).evaluate([1.0] * 6),
            r"theta: found an array of shape \(6,\); expected designs \(B, 6\); write theta\[None\] for one",
        ),
        (lambda: study(constraints=["area"]), r"Study\(constraints=...\): found 'area' \(text\); expected conditions"),
        (lambda: study(constraints={"area": 3.0}), r"constraints=...\): found a mapping of area; expected conditions"),
        (lambda: sw.Study(problem(), design(), maximize="area"), r"Study\(design\): found Problem; expected a Design"),
        (
            lambda: study(design=sw.Design(sw.families.closed_bar)),
            r"Design\(family\): found the function closed_bar; .* write closed_bar\(...\)",
        ),
        (
            lambda: study(problem=sw.Problem(sw.physics.poisson)),
            r"Problem\(physics\): found the function poisson; .* write poisson\(...\)",
        ),
        (lambda: study(problem=problem(dirichlet="wall")), "dirichlet: found 'wall' .*; expected a mapping from"),
        (lambda: study(problem=problem(dirichlet=0.0)), "dirichlet: found 0.0 .*; expected a mapping from regions"),
        (lambda: study(problem=problem(pins=["u"])), r"Problem\(pins=...\): found a list of 1; expected a mapping"),
        (lambda: study(problem=problem(cases={"down": 2.0})), r"Problem\(cases=...\) 'down': found 2.0 .*; expected a"),
        (lambda: sw.surrogate(study(), device="gpu"), r"device: found 'gpu' \(text\); expected cpu or cuda"),
    ],
)
def test_errors_name_the_argument(make, message):
    with pytest.raises(sw.StudyError, match=message):
        make()


def test_a_fingerprint_changes_with_code_and_values():
    def scaled(factor):
        return lambda ops, q: factor * q["x"]

    assert fingerprint(scaled(2.0)) == fingerprint(scaled(2.0))
    assert fingerprint(scaled(2.0)) != fingerprint(scaled(3.0))
    assert fingerprint(scaled(torch.ones(2))) != fingerprint(scaled(torch.zeros(2)))
    assert fingerprint(lambda ops, q: q["x"]) != fingerprint(lambda ops, q: q["y"])
    assert fingerprint(sw.families.cavity()) == fingerprint(sw.families.cavity())


OWN_FLUX = """
from dataclasses import dataclass
from helper import factor

class Factors:
    @staticmethod
    def inner():
        return {inner}

@dataclass(frozen=True)
class Flux:
    scale: float = 1.0
    def __call__(self, ops, q):
        return {called} * q["u_x"] * Factors.inner() * factor()
"""


@pytest.fixture
def fingerprint_in(tmp_path, monkeypatch):
    """Fingerprint of an object of a user's own module, with a file or typed into a session, made afresh each time."""

    def module(name, text, file):
        made = ModuleType(name)
        if file:
            made.__file__ = str(tmp_path / f"{name}.py")
            (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(sys.modules, name, made)
        exec(text, vars(made))
        return made

    def made(code, file, *, called="2.0", inner="3.0", factor="4.0"):
        module("helper", f"def factor(): return {factor}", file)
        own = module("own", OWN_FLUX.format(called=called, inner=inner), file)
        return fingerprint(eval(code, vars(own)))

    return made


@pytest.mark.parametrize("code", ["Flux()", "Flux", "lambda ops, q: Factors.inner()", "Flux().__call__"])
@pytest.mark.parametrize("file", [True, False])
def test_a_fingerprint_changes_with_any_code_that_an_object_may_run(code, file, fingerprint_in):
    first = fingerprint_in(code, file)
    assert first == fingerprint_in(code, file)
    assert first != fingerprint_in(code, file, inner="3.5")
    if "Factors" not in code or file:
        assert first != fingerprint_in(code, file, called="2.5")
        assert first != fingerprint_in(code, file, factor="4.5")


def test_a_fingerprint_tells_which_object_comes_again():
    one, two = [1.0], [2.0]
    assert fingerprint((one, two, one)) != fingerprint((one, two, two))


FLOW = {"mesh_size": 0.12}


def test_a_functional_is_on_the_region_that_the_study_says():
    """By its bare name on the region of the first release; refused where that is missing, with what to write."""
    channel = sw.families.body_in_channel(control_points=8)
    flow = sw.Problem(
        sw.physics.navier_stokes(),
        dirichlet={"inlet": {"u": "4*y*(1-y)", "v": 0.0}, ("wall", "body"): {"u": 0.0, "v": 0.0}},
        coefficients={"viscosity": 1.0},
    )
    lift_of_wall = {"name": "drag", "on": "wall"}
    named = sw.Study(
        sw.Design(channel, **FLOW), flow, minimize="drag", constraints=[sw.at_most(lift_of_wall, 1e3, tolerance=0.1)]
    )
    first, second = build_setup(named).problem.functionals
    assert (first.name, first.lifting) == ("drag", "body")
    assert (second.name, second.lifting) == ("drag on wall", "wall")
    bar = sw.Problem(sw.physics.plane_stress(), dirichlet={"lid": {"u": 0.0, "v": 0.0}})
    cavity = sw.Design(sw.families.cavity(), mesh_size=0.5)
    with pytest.raises(sw.StudyError, match=r"'ks_hoop_stress' without a boundary region; expected \{name: ks_hoop_s"):
        build_setup(sw.Study(cavity, bar, minimize="ks_hoop_stress"))
    with pytest.raises(sw.StudyError, match="found 'mass'; expected one of peak_hoop_stress, ks_hoop_stress"):
        build_setup(sw.Study(cavity, bar, minimize={"name": "mass", "on": "lid"}))


def test_a_study_with_python_objects_runs_and_is_reused(tmp_path):
    """The second run reads all that is finished; a function that says something else makes it anew."""

    def made(factor):
        source = problem(source=lambda ops, q: factor + 0 * q["x"])
        constraints = [sw.equals("area", 3.0)]
        search = {"on": "fem", "starts": 1}
        return study(design=design(initial={"r0": 1.1}), problem=source, constraints=constraints, optimizer=search)

    seen = []
    first = sw.run(made(2.0), tmp_path, report=lambda stage, *rest: seen.append(stage))
    assert "optimize" in seen
    seen.clear()
    again = sw.run(made(2.0), tmp_path, report=lambda stage, *rest: seen.append(stage))
    assert not seen
    assert again == first
    other = sw.run(made(4.0), tmp_path, report=lambda stage, *rest: seen.append(stage))
    assert "optimize" in seen
    assert other.objective.initial_fem == pytest.approx(2 * first.objective.initial_fem, rel=1e-9)
    with pytest.raises(sw.StudyError, match=r"resolved.yaml:.*: physics.source.u: stands for a Python object"):
        sw.load(tmp_path / "resolved.yaml")


@pytest.mark.parametrize("value", [1.0, "x*y", {"u": 0}])
def test_plain_data_are_left_to_the_other_parts_of_a_union(value):
    with pytest.raises(PydanticSerializationUnexpectedValue):
        _as_text(value)


def test_what_is_plainly_meant_is_accepted():
    """A design as array or list, one constraint and one region outside a list, a trust region's design by itself."""
    one = study(constraints=sw.equals("area", 3.0), optimizer={"method": "trust_region"})
    assert one == study(constraints=[sw.equals("area", 3.0)], optimizer={"method": "trust_region"})
    stokes = sw.Problem(sw.physics.stokes(), slip="wall")
    assert stokes.section(one.folder)["slip"] == ["wall"]
    model = sw.fem(one)
    theta = model.setup.initial
    value = model.solve(theta).values
    assert model.solve(theta.numpy()).values == model.solve(theta.tolist()).values == value
    assert model.value_and_gradient(theta.numpy())[0] == model.evaluate([theta.tolist()])[0][0, 0]
    assert "KKT residual" in {check.name for check in sw.certify(one, theta).design.checks}


def test_values_print_in_a_few_lines():
    made = study(constraints=[sw.equals("area", 3.0)])
    best = sw.optimize(made, sw.SLSQP(starts=1, max_iterations=3), model=sw.fem(made))
    assert str(made).splitlines() == [
        "study bar",
        "  geometry: family closed_bar, options {'control_points': 6, 'start': 'disc'}, length_unit m, mesh_size 0.3",
        "  physics: name poisson, source {'u': 2.0}, dirichlet (BoundaryCondition(on='wall', u=0.0),)",
        "  objective: maximize torsional_constant",
        "  constraints: quantity area, equals 3.0",
    ]
    lines = str(best).splitlines()
    assert lines[:2] == [str(best.reason), f"objective: {best.objective:.7g}"]
    assert [line.partition(":")[0] for line in lines[2:]] == ["constraints", "theta", "starts", "best start"]


def test_a_python_program_sees_no_warning_of_torch():
    code = "import shapewright as sw; sw.families.closed_bar(control_points=6)"
    command = [sys.executable, "-W", "error::FutureWarning", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""
