"""Promise: no study file hangs the program, fills its memory or makes a traceback, whatever it holds.

Each case here once did one of these; the error is one line that names the file, and the line where there is one.
"""

import pytest

from shapewright.studies.problem.operator_setup import load_operator_study
from shapewright.studies.schema.loader import StudyError, load_study
from shapewright.studies.schema.yaml_source import MAX_BYTES, MAX_ENTRIES

BAR = """\
name: bar
geometry: {family: closed_bar}
physics: {name: poisson, source: 2}
objective: {maximize: torsional_constant}
"""


@pytest.fixture
def complain(tmp_path):
    def complain(text, *overrides, load=load_study):
        path = tmp_path / "study.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(StudyError) as caught:
            load(path, overrides)
        return str(caught.value).replace(str(path), "F")

    return complain


def levels(pattern, count=11):
    """Lines of which each uses the one before nine times: nine to the power of ``count`` entries."""
    uses = lambda k: ", ".join([f"*a{k - 1}"] * 9)  # noqa: E731
    return "".join(f"a{k}: &a{k} " + pattern.format(uses=uses(k), k=k) + "\n" for k in range(1, count))


TOO_MANY = f"more than {MAX_ENTRIES} entries"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a0: &a0 [1]\n" + levels("[{uses}]"), f"F:5: {TOO_MANY}; does an alias (*name) stand for many?"),
        ("a0: &a0 {x: 1}\n" + levels("{{<<: [{uses}], x{k}: 1}}"), f"F:5: {TOO_MANY}; does an alias"),
        ("a0: &a0 [1]\n" + levels("[{uses}]") + "a0: *a10\n", f"F:5: {TOO_MANY}"),
        ("\n".join(f"k{i}: {i}" for i in range(60_000)), f"F:5000: {TOO_MANY}; a study has about 100"),
        ("a: [" + "1," * 400_000 + "]", f"F:1: {TOO_MANY}"),
        ("a: " + "[" * 100_000, "F:1: more than 50 lists and mappings within each other"),
        ("- " * 50_000, "F:1: more than 50 lists and mappings within each other"),
        ("? " * 50_000, "F:1: more than 50 lists and mappings within each other"),
        ("a: " + "x" * MAX_BYTES, f"F: has more than {MAX_BYTES} bytes"),
        (f"a: &a {'x' * 100_000}\nb: [{'*a, ' * 100}]", f"F:2: more than {MAX_BYTES} characters with all aliases"),
        ("a: &a [1, *a]", "F:1: the alias *a refers to itself"),
    ],
)
def test_files_that_stand_for_too_much_are_refused_before_they_are_composed(complain, text, error):
    found = complain(text)
    assert found.startswith(error)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("9" * 309, "found a whole number of 309 digits; expected at most 308"),
        ("9" * 5000, "found a whole number of 5000 digits; expected at most 308"),
        ("0x" + "f" * 400, "found a whole number of 402 digits; expected at most 308"),
        ("0b_", "found '0b_', which is no number"),
        ("!!int five", "found 'five', which is no number"),
    ],
)
def test_whole_numbers_that_no_computation_can_hold(complain, value, error):
    assert complain(f"{BAR}sampling:\n  designs: {value}\n") == f"F:6: not valid YAML: {error}"
    assert complain(BAR, f"sampling.designs={value}") .endswith(error)


@pytest.mark.parametrize("tag", ["!!set {a, b}", "!!omap [a: 1]", "!!binary aGk=", "!!bool foo", "!mine 3", "! 3"])
def test_yaml_tags(complain, tag):
    name = tag.split()[0]
    assert complain(BAR.replace("{family: closed_bar}", tag)).startswith(f"F:2: found the YAML tag {name}; expected")


def test_dates_are_text(complain):
    assert "found '2001-13-45' (text); expected a whole number" in complain(f"{BAR}sampling: {{designs: 2001-13-45}}")


@pytest.mark.parametrize("kind", ["[1]", "{a: 1}", "3", "null", "true", "opreator"])
@pytest.mark.parametrize("load", [load_study, load_operator_study])
def test_any_kind_of_kind(complain, kind, load):
    text = complain(f"kind: {kind}\nname: [1]\n", load=load)
    assert "F:1: kind: " in text or kind == "null"


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\0b"', '"\\x1b[31m"'])
def test_characters_that_no_file_or_terminal_should_get(complain, text):
    assert complain(f"name: bar\ndescription: {text}\n").startswith("F:2: found the character '\\")
    assert complain(f"name: bar\n{text}: 1\n").startswith("F:2: found the character '\\")


def test_long_keys_and_values_are_shortened(complain):
    found = complain(f"{BAR}{'k' * 1000}: 1\n")
    assert found.startswith(f"F:5: {'k' * 57}...: unknown key; allowed: name")
    assert len(complain(BAR, "optimizer." + "k" * 5000 + "=1")) < 500
    assert len(complain(BAR, "constraints." + "9" * 5000 + "=1")) < 500
    assert len(complain(f"{BAR}name: {'y' * 9000}\n")) < 200  # twice the same key: YAML's own message has the value


def test_of_very_many_errors_the_first_are_told(complain):
    lines = complain(BAR + "\n".join(f"k{i}: {i}" for i in range(3000))).splitlines()
    assert lines[0].startswith("F:5: k0: unknown key")
    assert lines[20:] == ["F: 2980 further errors"]


def test_an_override_changes_one_of_what_an_alias_shares(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(BAR.replace("{family: closed_bar}", "{family: closed_bar, bounds: {r0: &b [0.5, 1.5], r1: *b}}"))
    assert load_study(path, ["geometry.bounds.r0=[0.6, 1.5]"]).model.geometry.bounds["r1"] == (0.5, 1.5)
