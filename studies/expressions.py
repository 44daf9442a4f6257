"""Formulas typed in a study: one parse gives a function of UFL expressions and of torch tensors alike.

sympy's parser evaluates what it reads as Python code, so it only gets text that passed
:mod:`studies.grammar`, with one transformation (numbers) and with no names but those of the grammar. It
leaves the tree as typed: rewriting could change where a formula is defined, or need functions that one world
lacks.
"""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import sympy
from sympy.parsing.sympy_parser import auto_number, parse_expr

from studies.grammar import CONSTANTS, FUNCTIONS, ExpressionError, check

__all__ = ["CONSTANTS", "FUNCTIONS", "Expression", "ExpressionError", "parse"]

_OTHER_NAMES = {"abs": "Abs", "maximum": "Max", "minimum": "Min"}
_NODES = {name: getattr(sympy, _OTHER_NAMES.get(name, name)) for name in FUNCTIONS}
_NAME_OF_NODE = {node: name for name, node in _NODES.items()}
_SCOPE: dict[str, Any] = {
    **{name: partial(node, evaluate=False) for name, node in _NODES.items()},
    **{name: getattr(sympy, name) for name in ("Integer", "Float", "Add", "Mul", "Pow", *CONSTANTS)},
    "__builtins__": {},
}


RESERVED = frozenset(_SCOPE)
"""Names that mean something else in a formula, to its reader or to sympy's parser."""


def can_name(name: str) -> bool:
    """Whether a quantity may have this name so that formulas can use it."""
    return bool(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)) and not keyword.iskeyword(name) and name not in RESERVED


@dataclass(frozen=True)
class Expression:
    """A formula that was checked and parsed.

    Attributes:
        text: as typed.
        tree: sympy's expression, with real symbols.
        names: quantities that it uses.
    """

    text: str
    tree: sympy.Expr
    names: frozenset[str]

    def __call__(self, ops: Any, q: Mapping[str, Any]) -> Any:
        """Value of the formula for the quantities ``q``, by operators and the functions of ``ops``.

        Args:
            ops: namespace of elementary functions under torch's names.
            q: name -> UFL expression, tensor (shapes that broadcast) or number.

        Returns:
            What the operators of ``q`` give; a number where all that the formula uses is a number.

        Raises:
            KeyError: ``q`` lacks a name that the formula uses.
        """
        missing = self.names - q.keys()
        if missing:
            raise KeyError(f"'{self.text}' needs {', '.join(sorted(missing))}; given: {', '.join(sorted(q))}")
        return _evaluate(self.tree, ops, q)


def parse(text: str | float, allowed_names: Iterable[str], where: str) -> Expression:
    """Parse a formula, or a plain number.

    Args:
        text: the formula.
        allowed_names: quantities that it may use.
        where: the key it stands under, for messages.

    Raises:
        ExpressionError: see :func:`studies.grammar.check`.
    """
    allowed = frozenset(allowed_names)
    reserved = sorted(allowed & RESERVED)
    if reserved:
        raise ValueError(f"quantities cannot be called {', '.join(reserved)}: formulas use these names")
    typed = text if isinstance(text, str) else repr(text)
    formula = typed.replace("\n", " ").rstrip()
    names = check(formula, allowed, where)
    symbols = {name: sympy.Symbol(name, real=True) for name in names}
    tree = parse_expr(formula, symbols, (auto_number,), dict(_SCOPE), evaluate=False)
    return Expression(typed, tree, names)


def _evaluate(node: sympy.Basic, ops: Any, q: Mapping[str, Any]) -> Any:
    if isinstance(node, sympy.Symbol):
        return q[node.name]
    if isinstance(node, sympy.Integer) and abs(node) < 2**31:
        return int(node)
    if isinstance(node, sympy.Number | sympy.NumberSymbol):
        return float(node)
    if isinstance(node, sympy.Mul):
        return _product(node, ops, q)
    if isinstance(node, sympy.Pow):
        return _power(node, ops, q)
    if isinstance(node, sympy.Abs) and isinstance(node.args[0], sympy.Abs):
        return _evaluate(node.args[0], ops, q)  # UFL makes the absolute value of one an operand of itself
    arguments = [_evaluate(argument, ops, q) for argument in node.args]
    if isinstance(node, sympy.Add):
        return reduce(operator.add, arguments)
    return _call(_NAME_OF_NODE[node.func], arguments, ops)


def _power(node: sympy.Pow, ops: Any, q: Mapping[str, Any]) -> Any:
    base = _evaluate(node.base, ops, q)
    if node.exp is sympy.S.NegativeOne:
        return 1 / base
    if node.exp is sympy.S.Half:
        return _call("sqrt", [base], ops)
    return base ** _evaluate(node.exp, ops, q)


def _product(node: sympy.Mul, ops: Any, q: Mapping[str, Any]) -> Any:
    """Product that divides by its reciprocal factors: UFL estimates a lower degree for a quotient."""
    value: Any = None
    for factor in node.args:
        inverse = isinstance(factor, sympy.Pow) and factor.exp is sympy.S.NegativeOne
        if value is not None and inverse:
            value = value / _evaluate(factor.base, ops, q)
        else:
            operand = _evaluate(factor, ops, q)
            value = operand if value is None else value * operand
    return value


def _call(name: str, arguments: list[Any], ops: Any) -> Any:
    """``ops.name`` of the arguments; torch takes no plain numbers: they become tensors, or go to ``math``."""
    others = [argument for argument in arguments if not isinstance(argument, int | float)]
    if not others:
        return FUNCTIONS[name](*arguments)
    return getattr(ops, name)(*(a + 0 * others[0] if isinstance(a, int | float) else a for a in arguments))
