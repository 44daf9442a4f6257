"""Sums of exponentials in a denominator, divided by their largest one: 1/(1 + exp(z)) and 1/cosh(z) for steep z.

There exp overflows while the quotient is just small, and its derivative, exp/(1 + exp)^2, becomes infinity over
infinity. With m = max(0, all exponents), 1/D is exp(-m) over D exp(-m), in which no exponent is positive. That does not
depend on m, so that the kink of the maximum is in no derivative.
"""

from __future__ import annotations

import ast
from typing import Any, Protocol


class Evaluation(Protocol):
    """What walks the tree of a formula."""

    def value(self, node: ast.expr) -> Any: ...
    def call(self, name: str, arguments: list[Any]) -> Any: ...
    def guarded(self, argument: Any) -> Any: ...


def exponents(node: ast.expr) -> list[tuple[ast.expr, int]]:
    """Arguments of exp among the terms of a sum, with their sign: those of cosh and sinh with both; empty if none."""
    match node:
        case ast.Call(func=ast.Name(id="exp"), args=[argument]):
            return [(argument, 1)]
        case ast.Call(func=ast.Name(id="cosh" | "sinh"), args=[argument]):
            return [(argument, 1), (argument, -1)]
        case ast.UnaryOp(operand=operand):
            return exponents(operand)
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            return exponents(node.left) + exponents(node.right)
        case ast.BinOp(op=ast.Mult()):
            left, right = exponents(node.left), exponents(node.right)
            return [] if left and right else left or right
        case ast.BinOp(op=ast.Div()):
            return exponents(node.left)
    return []


def reciprocal(node: ast.expr, evaluation: Evaluation) -> tuple[Any, Any] | None:
    """Numerator and denominator of 1/``node``, both at most of the size of its terms; None without exponentials."""
    found = exponents(node)
    if not found:
        return None
    largest: Any = 0.0
    for argument, sign in found:
        largest = evaluation.call("maximum", [largest, sign * evaluation.guarded(evaluation.value(argument))])
    factor = evaluation.call("exp", [-largest])
    return factor, evaluation.guarded(_scaled(node, largest, factor, evaluation))


def _scaled(node: ast.expr, largest: Any, factor: Any, evaluation: Evaluation) -> Any:
    """The value of ``node`` times ``factor``, which is exp(-largest)."""

    def exponential(argument: Any) -> Any:
        return evaluation.call("exp", [argument - largest])

    def part(inner: ast.expr) -> Any:
        return _scaled(inner, largest, factor, evaluation)

    match node:
        case ast.Call(func=ast.Name(id="exp" | "cosh" | "sinh" as name), args=[argument]):
            z = evaluation.guarded(evaluation.value(argument))
            if name == "exp":
                return exponential(z)
            other = exponential(-z) if name == "cosh" else -exponential(-z)
            return (exponential(z) + other) / 2
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -part(operand)
        case ast.UnaryOp(operand=operand):
            return part(operand)
        case ast.BinOp(op=ast.Add()):
            return part(node.left) + part(node.right)
        case ast.BinOp(op=ast.Sub()):
            return part(node.left) - part(node.right)
        case ast.BinOp(op=ast.Mult()) if exponents(node):
            if exponents(node.left):
                return part(node.left) * evaluation.value(node.right)
            return evaluation.value(node.left) * part(node.right)
        case ast.BinOp(op=ast.Div()) if exponents(node):
            return part(node.left) / evaluation.guarded(evaluation.value(node.right))
    return evaluation.value(node) * factor
