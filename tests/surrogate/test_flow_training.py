"""Flows on random domains, their solutions, and an operator that learns from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from shapewright.studies.problem.linear_physics import FLOW_PHYSICS
from shapewright.surrogate.models.flow_operator import FlowOperator, linear_in_cells
from shapewright.surrogate.models.flow_solution import flow_solutions
from shapewright.surrogate.models.shape_operator_file import make_operator
from shapewright.surrogate.models.shapes import Shapes
from shapewright.surrogate.training.flow_population import build_flows, draw_flows
from shapewright.surrogate.training.flow_training import (
    mean_span_errors,
    solved_flows,
    span_errors,
    train_on_solutions,
)
from shapewright.surrogate.training.loop import TrainerConfig
from shapewright.surrogate.training.shape_population import Draw, ShapePopulation
from tests.surrogate.shape_cases import TINY, meshes

DOUBLE = torch.zeros(0, dtype=torch.float64)


@cache
def population() -> ShapePopulation:
    return build_flows(meshes(), 6, 0)


def network() -> FlowOperator:
    torch.manual_seed(0)
    found = make_operator(FLOW_PHYSICS["stokes_2d"], TINY)
    assert isinstance(found, FlowOperator)
    return found


def flows(count: int = 24) -> Shapes:
    return draw_flows(population(), Draw(), count, torch.Generator().manual_seed(1)).to(DOUBLE)


def enclosed(shapes: Shapes) -> torch.Tensor:
    return ((shapes.prescribed > 0).all(-1) | (shapes.facet_mask == 0)).all(1)


def test_flows_drawn_are_of_all_kinds_and_balance() -> None:
    shapes = flows()
    closed = enclosed(shapes)
    assert 0 < int(closed.sum()) < len(shapes)
    assert bool((shapes.flux != 0).any())
    assert bool((shapes.source != 0).any())
    around = shapes.facet_points(3)
    through = (around.interpolate(shapes.lifting) * around.normals).sum(-1) * around.weights
    speed = around.interpolate(shapes.lifting).norm(dim=-1) * around.weights
    share = through.sum((1, 2)).abs() / speed.sum((1, 2)).clamp_min(1e-9)
    assert float(share[closed].max()) < 0.03  # coarse curved cells
    assert float(share[~closed].max()) > 0.2


def test_solutions_keep_mass_and_balance_their_loads() -> None:
    shapes = flows(8)
    velocity, pressure = flow_solutions(shapes)
    inside = shapes.cell_points(3)
    divergence = inside.gradient(velocity).diagonal(dim1=-2, dim2=-1).sum(-1)
    tests = linear_in_cells(shapes, torch.eye(shapes.nodes.shape[1]).double().expand(len(shapes), -1, -1))
    tested = torch.einsum("beq,beqn->bn", divergence * inside.weights, inside.interpolate(tests))
    shares = torch.einsum("beq,beqn->bn", inside.weights, inside.interpolate(tests))
    leak = torch.where(enclosed(shapes), tested.sum(1) / shares.sum(1), 0.0)  # spread evenly
    torch.testing.assert_close(tested, leak[:, None] * shares, atol=1e-9, rtol=0)
    mean = torch.einsum("beq,beqc->b", inside.weights, inside.interpolate(pressure[..., None]))
    torch.testing.assert_close(mean[enclosed(shapes)], torch.zeros_like(mean[enclosed(shapes)]), atol=1e-9, rtol=0)


def test_errors_are_zero_where_the_span_has_the_solution() -> None:
    solved = solved_flows(population(), Draw(), 4, 3).to(DOUBLE)
    operator = network().double()

    def both(shapes: Shapes) -> tuple[torch.Tensor, torch.Tensor]:
        velocities, pressures = FlowOperator.both(operator, shapes)
        own = torch.stack([solved.velocity - shapes.lifting, velocities[..., 0]], -1)
        return own, torch.stack([2 * solved.pressure, pressures[..., 0]], -1)

    with torch.no_grad():
        plain = span_errors(operator, solved)
        operator.both = both  # type: ignore[method-assign]
        known = span_errors(operator, solved)
    for missed, before in zip(known, plain, strict=True):
        assert float(missed.max()) < 1e-8 < 1e-2 < float(before.min())
        assert float(before.max()) < 4


def test_training_lowers_the_error_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    held_out = solved_flows(population(), Draw(), 12, 5)
    config = TrainerConfig(steps=30, batch=4, learning_rate=1e-2, check_every=10, checkpoint_every=10)
    operator = network()
    before = float(mean_span_errors(operator, held_out)[0].mean())
    checkpoint = tmp_path / "flow.checkpoint"
    history = train_on_solutions(operator, population(), Draw(), held_out, config, checkpoint)
    assert float(mean_span_errors(operator, held_out)[0].mean()) < 0.97 * before
    again = network()
    assert train_on_solutions(again, population(), Draw(), held_out, config, checkpoint)[-1].error == history[-1].error
