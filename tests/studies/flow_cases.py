"""Small studies of flows."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from shapewright.studies.optimize.trust_region_search import SolutionStore
from shapewright.studies.problem.linear_physics import FLOW_PHYSICS
from shapewright.studies.problem.setup import Setup, build_setup
from shapewright.studies.schema.loader import load_study
from shapewright.surrogate.models.flow_operator import FlowOperator
from shapewright.surrogate.models.shape_operator_file import make_operator
from tests.surrogate.shape_cases import TINY

CHANNEL = """\
name: channel
geometry:
  family: body_in_channel
  options: {length: 2.0, height: 1.0, radius: 0.2, center: [0.8, 0.5], control_points: 8, symmetric: true}
  mesh_size: 0.22
physics:
  name: PHYSICS
  coefficients: {viscosity: 0.05}
  dirichlet:
    - {on: inlet, u: "4*y*(1 - y)", v: 0.0}
    - {on: [wall, body], u: 0.0, v: 0.0}
objective: {minimize: OBJECTIVE}
constraints:
  - {quantity: area, equals: initial}
  - {quantity: jacobian, at_least: 0.1}
"""
OBJECTIVES = {"stokes": "dissipation", "navier_stokes": "{name: drag, on: body}"}


def channel(folder: Path, physics: str, *changes: tuple[str, str]) -> Setup:
    """Flow past a body of few parameters on a coarse mesh."""
    text = CHANNEL.replace("PHYSICS", physics).replace("OBJECTIVE", OBJECTIVES[physics])
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "channel.yaml"
    path.write_text(text)
    return build_setup(load_study(path))


def beside(setup: Setup, distance: float) -> Tensor:
    """A design at a distance from the start along a fixed direction, in shares of the parameters' ranges."""
    lower, upper = setup.family.bounds.T
    direction = torch.rand(len(lower), generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    return setup.initial + distance * (upper - lower) * direction


def solved(setup: Setup, folder: Path, *designs: Tensor, spans: bool = True) -> SolutionStore:
    """Finite-element solutions of designs, with adjoints and tangents or without."""
    store = SolutionStore(setup, folder)
    if spans:
        store.keep_spans()
    for theta in designs:
        assert store(theta.numpy()) is not None
    return store


def tiny_operator(seed: int = 0) -> FlowOperator:
    """An untrained network in double precision."""
    torch.manual_seed(seed)
    return cast(FlowOperator, make_operator(FLOW_PHYSICS["stokes_2d"], TINY).double())
