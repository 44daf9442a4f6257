"""Promise: a formula means in torch, UFL and sympy what it means on paper, and nothing else gets through."""

import ast
import math
from contextlib import suppress

import numpy as np
import pytest
import sympy
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from shapewright.studies.schema.expressions import CONSTANTS, FUNCTIONS, ExpressionError, parse
from shapewright.studies.schema.grammar import MAX_LENGTH

NAMES = ("x", "y", "u", "u_x", "viscosity")
VALUES = {"x": 0.3, "y": 0.7, "u": -1.2, "u_x": 2.5, "viscosity": 0.9}
BINARY = ("atan2", "maximum", "minimum")
UNARY = tuple(name for name in FUNCTIONS if name not in (*BINARY, "where"))

COMPARED = ("<", "<=", ">", ">=", "> 0.5 and 2 <", "> 1 or x <")

leaves = st.one_of(
    st.sampled_from([*NAMES, *CONSTANTS]),
    st.integers(0, 9).map(str),
    st.floats(0.01, 9, allow_subnormal=False).map(lambda value: f"{value:.3g}"),
)


def grow(parts):
    return st.one_of(
        st.tuples(parts, st.sampled_from(["+", "-", "*", "/"]), parts).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        st.tuples(parts, st.sampled_from(["+", "-", "*", "/"]), parts).map(" ".join),
        st.tuples(parts, st.sampled_from(["2", "3", "-1", "-2", "0.5", "(1/2)"])).map(
            lambda t: f"({t[0]})**{t[1]}"
        ),
        parts.map(lambda part: f"-{part}"),
        st.tuples(st.sampled_from(UNARY), parts).map(lambda t: f"{t[0]}({t[1]})"),
        st.tuples(st.sampled_from(BINARY), parts, parts).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
        st.tuples(parts, st.sampled_from(COMPARED), parts, parts, parts).map(
            lambda t: f"where({t[0]} {t[1]} {t[2]}, {t[3]}, {t[4]})"
        ),
    )


formulas = st.recursive(leaves, grow, max_leaves=12)


def atan2_off_its_cut(y, x):
    if abs(y) < 1e-9 and x <= 0:
        raise ValueError("the sign of a zero would decide")
    return math.atan2(y, x)


def by_python(text, values):
    names = {**FUNCTIONS, "atan2": atan2_off_its_cut, **values}
    value = eval(text, {"__builtins__": {}}, names)
    if isinstance(value, complex) or not abs(value) < 1e8:
        raise ValueError("not real, or far out of range")
    return value


def on_paper(text):
    """Value by Python's own rules, of formulas that are defined and well-conditioned at VALUES."""
    try:
        value = by_python(text, VALUES | CONSTANTS)
        nearby = by_python(text, {name: v * (1 + 1e-13) for name, v in (VALUES | CONSTANTS).items()})
    except (ArithmeticError, ValueError, TypeError):  # TypeError: a function of a complex intermediate
        assume(False)
    assume(math.isclose(value, nearby, rel_tol=1e-10, abs_tol=1e-10))
    return value


def parsed(text):
    try:
        return parse(text, NAMES, "source.u")
    except ExpressionError:
        assume(False)


@given(formulas)
def test_torch_gives_what_the_formula_means(text):
    expression = parsed(text)
    value = on_paper(text)
    q = {name: torch.tensor([number, number], dtype=torch.float64) for name, number in VALUES.items()}
    result = torch.as_tensor(expression(torch, q), dtype=torch.float64)
    assert torch.allclose(result, torch.full_like(result, value), rtol=1e-9, atol=1e-9)
    assert expression.names == {
        node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)
    } & {*NAMES}


@given(formulas)
def test_numpy_and_plain_numbers_give_the_same(text):
    expression = parsed(text)
    value = on_paper(text)
    assert expression(torch, VALUES) == pytest.approx(value, rel=1e-9, abs=1e-9)
    q = {name: np.array([number, number]) for name, number in VALUES.items()}
    with np.errstate(all="ignore"):  # of branches that are not taken
        result = np.asarray(expression(np, q), dtype=float)
    np.testing.assert_allclose(result, value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "2*exp(-x**2)*y",
        "(u - 0.36 + x**2)**2",
        "maximum(x, 0.1)*u",
        "x/y/u_x",
        "atan2(y, 2)*sqrt(viscosity)",
        "tanh(u_x)**-2",
        "where(x > y, u, u_x**2)*y",
        "where(x < y and u < 0, sqrt(x), x/(x - 0.3))",
    ],
)
def test_the_derivative_is_that_of_sympy(text):
    expression = parse(text, NAMES, "integrand")
    q = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in VALUES.items()}
    expression(torch, q).backward()
    known = {name: sympy.Symbol(name, real=True) for name in NAMES}
    functions = {"maximum": sympy.Max, "where": lambda c, yes, no: sympy.Piecewise((yes, c), (no, True))}
    tree = sympy.sympify(text.replace("x < y and u < 0", "(x < y) & (u < 0)"), known | functions)
    for name in expression.names:
        exact = float(tree.diff(known[name]).subs({known[k]: v for k, v in VALUES.items()}))
        found = q[name].grad
        assert (0.0 if found is None else float(found)) == pytest.approx(exact, rel=1e-12)


@given(formulas)
def test_ufl_gives_what_the_formula_means(text):
    basix_ufl, ufl = pytest.importorskip("basix.ufl"), pytest.importorskip("ufl")
    ufl_ops = pytest.importorskip("shapewright.solvers.fem.ufl_ops")
    expression = parsed(text)
    value = on_paper(text)
    mesh = ufl.Mesh(basix_ufl.element("Lagrange", "triangle", 1, shape=(2,)))
    space = ufl.FunctionSpace(mesh, basix_ufl.element("Lagrange", "triangle", 1))
    x = ufl.SpatialCoordinate(mesh)
    fields = {name: ufl.Coefficient(space) for name in ("u", "u_x", "viscosity")}
    result = ufl.as_ufl(expression(ufl_ops, {"x": x[0], "y": x[1], **fields}))
    number = result((VALUES["x"], VALUES["y"]), {field: VALUES[name] for name, field in fields.items()})
    assert number == pytest.approx(value, rel=1e-9, abs=1e-9)


def test_nested_absolute_values_end():
    """UFL's Abs of an Abs is its own operand, on which every traversal runs forever."""
    ufl = pytest.importorskip("ufl")
    basix_ufl, ufl_ops = pytest.importorskip("basix.ufl"), pytest.importorskip("shapewright.solvers.fem.ufl_ops")
    x = ufl.SpatialCoordinate(ufl.Mesh(basix_ufl.element("Lagrange", "triangle", 1, shape=(2,))))
    value = parse("abs(abs(abs(x)))", ["x"], "source")(ufl_ops, {"x": x[0]})
    assert value((-0.5, 0.0)) == 0.5


def test_a_quotient_and_a_power_stay_cheap_for_ufl():
    """UFL takes the quadrature degree from the form of an expression: x**2 must stay a whole power."""
    ufl = pytest.importorskip("ufl")
    basix_ufl, ufl_ops = pytest.importorskip("basix.ufl"), pytest.importorskip("shapewright.solvers.fem.ufl_ops")
    x = ufl.SpatialCoordinate(ufl.Mesh(basix_ufl.element("Lagrange", "triangle", 1, shape=(2,))))
    q = {"x": x[0], "y": x[1]}
    assert parse("x**2*y", q, "source")(ufl_ops, q) == x[0] ** 2 * x[1]
    assert parse("x/y", q, "source")(ufl_ops, q) == x[0] / x[1]


@pytest.mark.parametrize(
    ("text", "column", "found"),
    [
        ("__import__('os').system('x')", 12, "character"),
        ("x.real", 1, "'x.real'"),
        ("().__class__.__bases__", 1, "__class__"),
        ("(lambda: 0)()", 8, "':'"),
        ("x[0]", 2, "'['"),
        ("x < y", 1, "'x < y'"),
        ("where(x, 1, 2)", 7, "'x'"),
        ("where(x == y, 1, 2)", 7, "'x == y'"),
        ("where(x > 0 & y > 0, 1, 2)", 11, "'0 & y'"),
        ("where(x > 0 and y, 1, 2)", 17, "'y'"),
        ("where(x > 0 > 1 if y else x > 1, 1, 2)", 7, "if y"),
        ("where(x > __import__, 1, 2)", 11, "the name '__import__'"),
        ("where(x > 0, 1)", 1, "where(x > 0, 1)"),
        ("where(x > 0, 1/0, 1)", 14, "division by zero"),
        ("1/where(1 > 2, x, 0)", 1, "division by zero"),
        ("x > 0", 1, "'x > 0'"),
        ("sin(x > 0)", 5, "'x > 0'"),
        ("x | y", 1, "'x | y'"),
        ("x << 2", 1, "x << 2"),
        ("x := 2", 3, "':'"),
        ("y + open(x)", 5, "the function 'open'"),
        ("exec(x)", 1, "the function 'exec'"),
        ("Integer(3)", 1, "the function 'Integer'"),
        ("Symbol", 1, "the name 'Symbol'"),
        ("__builtins__", 1, "the name '__builtins__'"),
        ("x(1)", 1, "the function 'x'"),
        ("x if x else y", 1, "x if x"),
        ("x and y", 1, "x and y"),
        ("sin(*x)", 5, "'*x'"),
        ("sin(x, y)", 1, "sin(x, y)"),
        ("x, y", 1, "x, y"),
        ("x // 2", 1, "x // 2"),
        ("1j*x", 1, "1j"),
        ("0x10", 1, "0x10"),
        ("1_000", 1, "1_000"),
        ("True", 1, "True"),
        ("...", 1, "..."),
        ("x y", 3, "invalid syntax"),
        ("x) + (y", 2, "unmatched"),
        ("  2 + é", 7, "'é'"),
        ("ｘ", 1, "character"),
        ("", 1, "nothing"),
        ("   ", 1, "nothing"),
        ("9**9**9", 4, "the exponent '9**9'"),
        ("x**1000", 4, "the exponent '1000'"),
        ("(((2**-64)**64)**64)", 3, "too small"),
        ("10.0**100*10.0**100*10.0**100*10.0**100", 1, "finite"),
        ("1e400", 1, "1e400"),
        ("x/(1 - 1)", 1, "division by zero"),
        ("0**-1", 1, "0**-1"),
        ("(-8)**0.5", 1, "(-8)**0.5"),
        ("2*log(0)", 3, "log(0)"),
        ("exp(1000)", 1, "exp(1000)"),
        ("(" * 250 + "x", 201, "too many nested parentheses"),
        ("-" * 400 + "x", 62, "nested"),
        ("+".join("x" * 100), 1, "chained"),
        ("x" * (MAX_LENGTH + 1), 1, "501 characters"),
    ],
)
def test_what_is_outside_the_grammar_is_refused(text, column, found):
    with pytest.raises(
        ExpressionError, match=rf"^source\.u: found .* in column {column}; allowed: "
    ) as caught:
        parse(text, NAMES, "source.u")
    assert found in str(caught.value)


def test_a_typo_is_answered_by_the_nearest_name():
    with pytest.raises(ExpressionError, match="did you mean 'viscosity'"):
        parse("2*viscosty", NAMES, "source.u")
    with pytest.raises(ExpressionError, match="did you mean 'sqrt'"):
        parse("sqr(x)", NAMES, "source.u")
    with pytest.raises(ExpressionError, match=r"a power is written \*\*"):
        parse("x^2", NAMES, "source.u")


@given(st.text(alphabet="xyu_.()+-*/,019e sincoslgpi\n[]'\"=:@", max_size=40))
def test_any_text_is_parsed_or_refused(text):
    """Nothing but an ExpressionError comes out, and what is accepted uses permitted names only."""
    with suppress(ExpressionError):
        assert parse(text, NAMES, "source.u").names <= {*NAMES}


def test_numbers_are_formulas():
    assert parse(2.5, (), "source.u")(torch, {}) == 2.5
    assert parse(-1e-9, (), "source.u")(torch, {}) == -1e-9
    assert parse("1e-3", (), "source.u")(torch, {}) == 1e-3
    assert parse("2*pi", (), "source.u")(torch, {}) == pytest.approx(2 * math.pi)


def test_a_formula_may_span_lines():
    assert parse("x +\n  y", NAMES, "source.u")(torch, VALUES) == pytest.approx(1.0)


def test_a_missing_quantity_is_named():
    with pytest.raises(KeyError, match="needs u_x; given: u, x"):
        parse("u*u_x", NAMES, "integrand")(torch, {"x": 1.0, "u": 2.0})


def test_quantities_cannot_hide_functions():
    with pytest.raises(ValueError, match="sin"):
        parse("sin(x)", ["x", "sin"], "source.u")


@pytest.mark.parametrize(
    "text",
    [
        "where(x > 0, sqrt(x), 0)",
        "where(x > 0 and y > 0, log(x)*y, x)",
        "where(x > 0, where(y > 0, 1/(x + y), 1), (-x)**0.5)",
        "where(x > 0, x, exp(-1000*x - 999))",
        "where(x > 0, exp(1000*(0.2 - x)), 3*x)",
    ],
)
def test_a_branch_that_is_not_taken_spoils_no_derivative(text):
    """Of sqrt(x) at -1 the slope is no number, and zero times no number is none."""
    expression = parse(text, ["x", "y"], "source")
    points = torch.tensor([-1.0, 0.25, 1.0], dtype=torch.float64, requires_grad=True)
    value = expression(torch, {"x": points, "y": torch.full_like(points, 0.5)})
    (slopes,) = torch.autograd.grad(value.sum(), points)
    for x, slope in zip(points.tolist(), slopes.tolist(), strict=True):
        ahead, behind = (float(expression(torch, {"x": x + h, "y": 0.5})) for h in (1e-7, -1e-7))
        assert slope == pytest.approx((ahead - behind) / 2e-7, rel=1e-5, abs=1e-12)


def test_numbers_in_both_branches_have_the_precision_of_the_quantities():
    expression = parse("where(x > 0, 0.1, 0.7)", ["x"], "source")
    value = expression(torch, {"x": torch.tensor([-1.0, 1.0], dtype=torch.float64)})
    assert value.dtype == torch.float64
    assert value.tolist() == [0.7, 0.1]
