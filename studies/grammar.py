"""The grammar of formulas in a study, and the check that refuses everything outside it.

Numbers, permitted names, ``pi``, ``+ - * / **``, signs, parentheses and the functions of :data:`FUNCTIONS`.
Python's syntax tree of the text is walked, never compiled or evaluated. Constants are folded in floating
point on the way, so that ``9**9**9``, ``1/0`` and ``log(-1)`` are refused here rather than formed by sympy's
exact arithmetic.
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
}
"""Functions that a formula may call, by torch's name, as they are for plain numbers."""

CONSTANTS = {"pi": math.pi}
"""Constants that a formula may name."""

_BINARY = ("atan2", "maximum", "minimum")
_FOREIGN = re.compile(r"[^A-Za-z0-9_.+\-*/(), ]")
_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


class ExpressionError(ValueError):
    """A formula outside the grammar; the text names where, what was found, its column and what is allowed."""


def check(formula: str, allowed_names: Iterable[str], where: str) -> frozenset[str]:
    """Names of the quantities that ``formula`` uses.

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

    def run(self) -> frozenset[str]:
        if not self.formula.strip():
            self.refuse("nothing", 0, "a number or a formula")
        if len(self.formula) > MAX_LENGTH:
            self.refuse(f"{len(self.formula)} characters", 0, f"at most {MAX_LENGTH}")
        foreign = _FOREIGN.search(self.formula)
        if foreign:
            allowed = "letters, digits, _ . + - * / ( ) ," + " (a power is written **)" * (foreign[0] == "^")
            self.refuse(f"the character {foreign[0]!r}", foreign.start(), allowed)
        try:
            root = ast.parse(self.formula, mode="eval").body
        except SyntaxError as error:
            found = f"'{_clip(self.formula)}' ({error.msg})"
            self.refuse(found, (error.offset or 1) - 1, "a formula such as 2*x + y")
        except (RecursionError, MemoryError):
            self.refuse("too many parentheses or signs", 0, f"at most {MAX_DEPTH} nested operations")
        self.value(root, 0)
        return frozenset(self.used)

    def refuse(self, found: str, column: int, allowed: str) -> NoReturn:
        place = f"{self.where}: found {found} in column {self.indent + column + 1}"
        raise ExpressionError(f"{place}; allowed: {allowed}") from None

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
            case ast.BinOp() if type(node.op) in _OPERATORS:
                return self.binary(node, self.value(node.left, depth), self.value(node.right, depth))
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                return self.call(name, node, depth)
        allowed = f"numbers, names, + - * / **, parentheses, {', '.join(FUNCTIONS)}"
        return self.refuse(self.excerpt(node), node.col_offset, allowed)

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
        count = 2 if name in _BINARY else 1
        if len(node.args) != count:
            allowed = f"{name} of {count} argument{'s' * (count > 1)}"
            self.refuse(self.excerpt(node), node.col_offset, allowed)
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
        value = _OPERATORS[type(node.op)](left, right)
        # A power that underflows would still be formed digit by digit in exact arithmetic.
        if power and value == 0 and left != 0:
            raise OverflowError("too small for a floating-point number")
        return value


def _clip(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _choice(name: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    close = get_close_matches(name, allowed, n=1)
    return (f"did you mean '{close[0]}'? " if close else "") + ", ".join(allowed)
