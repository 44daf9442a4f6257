"""Formulas typed in a study: one parse gives a function of UFL expressions, torch tensors and numpy arrays alike.

Python's syntax tree of a text that passed :mod:`schema.grammar` is walked with the operators of its operands and the
functions of a namespace; nothing is compiled or evaluated as Python. Operations stay as typed, as rewriting could
change where a formula is defined; only sums of exponentials in a denominator are scaled (:mod:`schema.denominators`).

A branch of ``where`` that is not taken must not make values or derivatives not finite: zero
times infinity is none. In a branch, every function that is not defined or finite everywhere gets its argument where the
branch is taken, and the number one elsewhere.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from shapewright.studies.schema.denominators import reciprocal
from shapewright.studies.schema.grammar import COMPARISONS, CONSTANTS, FUNCTIONS, OPERATORS, ExpressionError, check

__all__ = ["CONSTANTS", "FUNCTIONS", "Comparison", "Expression", "ExpressionError", "parse"]

LARGEST_INTEGER = 2**31
"""Whole numbers from here on are floating-point numbers: not all that formulas are evaluated in has larger ones."""
_EVERYWHERE = {"sin", "cos", "tanh", "abs", "maximum", "minimum"}
"""Functions that are finite with finite slopes whatever their finite arguments are."""


@dataclass(frozen=True)
class Expression:
    """A formula that was checked and parsed.

    Attributes:
        text: as typed.
        tree: Python's syntax tree of it.
        names: quantities that it uses.
    """

    text: str
    tree: ast.expr = field(repr=False, compare=False)
    names: frozenset[str]

    def __call__(self, ops: Any, q: Mapping[str, Any]) -> Any:
        """Value of the formula for the quantities ``q``, by operators and the functions of ``ops``.

        Args:
            ops: namespace of elementary functions under torch's names, with ``where``, ``logical_and`` and
                ``logical_or`` where the formula has conditions.
            q: name -> UFL expression, tensor or array (shapes that broadcast), or number.

        Returns:
            What the operators of ``q`` give; a number where all that the formula uses is a number.

        Raises:
            KeyError: ``q`` lacks a name that the formula uses.
        """
        missing = [name for name in sorted(self.names) if name not in q]
        if missing:
            raise KeyError(f"'{self.text}' needs {', '.join(missing)}; given: {', '.join(sorted(q))}")
        return _Evaluation(ops, q, self.names).value(self.tree)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Those of all its conditions."""
        return tuple(
            Comparison(ast.unparse(ast.Compare(left, [sign], [right])), left, right)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Compare)
            for left, sign, right in zip((node.left, *node.comparators[:-1]), node.ops, node.comparators, strict=True)
        )


@dataclass(frozen=True)
class Comparison:
    """Left less right side of a comparison: the condition changes where it changes its sign."""

    text: str
    left: ast.expr = field(repr=False, compare=False)
    right: ast.expr = field(repr=False, compare=False)

    @property
    def names(self) -> frozenset[str]:
        """Quantities that it uses."""
        return _names(self.left) | _names(self.right)

    def __call__(self, ops: Any, q: Mapping[str, Any]) -> Any:
        """The difference; see :class:`Expression`."""
        evaluation = _Evaluation(ops, q, self.names)
        return evaluation.value(self.left) - evaluation.value(self.right)


def parse(text: str | float, allowed_names: Iterable[str], where: str) -> Expression:
    """Parse a formula, or a plain number.

    Args:
        text: the formula.
        allowed_names: quantities that it may use.
        where: the key it stands under, for messages.

    Raises:
        ExpressionError: see :func:`grammar.check`.
        ValueError: a quantity has the name of a function or constant of the grammar.
    """
    allowed = frozenset(allowed_names)
    reserved = sorted(allowed & (FUNCTIONS.keys() | CONSTANTS.keys()))
    if reserved:
        raise ValueError(f"quantities cannot be called {', '.join(reserved)}: formulas use these names")
    typed = text if isinstance(text, str) else repr(text)
    tree, names = check(typed.replace("\n", " ").rstrip(), allowed, where)
    return Expression(typed, tree, names)


def _names(node: ast.expr) -> frozenset[str]:
    """Quantities in a part of a formula: names that are no constants and no functions."""
    found = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return frozenset(found - CONSTANTS.keys() - FUNCTIONS.keys())


@dataclass(frozen=True)
class _Evaluation:
    """One walk over one tree.

    Attributes:
        ops, q: see :class:`Expression`.
        names: quantities that the tree uses.
        taken: the condition under which the present branch is taken, None for everywhere.
    """

    ops: Any
    q: Mapping[str, Any]
    names: frozenset[str]
    taken: Any = None

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int(number)) if number >= LARGEST_INTEGER:
                return float(number)
            case ast.Constant(value=number):
                return number
            case ast.Name(id=name):
                return CONSTANTS[name] if name in CONSTANTS else self.q[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.UnaryOp(operand=operand):
                return self.value(operand)
            case ast.BinOp():
                return self.binary(node)
            case ast.Call(func=ast.Name(id="where")):
                return self.where(*node.args)
            case ast.Call(func=ast.Name(id=name)):
                arguments = [self.value(argument) for argument in node.args]
                return self.call(name, arguments if name in _EVERYWHERE else [self.guarded(a) for a in arguments])
        raise AssertionError(f"{ast.dump(node)} has passed the grammar")

    def binary(self, node: ast.BinOp) -> Any:
        quotient = self.quotient(node)
        if quotient is not None:
            return quotient
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Div):
            right = self.guarded(right)
        if isinstance(node.op, ast.Pow):
            if not (isinstance(right, int) and right >= 0):
                left = self.guarded(left)
            if right == -1 and isinstance(right, int):
                return 1 / left
        value = OPERATORS[type(node.op)](left, right)
        return float(value) if isinstance(value, int) and abs(value) >= LARGEST_INTEGER else value

    def quotient(self, node: ast.BinOp) -> Any:
        """A quotient by a whole power of a sum with exponentials; None for all others."""
        denominator, power = (node.right, 1) if isinstance(node.op, ast.Div) else (node, -1)
        match denominator:
            case ast.BinOp(op=ast.Pow(), left=base, right=ast.Constant(value=int(exponent))) if power > 0:
                denominator, power = base, exponent
            case ast.BinOp(
                op=ast.Pow(), left=base, right=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(exponent)))
            ) if power < 0:
                denominator, power = base, exponent
            case _ if power < 0:
                return None
        parts = reciprocal(denominator, self)
        if parts is None:
            return None
        small, scaled = (part if power == 1 else part**power for part in parts)
        return self.value(node.left) * small / scaled if isinstance(node.op, ast.Div) else small / scaled

    def guarded(self, argument: Any) -> Any:
        """The argument where the present branch is taken, elsewhere one."""
        if self.taken is None or isinstance(argument, int | float):
            return argument
        return self.choose(self.taken, argument, 1.0)

    def call(self, name: str, arguments: list[Any]) -> Any:
        """``ops.name`` of the arguments; torch takes no plain numbers: they become tensors, or go to ``math``."""
        others = [argument for argument in arguments if not isinstance(argument, int | float)]
        if not others:
            return FUNCTIONS[name](*arguments)
        return getattr(self.ops, name)(*(self.like(a, others[0]) for a in arguments))

    def like(self, value: Any, other: Any) -> Any:
        """A plain number as what ``other`` is."""
        if not isinstance(value, int | float):
            return value
        full_like = getattr(self.ops, "full_like", None)  # UFL takes numbers as they are
        return value + 0 * other if full_like is None else full_like(other, value)

    def where(self, condition: ast.expr, yes: ast.expr, no: ast.expr) -> Any:
        holds = self.condition(condition)
        if isinstance(holds, bool):
            return self.value(yes if holds else no)
        fails = self.condition(condition, negated=True)
        return self.choose(holds, self.under(holds).value(yes), self.under(fails).value(no))

    def under(self, condition: Any) -> _Evaluation:
        """The same in a branch of this branch."""
        both = condition if self.taken is None else self.ops.logical_and(self.taken, condition)
        return _Evaluation(self.ops, self.q, self.names, both)

    def choose(self, condition: Any, yes: Any, no: Any) -> Any:
        """``ops.where``, whose numbers have the precision of the quantities."""
        if hasattr(self.ops, "full_like"):
            known = (yes, no, *(self.q[name] for name in sorted(self.names)))
            sample = next(value for value in known if not isinstance(value, int | float))
            yes, no = (self.like(v, sample) for v in (yes, no))
        return self.ops.where(condition, yes, no)

    def condition(self, node: ast.expr, negated: bool = False) -> Any:
        """Whether a condition holds, or fails, everywhere at once: a boolean, or what the operators of ``q`` give."""
        if isinstance(node, ast.Compare):
            sides = [self.value(side) for side in (node.left, *node.comparators)]
            parts = [
                COMPARISONS[type(sign)][negated](left, right)
                for sign, left, right in zip(node.ops, sides[:-1], sides[1:], strict=True)
            ]
            return self.joined(parts, every=not negated)
        every = isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And)
        every = every or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd))
        return self.joined([self.condition(part, negated) for part in _parts(node)], every != negated)

    def joined(self, parts: list[Any], every: bool) -> Any:
        """All conditions at once, or any of them."""
        known = [part for part in parts if isinstance(part, bool)]
        others = [part for part in parts if not isinstance(part, bool)]
        if (every and not all(known)) or (not every and any(known)) or not others:
            return all(known) if every else any(known)
        return reduce(self.ops.logical_and if every else self.ops.logical_or, others)


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """Operands of ``and``, ``or``, ``&``, ``|``."""
    if isinstance(node, ast.BoolOp):
        yield from node.values
    else:
        assert isinstance(node, ast.BinOp)
        yield node.left
        yield node.right
