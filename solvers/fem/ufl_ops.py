"""Elementary functions of UFL expressions under torch's names: the ``ops`` that turns a formula into a form.

Arguments are UFL expressions or python numbers.
"""

from __future__ import annotations

import math

import ufl
from ufl.core.expr import Expr

pi = math.pi
e = math.e

sin, cos, tan = ufl.sin, ufl.cos, ufl.tan
asin, acos, atan, atan2 = ufl.asin, ufl.acos, ufl.atan, ufl.atan2
sinh, cosh = ufl.sinh, ufl.cosh
exp, log, sqrt, erf = ufl.exp, ufl.ln, ufl.sqrt, ufl.erf
maximum, minimum, sign = ufl.max_value, ufl.min_value, ufl.sign
logical_and, logical_or = ufl.And, ufl.Or


def tanh(a: Expr | float) -> Expr:
    """Hyperbolic tangent, which is 1 to rounding beyond 20.

    UFL's derivative of it, the square of 2 cosh(a)/(cosh(2 a) + 1), is infinity over infinity beyond 355 and its own
    derivatives earlier; at 50 they are 1e-42 of what they are at 0.
    """
    return ufl.tanh(ufl.max_value(ufl.min_value(a, 50.0), -50.0))


def abs(a: Expr | float) -> Expr:
    """|a|."""
    expression: Expr = ufl.as_ufl(a)
    # UFL 2026.1 makes an Abs of an Abs its own operand, and every traversal of it endless
    return expression if isinstance(expression, ufl.algebra.Abs) else ufl.algebra.Abs(expression)


def pow(a: Expr | float, b: Expr | float) -> Expr:
    """a to the power of b."""
    return ufl.as_ufl(a) ** b


def square(a: Expr | float) -> Expr | float:
    """a * a."""
    return a * a


def where(condition: Expr, yes: Expr | float, no: Expr | float) -> Expr:
    """``yes`` where the condition holds, else ``no``; both must be finite everywhere, with finite derivatives.

    A sum of products: FFCx 0.11 cannot compile the derivative of a conditional one branch of which depends on what it
    is differentiated by, and the other does not.
    """
    return ufl.conditional(condition, 1.0, 0.0) * yes + ufl.conditional(condition, 0.0, 1.0) * no
