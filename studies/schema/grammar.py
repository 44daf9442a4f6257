"""The grammar of formulas in a study, and the check that refuses everything outside it.

Numbers, permitted names, ``pi``, ``+ - * / **``, signs, parentheses and the functions of :data:`FUNCTIONS`. The first
argument of ``where(condition, yes, no)`` is made of ``< <= > >=``, joined by ``and``, ``or``, ``&`` and ``|``.
Python's syntax tree of the text is walked, never compiled or evaluated. Constants are folded in floating
point on the way, so that ``9**9**9``, ``1/0`` and ``log(-1)`` are refused here rather than formed by the exact
arithmetic of whole numbers.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

MAX_LENGTH = 500
MAX_DEPTH = 60
MAX_EXPONENT = 100

FUNCTIONS: dict[str, Callable[..., float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "abs": abs,
    "atan2": math.atan2,
    "maximum": max,
    "minimum": min,
    "where": lambda condition, yes, no: yes if condition else no,
}
"""Functions that a formula may call, by torch's name, as they are for plain numbers."""

CONSTANTS = {"pi": math.pi}
"""Constants that a formula may name."""

_ARGUMENTS = {"atan2": 2, "maximum": 2, "minimum": 2, "where": 3}
_FOREIGN = re.compile(r"[^A-Za-z0-9_.+\-*/(), <>=&|]")
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_CONDITION = "a condition such as x > 0, or several: (x > 0) & (y < 1), x > 0 and y < 1, | and or"
COMPARISONS: dict[type[ast.cmpop], tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    ast.Lt: (operator.lt, operator.ge),
    ast.LtE: (operator.le, operator.gt),
    ast.Gt: (operator.gt, operator.le),
    ast.GtE: (operator.ge, operator.lt),
}
"""Comparisons, each with its opposite."""
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
"""Arithmetic."""


class ExpressionError(ValueError):
    """A formula outside the grammar; the text names where, what was found, its column and what is allowed."""


def check(formula: str, allowed_names: Iterable[str], where: str) -> tuple[ast.expr, frozenset[str]]:
    """Syntax tree of ``formula``, and names of the quantities that it uses.

    Args:
        formula: one line of text.
        allowed_names: quantities that it may use.
        where: the key it stands under, for messages.

    Raises:
        ExpressionError: the formula is outside the grammar, uses another name, is too long, or holds a
            constant that is no finite real number.
    """
    return _Check(formula, frozenset(allowed_names), where).run()


class _Check:
    """One walk over one formula: knows the text for messages, gathers the names."""

    def __init__(self, formula: str, names: frozenset[str], where: str) -> None:
        self.formula, self.names, self.where = formula.lstrip(), names, where
        self.indent = len(formula) - len(self.formula)
        self.used: set[str] = set()

    def run(self) -> tuple[ast.expr, frozenset[str]]:
        if not self.formula.strip():
            self.refuse("nothing", 0, "a number or a formula")
        if len(self.formula) > MAX_LENGTH:
            self.refuse(f"{len(self.formula)} characters", 0, f"at most {MAX_LENGTH}")
        foreign = _FOREIGN.search(self.formula)
        if foreign:
            allowed = "letters, digits, _ . + - * / ( ) , < > = & |" + " (a power is written **)" * (foreign[0] == "^")
            self.refuse(f"the character {foreign[0]!r}", foreign.start(), allowed)
        try:
            root = ast.parse(self.formula, mode="eval").body
        except SyntaxError as error:
            found = f"'{_clip(self.formula)}' ({error.msg})"
            self.refuse(found, (error.offset or 1) - 1, "a formula such as 2*x + y")
        except (RecursionError, MemoryError):
            self.refuse("too many parentheses or signs", 0, f"at most {MAX_DEPTH} nested operations")
        self.value(root, 0)
        return root, frozenset(self.used)

    def refuse(self, found: str, column: int, allowed: str) -> NoReturn:
        location = f"{self.where}: found {found} in column {self.indent + column + 1}"
        raise ExpressionError(f"{location}; allowed: {allowed}") from None

    def source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.formula, node) or self.formula

    def excerpt(self, node: ast.expr) -> str:
        return f"'{_clip(self.source(node))}'"

    def value(self, node: ast.expr, depth: int) -> float | None:
        """Value of a constant part of the formula, None where it depends on quantities."""
        if depth > MAX_DEPTH:
            what = f"more than {MAX_DEPTH} nested or chained operations"
            self.refuse(what, node.col_offset, "fewer, or parts of a sum grouped by parentheses")
        constants = "constants that are finite real numbers"
        try:
            value = self.fold(node, depth + 1)
        except ExpressionError:
            raise
        except (ArithmeticError, ValueError) as error:
            self.refuse(f"{self.excerpt(node)} ({error.args[-1]})", node.col_offset, constants)
        if value is not None and (isinstance(value, complex) or not math.isfinite(value)):
            self.refuse(self.excerpt(node), node.col_offset, constants)
        return value

    def fold(self, node: ast.expr, depth: int) -> float | None:
        match node:
            case ast.Constant():
                return self.number(node)
            case ast.Name(id=name):
                return self.name(name, node.col_offset)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self.value(operand, depth)
                return None if value is None else -value
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand, depth)
            case ast.BinOp() if type(node.op) in OPERATORS:
                return self.binary(node, self.value(node.left, depth), self.value(node.right, depth))
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                return self.call(name, node, depth)
        allowed = f"numbers, names, + - * / **, parentheses, {', '.join(FUNCTIONS)}"
        if isinstance(node, ast.Compare | ast.BoolOp | ast.BinOp):
            allowed += "; conditions only in where, each in parentheses: where((x > 0) & (y < 1), 2, 0)"
        return self.refuse(self.excerpt(node), node.col_offset, allowed)

    def condition(self, node: ast.expr, depth: int) -> bool | None:
        """Whether a condition between constants holds, None where it depends on quantities."""
        if depth > MAX_DEPTH:
            self.refuse(f"more than {MAX_DEPTH} nested operations", node.col_offset, "fewer")
        match node:
            case ast.Compare(ops=signs) if all(type(sign) in COMPARISONS for sign in signs):
                sides = [self.value(side, depth + 1) for side in (node.left, *node.comparators)]
                pairs = zip(signs, sides[:-1], sides[1:], strict=True)
                return _all(None if None in (a, b) else COMPARISONS[type(sign)][0](a, b) for sign, a, b in pairs)
            case ast.BoolOp(op=join, values=parts):
                held = [self.condition(part, depth + 1) for part in parts]
                return _all(held) if isinstance(join, ast.And) else _any(held)
            case ast.BinOp(op=ast.BitAnd()):
                return _all([self.condition(part, depth + 1) for part in (node.left, node.right)])
            case ast.BinOp(op=ast.BitOr()):
                return _any([self.condition(part, depth + 1) for part in (node.left, node.right)])
        equal = isinstance(node, ast.Compare) and not all(type(sign) in COMPARISONS for sign in node.ops)
        return self.refuse(self.excerpt(node), node.col_offset, "< <= > >=" if equal else _CONDITION)

    def number(self, node: ast.Constant) -> float:
        source = self.source(node)
        if not _NUMBER.fullmatch(source):
            self.refuse(self.excerpt(node), node.col_offset, "numbers such as 2, 0.5 and 1e-3")
        return float(source)

    def name(self, name: str, column: int) -> float | None:
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name not in self.names:
            self.refuse(f"the name '{name}'", column, _choice(name, [*sorted(self.names), *CONSTANTS]))
        self.used.add(name)
        return None

    def call(self, name: str, node: ast.Call, depth: int) -> float | None:
        if name not in FUNCTIONS:
            self.refuse(f"the function '{name}'", node.col_offset, _choice(name, FUNCTIONS))
        count = _ARGUMENTS.get(name, 1)
        if len(node.args) != count:
            allowed = f"{name} of {count} argument{'s' * (count > 1)}"
            self.refuse(self.excerpt(node), node.col_offset, allowed)
        if name == "where":
            condition = self.condition(node.args[0], depth)
            yes, no = (self.value(branch, depth) for branch in node.args[1:])
            return None if condition is None else (yes if condition else no)
        values = [self.value(argument, depth) for argument in node.args]
        constants = [value for value in values if value is not None]
        return FUNCTIONS[name](*constants) if len(constants) == count else None

    def binary(self, node: ast.BinOp, left: float | None, right: float | None) -> float | None:
        power = isinstance(node.op, ast.Pow)
        if isinstance(node.op, ast.Div) and right == 0:
            raise ZeroDivisionError("division by zero")
        if power and right is not None and abs(right) > MAX_EXPONENT:
            found = f"the exponent {self.excerpt(node.right)}"
            self.refuse(found, node.right.col_offset, f"-{MAX_EXPONENT} to {MAX_EXPONENT}")
        if left is None or right is None:
            return None
        value = OPERATORS[type(node.op)](left, right)
        # A power that underflows would still be formed digit by digit in exact arithmetic.
        if power and value == 0 and left != 0:
            raise OverflowError("too small for a floating-point number")
        return value


def _all(held: Iterable[bool | None]) -> bool | None:
    """Whether all conditions hold; None where those that are known do not decide it."""
    known = list(held)
    return False if False in known else (None if None in known else True)


def _any(held: Iterable[bool | None]) -> bool | None:
    """Whether any condition holds; None where those that are known do not decide it."""
    known = list(held)
    return True if True in known else (None if None in known else False)


def _clip(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _choice(name: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    close = get_close_matches(name, allowed, n=1)
    return (f"did you mean '{close[0]}'? " if close else "") + ", ".join(allowed)
