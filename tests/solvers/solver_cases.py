"""Boundary-value problems on the mapped square that between them use every kind of term."""

from __future__ import annotations

from dataclasses import replace

from solvers.physics import POISSON, STOKES, Dirichlet, Functional, Natural, Problem
from tests.solvers.solver_meshes import SIDES


def zero(ops, q):
    return 0.0


TORSION = Problem(
    POISSON,
    sources={"u": lambda ops, q: 2.0},
    dirichlet=tuple(Dirichlet("u", side, zero) for side in SIDES),
    functionals=(POISSON.functional("torsional_constant"), POISSON.functional("compliance")),
)

CONDUCTION = Problem(
    POISSON,
    coefficients={"conductivity": lambda ops, q: 1 + 0.4 * ops.sin(3 * q["x"]) * q["y"]},
    sources={"u": lambda ops, q: 2 * ops.exp(-(q["x"] ** 2)) * q["y"] - 0.7 * q["u"]},
    dirichlet=(
        Dirichlet("u", "left", lambda ops, q: ops.sin(2 * q["y"]) + q["x"] ** 2),
        Dirichlet("u", "right", lambda ops, q: 0.3),
    ),
    natural=(
        Natural("u", "top", lambda ops, q: 1.5 * (ops.cos(q["x"]) - q["u"])),
        Natural("u", "bottom", lambda ops, q: q["x"] * q["nx"] + (0.5 + q["x"] ** 2) * q["ny"]),
    ),
    functionals=(
        Functional(
            "misfit", lambda ops, q: (q["u"] - 0.36 + q["x"] ** 2) ** 2, "1", "distance from a target"
        ),
        Functional(
            "heat",
            lambda ops, q: q["conductivity"] * (q["u_x"] * q["nx"] + q["u_y"] * q["ny"]) * (1 + q["y"]),
            "1",
            "weighted flux through a boundary with given values",
            on="left",
        ),
        Functional(
            "loss", lambda ops, q: q["u"] ** 2 * ops.exp(q["x"]), "1", "on a Robin boundary", on="top"
        ),
        Functional("sweep", lambda ops, q: q["x"] * q["nx"] ** 2, "1", "geometry alone", on="bottom"),
        POISSON.functional("compliance"),
        POISSON.functional("area"),
    ),
)

RADIATION = Problem(
    POISSON,
    coefficients={"conductivity": lambda ops, q: 1 + q["u"] ** 2},
    sources={"u": lambda ops, q: 3 * ops.exp(-q["u"])},
    dirichlet=(Dirichlet("u", "left", lambda ops, q: q["y"] ** 2),),
    natural=(Natural("u", "right", lambda ops, q: 1 - (1 + q["u"]) ** 4 / 4),),
    functionals=(Functional("square", lambda ops, q: q["u"] ** 2, "1", "int u^2"),),
)

CHANNEL = Problem(
    STOKES,
    coefficients={"viscosity": lambda ops, q: 1 + 0.3 * q["x"]},
    sources={"v": lambda ops, q: ops.sin(q["x"] * q["y"])},
    dirichlet=(
        *(Dirichlet(c, side, zero) for side in ("top", "bottom") for c in "uv"),
        Dirichlet("u", "left", lambda ops, q: ops.sin(3.0 * q["y"]) + q["x"]),
        Dirichlet("v", "left", lambda ops, q: 0.2 * q["y"]),
    ),
    natural=(Natural("u", "right", lambda ops, q: 0.3 * q["y"] * q["nx"]),),
    functionals=(
        STOKES.functional("dissipation"),
        replace(STOKES.functional("pumping_power"), on="left"),
        replace(STOKES.functional("drag"), on="bottom"),
    ),
)

CASES = {"torsion": TORSION, "conduction": CONDUCTION, "radiation": RADIATION, "channel": CHANNEL}
