"""Boundary-value problems on the mapped square that between them use every kind of term."""

from __future__ import annotations

from dataclasses import replace

from shapewright.solvers.physics.catalogue import (
    HYPERELASTICITY,
    NAVIER_STOKES,
    NONLINEAR_POISSON,
    PLANE_STRAIN,
    PLANE_STRESS,
    POISSON,
    STOKES,
    Dirichlet,
    Functional,
    Natural,
    Pin,
    Problem,
)
from shapewright.solvers.physics.smooth_maximum import kreisselmeier_steinhauser, p_norm
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

KIRCHHOFF = Problem(
    NONLINEAR_POISSON,
    coefficients={"nonlinearity": lambda ops, q: q["strength"]},
    sources={"u": lambda ops, q: q["load"] * ops.exp(-((q["x"] - 0.4) ** 2) - q["y"] ** 2)},
    dirichlet=tuple(Dirichlet("u", side, lambda ops, q: q["load"] * q["x"] * q["y"]) for side in ("left", "top")),
    functionals=(NONLINEAR_POISSON.functional("integral"), NONLINEAR_POISSON.functional("heat_dissipation")),
    parameters={"strength": 0.4, "load": 2.0},
)

RUBBER = Problem(
    HYPERELASTICITY,
    sources={"u": lambda ops, q: 0.01 * q["y"]},
    dirichlet=(
        *(Dirichlet(c, "bottom", zero) for c in "uv"),
        Dirichlet("u", "top", zero),
        Dirichlet("v", "top", lambda ops, q: -q["load"]),
    ),
    natural=(Natural("u", "right", lambda ops, q: 0.02 * q["y"]),),
    functionals=(HYPERELASTICITY.functional("strain_energy"), HYPERELASTICITY.functional("top_force").at("top")),
    parameters={"load": 0.12},
)

WAKE = Problem(
    NAVIER_STOKES,
    coefficients={"viscosity": lambda ops, q: 1 / q["reynolds"]},
    sources={"u": lambda ops, q: 0.3 * q["y"]},
    dirichlet=(
        *(Dirichlet(c, side, zero) for side in ("top", "bottom") for c in "uv"),
        Dirichlet("u", "left", lambda ops, q: ops.sin(3.0 * q["y"]) + q["x"]),
        Dirichlet("v", "left", lambda ops, q: 0.2 * q["y"]),
    ),
    functionals=(
        NAVIER_STOKES.functional("dissipation"),
        replace(NAVIER_STOKES.functional("drag"), lifting="bottom"),
        replace(NAVIER_STOKES.functional("lift"), lifting="top"),
    ),
    parameters={"reynolds": 30.0},
)


def stirred_u(ops, q):
    """With stirred_v the velocity of a stream function: as much enters as leaves, whatever the shape."""
    return 2 * q["y"] ** 2 - 0.5


def stirred_v(ops, q):
    """See stirred_u."""
    return q["x"] - 1.5 * q["x"] ** 2


CAVITY = Problem(
    NAVIER_STOKES,
    coefficients={"viscosity": lambda ops, q: 0.05},
    dirichlet=tuple(d for side in SIDES for d in (Dirichlet("u", side, stirred_u), Dirichlet("v", side, stirred_v))),
    functionals=(NAVIER_STOKES.functional("dissipation"), replace(NAVIER_STOKES.functional("drag"), lifting="left")),
    pins=(Pin("p", "bottom"),),
)


def von_mises(ops, q):
    """Some stress that varies along the boundary."""
    return q["youngs_modulus"] * ((q["u_x"] - q["v_y"]) ** 2 + (q["u_y"] + q["v_x"]) ** 2)


PLATE = Problem(
    PLANE_STRESS,
    coefficients={"youngs_modulus": lambda ops, q: 2 + q["x"]},
    dirichlet=(Dirichlet("u", "left", zero), Dirichlet("v", "left", lambda ops, q: 0.1 * q["x"])),
    natural=(
        Natural("u", "right", lambda ops, q: q["nx"] + 0.2 * q["y"]),
        Natural("v", "top", lambda ops, q: -0.3 * q["x"]),
    ),
    functionals=(
        PLANE_STRESS.functional("compliance"),
        PLANE_STRESS.functional("mass"),
        PLANE_STRESS.functional("peak_von_mises"),
        replace(PLANE_STRESS.functional("peak_hoop_stress"), on="right"),
        p_norm("peak", von_mises, "1", "", exponent=6, on="top", scale=2.0),
        kreisselmeier_steinhauser("ks", von_mises, "1", "", sharpness=8.0, on="top", scale=2.0),
    ),
)

PRISM = replace(
    PLATE,
    physics=PLANE_STRAIN,
    sources={"v": lambda ops, q: -0.5 * q["density"]},
    functionals=(PLANE_STRAIN.functional("compliance"), PLANE_STRAIN.functional("peak_von_mises")),
)

CASES = {
    "torsion": TORSION,
    "conduction": CONDUCTION,
    "radiation": RADIATION,
    "channel": CHANNEL,
    "kirchhoff": KIRCHHOFF,
    "rubber": RUBBER,
    "wake": WAKE,
    "cavity": CAVITY,
    "plate": PLATE,
    "prism": PRISM,
}
