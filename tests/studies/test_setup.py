"""Promise: what a study names and its family or physics does not have is an error with file, line, key and choices."""

import pytest

from shapewright.studies.problem.families import geometry_key
from shapewright.studies.problem.setup import build_setup
from shapewright.studies.schema.loader import StudyError, load_study
from tests.studies.study_cases import write_tiny

CHANGES = {
    "boundary region": (
        ("- {on: wall, u: 0.0}", "- {on: rim, u: 0.0}"),
        "F:11: physics.dirichlet.0.on: found 'rim'; expected a boundary region: wall",
    ),
    "component": (
        ("- {on: wall, u: 0.0}", "- {on: wall, w: 0.0}"),
        "F:11: physics.dirichlet.0.w: found 'w'; expected a component: u",
    ),
    "component of the source": (
        ("source: {u: 2.0}", "source: {w: 2.0}"),
        "F:9: physics.source.w: found 'w'; expected a component: u",
    ),
    "coefficient": (
        ("source: {u: 2.0}", "coefficients: {viscosity: 2.0}"),
        "F:9: physics.coefficients.viscosity: found 'viscosity'; expected a coefficient: ",
    ),
    "constant that is not admissible": (
        ("source: {u: 2.0}", "coefficients: {conductivity: -1.0}"),
        "F:9: physics.coefficients.conductivity: found -1; expected a number above 0",
    ),
    "constant formula that is not admissible": (
        ("source: {u: 2.0}", "coefficients: {conductivity: 2 - sqrt(4)}"),
        "F:9: physics.coefficients.conductivity: found 0; expected a number above 0",
    ),
    "formula that is not admissible everywhere": (
        ("source: {u: 2.0}", "coefficients: {conductivity: x}"),
        "F:9: physics.coefficients.conductivity: found -0.",
    ),
    "formula that is not finite": (
        ("source: {u: 2.0}", "coefficients: {conductivity: 1 + log(x)}"),
        "F:9: physics.coefficients.conductivity: found nan at x = -",
    ),
    "slip of what has no direction": (
        ("source: {u: 2.0}", "slip: [wall]"),
        "F:9: physics.slip.0: found it with physics 'poisson'; expected one of stokes, navier_stokes, plane_stress, ",
    ),
    "region that slips": (
        ("source: {u: 2.0}", "slip: [rim]"),
        "F:9: physics.slip.0: found 'rim'; expected a boundary region: wall",
    ),
    "formula": (
        ("source: {u: 2.0}", "source: {u: 2*z}"),
        "F:9: physics.source.u: found the name 'z' in column 3; allowed: x, y, ",
    ),
    "objective": (
        ("{maximize: torsional_constant}", "{maximize: torsion}"),
        "F:12: objective.maximize: found 'torsion'; expected one of ",
    ),
    "integrand": (
        ("{maximize: torsional_constant}", "{minimize: {name: j, integrand: u_z}}"),
        "F:12: objective.minimize.integrand: found the name 'u_z' in column 1; allowed: ",
    ),
    "objective's region": (
        ("{maximize: torsional_constant}", "{minimize: {name: j, integrand: u, on: rim}}"),
        "F:12: objective.minimize.on: found 'rim'; expected a boundary region: wall",
    ),
    "quantity": (
        ("quantity: area", "quantity: aera"),
        "F:14: constraints.0.quantity: found 'aera'; expected one of area, perimeter, ",
    ),
    "quantity of other families": (
        ("quantity: jacobian", "quantity: clearance"),
        "F:15: constraints.1.quantity: found 'clearance'; expected one of area, ",
    ),
    "family": (
        ("closed_bar", "closed_bra"),
        "F:3: geometry.family: unknown family 'closed_bra'; shipped are ",
    ),
    "family's file": (
        ("closed_bar", "shapes.py:Bar"),
        "F:3: geometry.family: family 'shapes.py:Bar': there is no file ",
    ),
    "family option": (
        ("start: ellipse", "begin: ellipse"),
        "F:4: geometry.options: family 'closed_bar': unknown option ['begin']; allowed are ",
    ),
    "parameter of a bound": (
        ("mesh_size: 0.4", "bounds: {r9: [0.5, 1]}"),
        "F:6: geometry.bounds.r9: found 'r9'; expected a parameter: r0, r1, r2, r3, r4, r5",
    ),
    "parameter of the start": (
        ("mesh_size: 0.4", "initial: {q: 1}"),
        "F:6: geometry.initial.q: found 'q'; expected a parameter: r0, ",
    ),
    "start outside the family's bounds": (
        ("mesh_size: 0.4", "initial: {r0: 7}"),
        "F:6: geometry.initial.r0: found 7.0; expected ",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_unknown_is_named_by_file_line_and_key(tmp_path, case):
    change, message = CHANGES[case]
    path = write_tiny(tmp_path, change)
    with pytest.raises(StudyError) as caught:
        build_setup(load_study(path))
    text = str(caught.value).replace(str(path), "F")
    assert text.startswith(message)
    assert "\n" not in text


def test_an_override_is_named_in_place_of_the_line(tmp_path):
    with pytest.raises(StudyError, match=r"^override 'physics.source.w=1': physics.source.w: found 'w'"):
        build_setup(load_study(write_tiny(tmp_path), ["physics.source.w=1"]))


def test_a_start_that_is_no_shape_is_refused(tmp_path):
    """A needle through the middle of the bar: the map folds, or the outline crosses itself."""
    wide = ["geometry.bounds.r0=[-9, 9]", "geometry.initial.r0=-8"]
    with pytest.raises(StudyError, match=r"geometry.initial: found a start design that is no valid shape"):
        build_setup(load_study(write_tiny(tmp_path), wide))


def test_contradicting_conditions_are_refused(tmp_path):
    both = "physics.natural=[{on: wall, u: 1.0}]"
    with pytest.raises(StudyError, match=r"physics.*'u' has a boundary value and a natural condition on 'wall'"):
        build_setup(load_study(write_tiny(tmp_path), [both]))


def test_targets_may_be_those_of_the_start(tmp_path):
    setup = build_setup(load_study(write_tiny(tmp_path), ["constraints.0.equals=initial"]))
    assert setup.constraints[0].target == pytest.approx(float(setup.quantity("area", setup.initial)), rel=1e-14)


def test_units_are_those_of_the_study(tmp_path):
    setup = build_setup(load_study(write_tiny(tmp_path), ["geometry.length_unit=mm"]))
    assert setup.constraints[0].unit == "mm^2"
    assert {parameter.unit for parameter in setup.family.parameters} == {"mm"}


def test_a_surrogate_is_bound_to_what_it_learns_and_to_nothing_else(tmp_path):
    """Bounds, start, targets, thickness and the search change nothing of it; mesh, physics and network do."""

    def trained_for(*overrides):
        return build_setup(load_study(write_tiny(tmp_path), overrides)).trained_for()

    same = (
        "geometry.bounds.r0=[0.7, 1.2]", "geometry.initial.r1=1.1", "geometry.options.start=star",
        "constraints.0.equals=2.5", "optimizer.starts=9", "geometry.thickness=2", "sampling.seed=5",
    )  # fmt: skip
    assert trained_for(*same) == trained_for()
    other = ("physics.source.u=3", "geometry.mesh_size=0.5", "surrogate.width=8", "geometry.length_unit=mm")
    for override in other:
        assert trained_for(override) != trained_for()


def test_an_option_called_start_counts_in_a_family_of_ones_own(tmp_path):
    """Only of closed_bar is it known that it changes nothing but where a search begins."""
    (tmp_path / "own.py").write_text("Wedge = None\n")

    def key(*overrides):
        return geometry_key(load_study(write_tiny(tmp_path), overrides))

    own = ("geometry.family=own.py:Wedge",)
    assert key(*own, "geometry.options={start: 0.0}") != key(*own, "geometry.options={start: 0.5}")
    assert key("geometry.options.start=l") == key("geometry.options.start=ellipse")
