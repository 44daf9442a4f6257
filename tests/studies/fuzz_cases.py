"""Shipped studies with a coarse mesh, and ways to spoil them: as data, as formulas and as text."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from ruamel.yaml import YAML

from shapewright.studies.schema.describe import names
from shapewright.studies.schema.operator_study import OperatorStudyModel
from shapewright.studies.schema.study import StudyModel

STUDIES = Path(__file__).parents[2] / "studies"
NAMES = ("torsion", "stokes_body", "plate_hole", "ns_body", "lid_cavity", "nonlinear_poisson", "hyperelasticity")
"""Designs and operators; channel_flow and stokes_square have the keys of these."""
COARSE = {"torsion": 0.6, "stokes_body": 0.3, "plate_hole": 2.0, "ns_body": 0.3}

VALUES = (
    "", "~", "true", "0", "-1", "1", "-0.0", "1e-300", "1e300", ".nan", ".inf", "-.inf", "1e999", "9" * 309, "0x1F",
    "1_000", "2001-01-01", "text", "''", "' '", '"peak[/red]"', '"[bold]"', '"\\ud800"', '"\\0"', '"line\\nfeed"',
    "größe", "[]", "[1]", "[1, 2]", "[2, 1]", "[a, b, c]", "[[1, 2], [3, 4]]", "[~]", "{}", "{a: 1}", "{u: 1}",
    "{name: a, integrand: u}", "!!set {a, b}", "!!str 5", "!!python/name:os.system", "*unknown", "&a [*a]", "initial",
    "../../etc/passwd", "x" * 2000, "wall", "u", "area", "drag", "Add", "lambda", "2.5", "'3'", "1000000000000",
)  # fmt: skip
"""Values of every type, as they are written."""
FORMULAS = (
    "x+", "0", "0*u", "u - u", "1/0", "log(-1)", "sqrt(x - 100)", "1/x", "1/(x*0)", "nan", "inf", "9**9**9", "x**1e9",
    "exp(1000*x)", "sin", "sin(x", "sin(x, y)", "foo(x)", "__import__('os')", "lambda: 0", "x if y else 1", "x y",
    "u_x", "u_x_y", "(u_x*nx + u_y*ny)**2", "abs(u)", "maximum(u, v)", "p", "x" + " + x" * 200,
    "(" * 80 + "x" + ")" * 80, "é", "x^2", "x;y", "1e400", "u**0.5", "tanh(1e6*x)", "x > 0", "where(x > 0, 1, 2)",
    "nx", "conductivity", "radius",
)  # fmt: skip
FRAGMENTS = (
    "", " ", "\n", ":", "-", "[", "]", "{", "}", "'", '"', "#", "\t", "  ", "&a ", "*a", "!!set ", "? ", "| ", "<<: ",
    "---\n", "...\n", "%YAML 1.1\n", "\ufeff", "\u2028", "é", "0", "a: 1\n", ": :", "{{{{", "]]]]",
)  # fmt: skip


HOW = ("value", "value", "formula", "formula", "formula", "scale", "scale", "scale", "drop", "rename", "nest", "swap")
HOW += ("integral", "new", "new")


def plain_yaml() -> YAML:
    """Block style, keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    return yaml


@cache
def shipped(name: str) -> str:
    """A shipped study as text, without weights and with coarse meshes."""
    data = plain_yaml().load((STUDIES / f"{name}.yaml").read_text())
    data["geometry"]["mesh_size"] = COARSE.get(name, 0.5)
    data["surrogate"] = {"grid": [16, 16], "width": 4, "hidden": 4, "modes": 4, "layers": 1}
    return written(data)


def written(data: Any) -> str:
    """YAML text."""
    text = StringIO()
    plain_yaml().dump(data, text)
    return text.getvalue()


def places(data: Any) -> list[tuple[Any, Any]]:
    """Container and key of every entry."""
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [pair for key, item in entries for pair in ((data, key), *places(item))]


@st.composite
def invalid_studies(draw: st.DrawFn) -> str:
    """Text of a shipped study with one to three things wrong, or right in an odd way."""
    data = plain_yaml().load(shipped(draw(st.sampled_from(NAMES))))
    raw: list[str] = []
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        _spoil(draw, data, raw)
    text = written(data)
    for index, fragment in enumerate(raw):
        text = text.replace(f"ZZ{index}ZZ", fragment)
    return _edited(draw, text) if draw(st.integers(0, 4)) == 0 else text


def _spoil(draw: st.DrawFn, data: dict[str, Any], raw: list[str]) -> None:
    def fragment(text: str) -> str:
        raw.append(text)
        return f"ZZ{len(raw) - 1}ZZ"

    how = draw(st.sampled_from(HOW))
    chosen = [p for p in places(data) if how != "scale" or _is_number(p[0][p[1]])]
    container, key = draw(st.sampled_from(chosen or [(data, "name")]))
    old = container.get(key) if isinstance(container, dict) else container[key]
    match how:
        case "value":
            container[key] = fragment(draw(st.sampled_from(VALUES)))
        case "formula":
            formulas = [p for p in places(data.get("physics", data)) if isinstance(p[0][p[1]], str | float)]
            container, key = draw(st.sampled_from(formulas or [(data, "name")]))
            container[key] = draw(st.sampled_from(FORMULAS))
        case "drop":
            del container[key]
        case "rename" if isinstance(container, dict):
            del container[key]
            name = draw(st.sampled_from((fragment("text"), f"{key}s", str(key)[1:], "on", "u", "k" * 900, "equals")))
            container[name] = old
        case "scale" if _is_number(old):
            scaled = old * draw(st.sampled_from((0.5, 0.8, 1.1, 1.5, 2, 10, -1, 0, -1e3, 1e6, 1e-6, 1e100)))
            container[key] = int(scaled) if isinstance(old, int) and abs(scaled) < 1e15 else scaled
        case "integral":
            integral = {"name": "mine", "integrand": draw(st.sampled_from(FORMULAS)), "unit": "m"}
            if draw(st.booleans()):
                integral["on"] = draw(st.sampled_from(("wall", "body", "hole", "inlet")))
            if draw(st.booleans()):
                data["objective"] = {"minimize": integral}
            else:
                data["constraints"] = [{"quantity": integral, draw(st.sampled_from(("at_most", "equals"))): 1}]
        case "new":
            section = draw(st.sampled_from(("geometry", "physics", "objective", "surrogate", "training", "optimizer")))
            model = OperatorStudyModel if "kind" in data else StudyModel
            if isinstance(data.setdefault(section, {}), dict):
                data[section][draw(st.sampled_from(names((section,), model) or ["a"]))] = fragment(
                    draw(st.sampled_from(VALUES))
                )
        case "nest":
            container[key] = draw(st.sampled_from(([old], {"a": old}, [old, deepcopy(old)], [[old]])))
        case _:
            other, name = draw(st.sampled_from(places(data)))
            container[key] = deepcopy(other[name])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _edited(draw: st.DrawFn, text: str) -> str:
    lines = text.splitlines(keepends=True)
    at = draw(st.integers(0, len(lines) - 1))
    match draw(st.sampled_from(("insert", "replace", "twice", "lose", "cut", "indent"))):
        case "insert" | "replace" as how:
            start = draw(st.integers(0, len(text)))
            end = start + draw(st.integers(1, 20)) * (how == "replace")
            return text[:start] + draw(st.sampled_from(FRAGMENTS)) + text[end:]
        case "twice":
            return "".join([*lines[: at + 1], lines[at], *lines[at + 1 :]])
        case "lose":
            return "".join([*lines[:at], *lines[at + 1 :]])
        case "cut":
            return text[: draw(st.integers(0, len(text)))]
    return "".join([*lines[:at], re.sub("^ *", " " * draw(st.integers(0, 8)), lines[at]), *lines[at + 1 :]])
