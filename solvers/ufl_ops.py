"""Elementary functions of UFL expressions under torch's names: the ``ops`` that turns a formula into a form.

Arguments are UFL expressions or python numbers.
"""

from __future__ import annotations

import builtins
import math

import ufl
from ufl.core.expr import Expr

pi = math.pi
e = math.e

sin, cos, tan = ufl.sin, ufl.cos, ufl.tan
asin, acos, atan, atan2 = ufl.asin, ufl.acos, ufl.atan, ufl.atan2
sinh, cosh, tanh = ufl.sinh, ufl.cosh, ufl.tanh
exp, log, sqrt, erf = ufl.exp, ufl.ln, ufl.sqrt, ufl.erf
maximum, minimum, sign, where = ufl.max_value, ufl.min_value, ufl.sign, ufl.conditional


def abs(a: Expr | float) -> Expr:
    """|a|."""
    a = ufl.as_ufl(a)
    # UFL 2026.1 makes an Abs of an Abs its own operand, and every traversal of it endless
    return a if isinstance(a, ufl.algebra.Abs) else builtins.abs(a)


def pow(a: Expr | float, b: Expr | float) -> Expr:
    """a to the power of b."""
    return ufl.as_ufl(a) ** b


def square(a: Expr | float) -> Expr:
    """a * a."""
    return a * a
