"""Problems with a given solution: sources and natural conditions derived by sympy from equations written out anew."""

from __future__ import annotations

import sympy

from shapewright.solvers.physics.catalogue import Dirichlet, Functional, Natural, Problem

X, Y = sympy.symbols("x y", real=True)


def formula(expression):
    """The function of ``ops`` and the quantities that a sympy expression of X and Y stands for."""

    def evaluate(ops, q):
        names = {name: getattr(ops, name) for name in ("sin", "cos", "exp", "sqrt")}
        return sympy.lambdify((X, Y), expression, modules=[names])(q["x"], q["y"])

    return evaluate


def gradient(exact):
    """Rows (du/dx, du/dy) of the components of ``exact``, in order."""
    return sympy.Matrix([[sympy.diff(u, X), sympy.diff(u, Y)] for u in exact.values()])


def problem_with_solution(physics, exact, flux, convection=None, coefficients=None, natural=("right",)):
    """The problem whose solution is ``exact``: boundary values on the sides but those with ``natural`` conditions.

    ``flux`` is the matrix, rows by component, that the physics should have at the exact solution, ``convection`` the
    part of the source that the physics itself should have. The functionals are the squared errors of every component.
    """
    convection = convection or {}
    sources, conditions, fluxes = {}, [], []
    for row, (name, value) in enumerate(exact.items()):
        if name not in physics.fields[0].components:
            continue
        fx, fy = flux[row, 0], flux[row, 1]
        sources[name] = formula(-(sympy.diff(fx, X) + sympy.diff(fy, Y)) - convection.get(name, 0))
        across, along = formula(fx), formula(fy)
        for side in ("bottom", "right", "top", "left"):
            if side not in natural:
                conditions.append(Dirichlet(name, side, formula(value)))
                continue

            def outflow(ops, q, across=across, along=along):
                return across(ops, q) * q["nx"] + along(ops, q) * q["ny"]

            fluxes.append(Natural(name, side, outflow))

    def squared_error(name, value):
        return lambda ops, q: (q[name] - formula(value)(ops, q)) ** 2

    return Problem(
        physics,
        coefficients={name: (lambda ops, q, v=v: v) for name, v in (coefficients or {}).items()},
        sources=sources,
        dirichlet=tuple(conditions),
        natural=tuple(fluxes),
        functionals=tuple(Functional(name, squared_error(name, value), "1", "") for name, value in exact.items()),
    )
