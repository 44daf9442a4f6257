"""Operators for all shapes: the Ritz-Galerkin solution, dimensionless data, random problems, training, files."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.studies.problem.linear_physics import PHYSICS
from shapewright.surrogate.models.galerkin import System, assemble, energy_error, gain, solve
from shapewright.surrogate.models.shape_descriptors import DESCRIPTORS, describe, limits, novelty
from shapewright.surrogate.models.shape_operator import EXTENT, TYPICAL, polynomials
from shapewright.surrogate.models.shape_operator_file import (
    ShapeOperatorCard,
    load_shape_operator,
    save_shape_operator,
    sizes_of,
)
from shapewright.surrogate.models.shapes import Shapes, dimensionless
from shapewright.surrogate.models.sparse_solution import finite_element_fields, finite_element_gain
from shapewright.surrogate.models.weights_file import SurrogateFileError
from shapewright.surrogate.training.loop import TrainerConfig
from shapewright.surrogate.training.shape_population import draw
from shapewright.surrogate.training.shape_training import energy_errors, reference_problems, train_on_energy
from tests.surrogate.shape_cases import DRAWS, TINY, population, tiny

DOUBLE = torch.zeros(0, dtype=torch.float64)
OPERATORS = tuple(PHYSICS)


def drawn(operator: str, count: int = 4, seed: int = 0) -> Shapes:
    """Random problems in double precision."""
    return draw(population(operator), DRAWS[operator], count, torch.Generator().manual_seed(seed)).to(DOUBLE)


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_drawn_problems_are_dimensionless_unfolded_and_inside_the_box(operator: str, seed: int) -> None:
    shapes = drawn(operator, 3, seed)
    inside = shapes.cell_points(2)
    assert bool((inside.weights[shapes.cell_mask > 0] > 0).all())
    assert bool((shapes.nodes.abs() < EXTENT).all())
    area = inside.weights.sum((1, 2))
    centre = torch.einsum("beq,beqd->bd", inside.weights, inside.points) / area[:, None]
    gyration = torch.einsum("beq,beqd->b", inside.weights, inside.points.square()) / area
    torch.testing.assert_close(centre, torch.zeros_like(centre), atol=2e-6, rtol=0)
    torch.testing.assert_close(gyration, torch.ones_like(gyration), atol=2e-5, rtol=0)
    prescribed = shapes.facet_points(2).interpolate(shapes.factor)[..., 0][shapes.prescribed[..., 0] > 0]
    assert bool((prescribed.abs() < 1e-12).all())


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_fields_gain_more_energy_than_finite_elements(operator: str, seed: int) -> None:
    shapes = drawn(operator, 2, seed)
    exact = finite_element_gain(PHYSICS[operator], shapes)
    system = tiny(operator, seed % 7)(shapes)
    assert bool((exact > 0).all())
    assert bool((gain(system) <= exact * (1 + 1e-9)).all())
    assert bool((energy_error(system, exact) <= 1 + 1e-9).all())


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_solution_in_the_span_of_the_finite_element_one_is_that_one(operator: str) -> None:
    shapes = drawn(operator)
    physics = PHYSICS[operator]
    change = finite_element_fields(physics, shapes) - shapes.lifting
    other = torch.randn(change.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * shapes.factor
    system = assemble(physics, shapes, torch.stack([other, change], -1))
    torch.testing.assert_close(solve(system)[:, 1], torch.ones(4, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(gain(system), finite_element_gain(physics, shapes), rtol=1e-8, atol=0)
    assert float(energy_error(system, finite_element_gain(physics, shapes)).max()) < 1e-4


@settings(max_examples=20, deadline=None)
@given(degree=st.integers(0, 5), dimension=st.integers(1, 3), seed=st.integers(0, 99))
def test_amplitudes_span_all_monomials_to_their_degree(degree: int, dimension: int, seed: int) -> None:
    points = 4 * torch.rand(80, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 2
    found = polynomials(points, degree)
    assert found.shape[-1] == math.comb(degree + dimension, dimension)
    orders = [o for o in itertools.product(range(degree + 1), repeat=dimension) if sum(o) <= degree]
    monomials = torch.stack([(points / TYPICAL).pow(torch.tensor(order)).prod(-1) for order in orders], -1)
    apart = monomials - found @ torch.linalg.lstsq(found, monomials).solution
    assert apart.abs().max() < 1e-10 * monomials.abs().max()


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_higher_degree_never_gains_less_energy(operator: str) -> None:
    network, shapes = tiny(operator), drawn(operator, 4)
    gains = []
    for degree in range(5):
        network.config = replace(network.config, degree=degree)
        gains.append(gain(network(shapes)).detach())
    finite = finite_element_gain(PHYSICS[operator], shapes)
    for less, more in itertools.pairwise([*gains, finite]):
        assert bool((less <= more * (1 + 1e-6)).all())
    assert bool((gains[4] > gains[0]).all())


def test_elimination_gives_what_the_solution_of_the_system_gives() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64)
    system = System(root @ root.mT, torch.randn(3, 6, generator=generator, dtype=torch.float64), torch.zeros(3))
    expected = (system.load * torch.linalg.solve(system.matrix, system.load)).sum(-1)
    torch.testing.assert_close(gain(system), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close((system.load * solve(system)).sum(-1), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_units_and_position_do_not_matter(operator: str) -> None:
    shapes = drawn(operator)
    length, unit, stiffness = 1e-3, 40.0, 2.1e11
    other = replace(
        shapes,
        nodes=length * shapes.nodes + torch.tensor([3.0, -2.0], dtype=torch.float64),
        lifting=unit * shapes.lifting,
        source=shapes.source * stiffness * unit / length**2,
        flux=shapes.flux * stiffness * unit / length,
        robin=shapes.robin * stiffness / length,
    )
    one = torch.ones(len(shapes), dtype=torch.float64)
    expected, frame = dimensionless(shapes, one)
    found, other_frame = dimensionless(other, stiffness * one)
    torch.testing.assert_close(other_frame.load, unit * frame.load, rtol=1e-9, atol=0)
    for here, there in zip(found.tensors, expected.tensors, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-8, atol=1e-8)


def test_padding_changes_nothing() -> None:
    shapes, network = drawn("poisson_2d", 6), tiny("poisson_2d")
    together = network(shapes)
    for index in range(len(shapes)):
        one = shapes.subset(slice(index, index + 1))
        cells, facets = int(one.cell_mask.sum()), int(one.facet_mask.sum())
        bare = replace(
            one,
            cells=one.cells[:, :cells],
            cell_mask=one.cell_mask[:, :cells],
            facets=one.facets[:, :facets],
            facet_mask=one.facet_mask[:, :facets],
            prescribed=one.prescribed[:, :facets],
            flux=one.flux[:, :facets],
            robin=one.robin[:, :facets],
        )
        torch.testing.assert_close(network(bare).matrix[0], together.matrix[index], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(network(bare).load[0], together.load[index], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
def test_training_lowers_the_error_and_a_broken_one_goes_on(operator: str, tmp_path: Path) -> None:
    network = tiny(operator).float()
    held_out = reference_problems(network, population(operator), DRAWS[operator], 6, 3)
    before = float(energy_errors(network, held_out).mean())
    config = TrainerConfig(steps=24, batch=4, check_every=12, checkpoint_every=6, learning_rate=3e-3)

    class Broken(Exception):
        pass

    def stop(progress) -> None:  # type: ignore[no-untyped-def]
        if progress.step == 8:
            raise Broken

    arguments = (population(operator), DRAWS[operator], held_out, config, tmp_path / "c")
    with pytest.raises(Broken):
        train_on_energy(network, *arguments, report=stop)
    history = train_on_energy(network, *arguments)
    whole = tiny(operator).float()
    assert train_on_energy(whole, *arguments[:-1]) == history
    assert history[-1].error < before


def test_a_file_gives_back_network_and_card(tmp_path: Path) -> None:
    network = tiny("elasticity_2d").float()
    shapes = drawn("elasticity_2d", 50)
    known = limits(describe(shapes))
    card = ShapeOperatorCard(
        {"operator": "elasticity_2d", "sizes": sizes_of(TINY)}, {}, {"trained": {"spline": 2}}, known,
        {"poisson_ratio": [0.1, 0.4]}, {"seen": {"mean": 0.1}}, {"device": "cpu"}, 1.0,
    )  # fmt: skip
    path = tmp_path / "o.safetensors"
    save_shape_operator(path, network, card)
    other, found = load_shape_operator(path, PHYSICS)
    assert found == card
    few = shapes.subset(slice(0, 2)).to(torch.zeros(0))
    torch.testing.assert_close(other.basis(few), network.basis(few))
    inside = novelty(describe(shapes)[7], known)
    assert set(inside) == set(DESCRIPTORS)
    assert all(value >= 0 for value in inside.values())
    stretched = replace(shapes, nodes=shapes.nodes * torch.tensor([4.0, 0.25], dtype=torch.float64))
    far = novelty(describe(dimensionless(stretched, torch.ones(50, dtype=torch.float64))[0])[7], known)
    assert far["aspect"] > 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SurrogateFileError, match="there is no such file"):
        load_shape_operator(tmp_path / "none.safetensors", PHYSICS)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(SurrogateFileError, match="not a safetensors file"):
        load_shape_operator(tmp_path / "junk.safetensors", PHYSICS)


def test_the_finite_element_solution_is_that_of_a_disc() -> None:
    """-lap u = 1 on a unit disc: int u = pi / 8."""
    from shapewright.geometries.cad.mesher import mesh_family
    from shapewright.geometries.family.closed_bar import closed_bar
    from shapewright.surrogate.training.shape_population import Conditions, build_population

    family = closed_bar(control_points=16)
    mesh = mesh_family(family, family.control_points(family.reference).numpy(), 0.25)
    count = len(mesh.tag_names)

    def held(generator: np.random.Generator, mesh: object) -> Conditions:
        return Conditions(np.ones((count, 1), dtype=bool), np.zeros(count, dtype=bool), np.zeros(count, dtype=bool))

    one = build_population([mesh], held, 1, 0)
    shapes = drawn("poisson_2d", 1)
    shape = Shapes(
        one.nodes, one.cells, one.cell_mask, one.facets, one.facet_mask, one.factor, 0 * one.lifting, one.prescribed,
        torch.ones_like(one.factor), torch.zeros(*one.facets.shape, 1), torch.zeros(one.facets.shape[:2]),
        shapes.parameters[:, :0],
    ).to(DOUBLE)  # fmt: skip
    radius_to_the_fourth = float((shape.cell_points(3).weights.sum() / np.pi) ** 2)
    found = float(finite_element_gain(PHYSICS["poisson_2d"], shape))  # int u, the work of the source
    assert found == pytest.approx(np.pi / 8 * radius_to_the_fourth, rel=2e-4)
