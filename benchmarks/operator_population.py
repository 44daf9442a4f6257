"""Operators for all shapes on problems drawn at random: any shape of kinds that training never saw, any conditions.

Part of ``python -m benchmarks.operators``. The objective is the compliance l(u), whose derivative along a motion of the
domain with the nodal fields held is that of 2 l(u) - a(u, u); it is compared along smooth random motions. The rival
needs no training: the factor that vanishes at supports times polynomials alone, of about as many functions.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.shape_operators import CHOOSE, DRAWS
from shapewright.geometries.population.command import make
from shapewright.geometries.population.domain import NODES
from shapewright.geometries.population.kinds import UNSEEN
from shapewright.surrogate.models.galerkin import LinearPhysics, assemble, element_arrays, solve
from shapewright.surrogate.models.shape_operator import ShapeOperator, polynomials
from shapewright.surrogate.models.shape_operator_file import ShapeOperatorCard
from shapewright.surrogate.models.shapes import Shapes
from shapewright.surrogate.models.sparse_solution import finite_element_fields
from shapewright.surrogate.training.shape_population import build_population, draw

PROBLEMS, MOTIONS, SEED = 48, 12, 5
AT_ONCE = 8
MOST_DOMAINS = 64


def population_rows(network: ShapeOperator, card: ShapeOperatorCard) -> list[dict[str, Any]]:
    """Mean errors over the problems, with the fields held; rows as those of a family: the operator, then its rival."""
    name = card.operator
    domains = [make(index, SEED, NODES, unseen=True)[1] for index in range(MOST_DOMAINS)]
    meshes = [mesh for mesh in domains if len(mesh.tag_names) > 1 or len(network.physics.components) == 1]
    population = build_population(meshes[:PROBLEMS], CHOOSE[name], 1, SEED)
    how, generator = replace(DRAWS[name], lifted=0.0), torch.Generator().manual_seed(SEED)
    problems = draw(population, how, PROBLEMS, generator).to(torch.zeros(0, dtype=torch.float64))
    parts = [problems.subset(slice(start, start + AT_ONCE)) for start in range(0, PROBLEMS, AT_ONCE)]
    about = {"physics": name, "population": f"any conditions on {', '.join(UNSEEN)}", "objective": "compliance"}
    rows = []
    for trained, each in ((True, network), (False, without_network(network))):
        errors = torch.cat([_errors(each, part) for part in parts]).mean(0).tolist()
        found = dict(zip(("field_error", "value_error", "gradient_error", "cosine"), errors, strict=True))
        cost = {"training_seconds": card.seconds * trained, "training_solves": card.solves * trained}
        rows.append({"network": trained, "known_solutions": 0, "gradient_form": "lagrangian"} | about | found | cost)
    return rows


def without_network(network: ShapeOperator) -> ShapeOperator:
    """The same model with the factor alone in place of the fields, times polynomials: at most as many functions."""
    components, degree = len(network.physics.components), network.config.degree
    functions = network.config.fields * math.comb(degree + 2, 2) // components
    rival = copy(network)
    rival.config = replace(network.config, degree=max(n for n in range(99) if math.comb(n + 2, 2) <= functions))
    rival.basis = partial(_untrained, degree=rival.config.degree)  # type: ignore[method-assign]
    return rival


def _untrained(shapes: Shapes, degree: int) -> Tensor:
    """(B, N, c, K) factors times polynomials."""
    shapes = shapes.to(torch.zeros(0, dtype=torch.float64))
    own = torch.diag_embed(shapes.factor)
    return (own[..., None] * polynomials(shapes.nodes, degree)[:, :, None, None]).flatten(-2)


def _errors(network: ShapeOperator, shapes: Shapes) -> Tensor:
    """(B, 4) errors of field, value and gradient, and cosines."""
    with torch.no_grad():
        basis = network.basis(shapes.to(next(network.parameters()))).to(shapes.nodes)
        sizes = solve(assemble(network.physics, shapes, basis))
    found, waves = torch.einsum("bnck,bk->bnc", basis, sizes) + shapes.lifting, _waves()
    exact = finite_element_fields(network.physics, shapes)
    inside = shapes.cell_points()
    apart, whole = (
        torch.einsum("beqc,beq->b", inside.interpolate(field).square(), inside.weights).sqrt()
        for field in (found - exact, exact)
    )
    value, slopes = _compliance(network.physics, shapes, found, waves)
    true_value, true_slopes = _compliance(network.physics, shapes, exact, waves)
    size, true_size = slopes.norm(dim=-1), true_slopes.norm(dim=-1)
    gradient = (slopes - true_slopes).norm(dim=-1) / true_size
    cosine = (slopes * true_slopes).sum(-1) / (size * true_size)
    return torch.stack([apart / whole, (value / true_value - 1).abs(), gradient, cosine], -1)


def _compliance(physics: LinearPhysics, shapes: Shapes, fields: Tensor, waves: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) compliances and (B, M) derivatives along the motions sin(k . x + p) v of the nodes; fields (B, N, c)."""
    nodes = shapes.nodes.clone().requires_grad_()
    parts = element_arrays(physics, replace(shapes, nodes=nodes))
    forms, loads = (sum(of) for of in zip(*(part.of_fields(fields, fields.shape[-1]) for part in parts), strict=True))
    value = 2 * loads[:, 0] - forms[:, 0, 0]
    (slope,) = torch.autograd.grad(value.sum(), nodes)
    number, phase, push = waves[:, :2], waves[:, 2], waves[:, 3:]
    motion = torch.sin(torch.einsum("bnd,md->bnm", shapes.nodes, number) + phase)
    return value.detach(), torch.einsum("bnd,bnm,md->bm", slope, motion, push)


def _waves() -> Tensor:
    """(M, 5) wave number, phase and direction of the motions: lengths from four radii of gyration to 0.6."""
    random = np.random.default_rng(SEED)
    size = 2 * math.pi / np.exp(random.uniform(math.log(0.6), math.log(4.0), MOTIONS))
    towards, push = random.uniform(0, 2 * math.pi, (2, MOTIONS))
    columns = [size * np.cos(towards), size * np.sin(towards), random.uniform(0, 2 * math.pi, MOTIONS)]
    return torch.from_numpy(np.stack([*columns, np.cos(push), np.sin(push)], -1))
