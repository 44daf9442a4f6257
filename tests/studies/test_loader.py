"""Promise: a study loads, writes back and loads equal; all that is wrong is said together, by line."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shapewright.geometries.design.measures import QUANTITIES
from shapewright.geometries.family.catalogue import load_family
from shapewright.solvers.physics.catalogue import PHYSICS
from shapewright.studies.schema.expressions import parse
from shapewright.studies.schema.learning import Training
from shapewright.studies.schema.loader import RESOLVED, StudyError, dump, load_study
from shapewright.studies.schema.renamed import RENAMED, first_named

STUDIES = Path(__file__).parents[2] / "studies"
SHIPPED = sorted(
    path for path in STUDIES.glob("*.yaml") if "\nkind:" not in path.read_text() and "\n  cad:" not in path.read_text()
)
MINIMAL = """\
name: bar
geometry:
  family: closed_bar
physics: {name: poisson, source: 2}
objective: {maximize: torsional_constant}
constraints:
  - {quantity: area, equals: 3.0}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="study.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def faults(path, *overrides):
    with pytest.raises(StudyError) as caught:
        load_study(path, overrides)
    return str(caught.value).replace(f"{path}", "F").splitlines()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_load_and_write_back(path, write):
    study = load_study(path)
    assert study.model.name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert load_study(write(dump(study))).model == study.model


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_name_only_what_exists(path):
    model = load_study(path).model
    family = load_family(model.geometry.family, model.geometry.options, STUDIES)
    physics = PHYSICS[model.physics.name]
    conditions = [*model.physics.dirichlet, *model.physics.natural]
    assert {tag for condition in conditions for tag in condition.tags} <= set(family.tags)
    assert {name for condition in conditions for name in condition.values} <= set(physics.components)
    quantities = {*QUANTITIES, *(functional.name for functional in physics.functionals)}
    assert {constraint.quantity for constraint in model.constraints} <= quantities
    assert physics.functional(model.objective.functional_name).name == model.objective.functional_name
    for condition in model.physics.dirichlet:
        for value in condition.values.values():
            parse(value, ("x", "y"), "dirichlet")


def test_every_mistake_is_reported_with_its_line(write):
    path = write(
        """\
name: a b
geometry:
  family: closed_bar
  optoins: {}
  bounds:
    r0: [1, x]
  mesh_size: -1
physics:
  source: {u: true}
  dirichlet:
    - {on: wall}
    - {on: wall,
       u: .nan}
objective: {minimize: {nam: mismatch, integrand: u**2}}
constraints:
  - {quantity: area, equals: foo}
optimizer: {max_iterations: abc}
traning: {}
"""
    )
    assert faults(path) == [
        "F:1: name: found 'a b' (text); expected a name of letters, digits, _ . -",
        "F:4: geometry.optoins: unknown key; did you mean 'options'? "
        "allowed: family, options, bounds, initial, fixed, length_unit, thickness, mesh_size",
        "F:6: geometry.bounds.r0.1: found 'x' (text); expected a number",
        "F:7: geometry.mesh_size: found -1 (a number); expected a number > 0",
        "F:8: physics.name: missing; expected text",
        "F:9: physics.source.u: found true (true or false); expected a number or a formula",
        "F:11: physics.dirichlet.0: found no component; expected at least one with its value, such as u: 0",
        "F:13: physics.dirichlet.1.u: found nan (not finite); expected a number or a formula",
        "F:14: objective.minimize.name: missing; expected text",
        "F:14: objective.minimize.nam: unknown key; did you mean 'name'? allowed: name, integrand, on, unit, mean, "
        "sum, weights, worst, sharpness",
        "F:16: constraints.0.equals: found 'foo' (text); expected a number or 'initial'",
        "F:17: optimizer.max_iterations: found 'abc' (text); expected a whole number >= 1",
        "F:18: traning: unknown key; did you mean 'training'? allowed: name, description, geometry, physics, "
        "objective, objectives, front, scatter, constraints, sampling, engine, surrogate, training, optimizer, model, "
        "infill, validation",
    ]


@pytest.mark.parametrize(
    ("text", "fault_in"),
    [
        ("", "F: the file is empty"),
        ("# nothing\n", "F: the file is empty"),
        ("- name: bar\n", "F:1: found a list of 1; expected a mapping"),
        ("torsion", "F:1: found 'torsion' (text); expected a mapping"),
        ("name: bar\ngeometry: [1\n", "F:3: not valid YAML"),
        ("name: bar\n\tgeometry: 1\n", "F:2: not valid YAML"),
        ("name: bar\nphysics: {}\nname: rod\n", 'F:3: not valid YAML: found duplicate key "name"'),
        ("name: bar\n1: 2\n", "F:2: found the key 1; expected keys that are text"),
        ("name: *bar\n", "F:1: not valid YAML: found undefined alias 'bar'"),
        (
            "name: !!python/object/apply:os.system [x]\n",
            "F:1: found the YAML tag !!python/object/apply:os.system; expected numbers, text",
        ),
        ("a: &a [*a]\n", "F:1: the alias *a refers to itself"),
        ("a: " + "[" * 3000, "F:1: more than 50 lists and mappings within each other"),
        ("name: a\n---\nname: b\n", "F:2: not valid YAML"),
        (b"\xff\xfe\xfa", "F: cannot be read as text"),
        ("name: \x00", "F: not valid YAML"),
    ],
)
def test_files_that_are_no_study(write, text, fault_in):
    assert faults(write(text))[0].startswith(fault_in)


def test_missing_files(tmp_path):
    assert faults(tmp_path / "no.yaml") == ["F: there is no such file"]
    assert faults(tmp_path)[0].startswith("F: cannot be read as text")


def test_the_physics_must_exist(write):
    path = write(MINIMAL.replace("poisson", "poison"))
    allowed = f"{', '.join(PHYSICS)}, or your own as my_physics.py:Name"
    assert faults(path) == [f"F:4: physics.name: found 'poison' (text); expected one of {allowed}"]


def test_overrides_are_typed_by_the_rules_of_yaml(write):
    overrides = [
        "optimizer.max_iterations=50",
        "optimizer.tolerance=1e-6",
        "geometry.options.start=ellipse",
        "geometry.options.control_points=12",
        "geometry.bounds.r0=[0.5, 1.5]",
        "constraints.0.equals=initial",
        "physics.source=2*x",
        "surrogate.weights=bar.safetensors",
        "optimizer.max_iterations=60",
    ]
    model = load_study(write(MINIMAL), overrides).model
    assert model.optimizer.max_iterations == 60
    assert model.optimizer.tolerance == 1e-6
    assert model.geometry.options == {"start": "ellipse", "control_points": 12}
    assert model.geometry.bounds == {"r0": (0.5, 1.5)}
    assert model.constraints[0].target == "initial"
    assert model.physics.source == "2*x"
    assert model.surrogate.weights == "bar.safetensors"


@pytest.mark.parametrize(
    ("override", "fault_in"),
    [
        (
            "optimizer.max_iteration=50",
            "optimizer.max_iteration: unknown key; did you mean 'max_iterations'?",
        ),
        ("optimiser.seed=1", "optimiser: unknown key; did you mean 'optimizer'?"),
        (
            "optimizer.max_iterations=abc",
            "optimizer.max_iterations: found 'abc' (text); expected a whole number >= 1",
        ),
        (
            "optimizer.max_iterations=",
            "optimizer.max_iterations: found nothing; expected a whole number >= 1",
        ),
        ("optimizer.seed=[1", "not valid YAML"),
        (
            "constraints.3.equals=1",
            "constraints is a list of 1 and has no entry '3'; give constraints=... as a whole",
        ),
        (
            "objective.maximize.integrand=u",
            "objective.maximize is 'torsional_constant' (text) and has no entry",
        ),
        ("name.below=1", "name is 'bar' (text) and has no entry 'below'"),
        ("surrogate.grid.0=64", "surrogate.grid.0: unknown key"),
        ("optimizer.seed", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("optimizer..seed=3", "expected KEY=VALUE"),
    ],
)
def test_wrong_overrides_are_named(write, override, fault_in):
    (line,) = faults(write(MINIMAL), override)
    assert line.startswith(f"override '{override}': {fault_in}")


def test_a_later_stage_can_name_the_line(write):
    study = load_study(write(MINIMAL), ["sampling.seed=3"])
    path = study.path
    line = study.error("constraints.0.quantity", "'aera' (text)", "one of area, gap")
    assert str(line) == f"{path}:7: constraints.0.quantity: found 'aera' (text); expected one of area, gap"
    assert str(study.error("optimizer.seed", "1", "2")).startswith(f"{path}:1: optimizer.seed")
    assert str(study.error("geometry.initial.r0", "1", "2")).startswith(f"{path}:2: geometry.initial.r0")
    assert str(study.error("sampling.seed", "3", "4")).startswith("override 'sampling.seed=3': sampling.seed")


def test_paths_follow_the_resolved_study(write, tmp_path):
    text = MINIMAL.replace("closed_bar", "shapes/my.py:Nozzle") + "surrogate: {weights: bar.safetensors}\n"
    study = load_study(write(text))
    (tmp_path / "out" / "bar").mkdir(parents=True)
    copy = load_study(write(dump(study, tmp_path / "out" / "bar"), "out/bar/study.yaml"))
    assert copy.model.geometry.family == "../../shapes/my.py:Nozzle"
    assert (copy.folder / copy.model.surrogate.weights).resolve() == tmp_path / "bar.safetensors"


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
printable = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Cn", "Co")), min_size=1
)
values = st.recursive(
    numbers | printable | st.booleans(), lambda items: st.lists(items, max_size=3), max_leaves=5
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    options=st.dictionaries(printable, values, max_size=3),
    description=printable,
    target=numbers,
    source=printable | numbers,
)
def test_whatever_a_study_holds_survives_being_written(write, options, description, target, source):
    base = load_study(write(MINIMAL))
    model = base.model.model_validate(
        base.model.model_dump(exclude_none=True)
        | {
            "description": description,
            "geometry": {"family": "closed_bar", "options": options},
            "physics": {"name": "poisson", "source": source},
            "constraints": [{"quantity": "area", "equals": target}],
        }
    )
    study = type(base).of_model(model, base.path, base.source)
    assert load_study(write(dump(study))).model == model


@pytest.mark.parametrize(("old", "new"), [(key.rpartition(".")[2], new) for key, new in RENAMED.items()])
def test_a_renamed_key_is_refused_by_its_new_name_but_taken_in_the_programs_own_file(tmp_path, old, new):
    value = "{steps: 3}" if old == "finish" else "0.25"
    text = MINIMAL + f"training: {{{old}: {value}}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(StudyError, match=rf"mine.yaml:\d+: training.{old}: is named '{new}' now; write {new}"):
        load_study(tmp_path / "mine.yaml")
    (tmp_path / RESOLVED).write_text(text)
    left = load_study(tmp_path / RESOLVED).model.training
    (tmp_path / "new.yaml").write_text(text.replace(old, new))
    assert left == load_study(tmp_path / "new.yaml").model.training


def test_a_new_name_of_a_key_makes_no_stage_anew():
    training = Training(residual_weight=0.5).model_dump()
    assert set(first_named("training", training)) ^ set(training) == {*RENAMED.values()} | {
        key.rpartition(".")[2] for key in RENAMED
    }
    assert first_named("training", training)["discarded"] == 0.5
