"""Promise: fields meet prescribed values exactly whatever the weights, and their derivatives are exact."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.solvers.physics.catalogue import Dirichlet
from shapewright.studies.schema.expressions import parse
from shapewright.surrogate.models.point_quantities import at_points
from shapewright.surrogate.models.problem_operator import clouds, input_functions, quadrature
from tests.surrogate.problem_cases import case, poisson, squeezed

CASES = {"poisson": poisson, "squeezed": squeezed}


def encoded(of, count=2, points=150, seed=0):
    """Network with random weights, instances, and their latent fields."""
    network, instances = of.network(seed), of.population.draw(count, seed=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.4)
    return network, instances, network.encode(instances, *clouds(of.lift, instances, points, seed=1))


@pytest.mark.parametrize("name", CASES)
def test_prescribed_values_are_exact_for_any_weights(name):
    of = CASES[name]()
    network, instances, latent = encoded(of)
    nodes = of.lift.shape_map.nodes(instances.theta)
    fields = network.nodal_fields(latent, instances, of.lift, nodes)
    checked = 0
    for column, component in enumerate(of.data.components):
        for tag, index in of.lift.fixed.get(component, {}).items():
            (value,) = (c.value for c in of.data.dirichlet if (c.component, c.tag) == (component, tag))
            wanted = at_points(value, nodes[:, index], instances.parameters)
            torch.testing.assert_close(fields[:, index, column], wanted, rtol=0, atol=1e-13)
            checked += len(index)
        free = of.lift.factor[:, column] > 0
        assert fields[:, free, column].std() > 0.01 * network.scale[column]
    assert checked > 10


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_fields(name):
    """Values and gradients at quadrature points against central differences of fields at free points."""
    of = CASES[name]()
    network, instances, latent = encoded(of)
    sampled = quadrature(of.lift, instances, 2, seed=0)
    fields = network.fields(latent, instances, of.lift, sampled)
    for b in range(len(instances)):
        points, alone = sampled.points[b].flatten(0, 1)[::7], instances.subset(slice(b, b + 1))
        at = partial(network.values_at, latent[b : b + 1], alone, of.lift)
        with torch.no_grad():
            torch.testing.assert_close(fields.values[b, ::7], at(points), rtol=1e-9, atol=1e-10)
            for axis, step in enumerate(1e-6 * torch.eye(2, dtype=torch.float64)):
                difference = (at(points + step) - at(points - step)) / 2e-6
                torch.testing.assert_close(fields.gradients[b, ::7, :, axis], difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_nodal_fields_are_the_fields_at_the_nodes(name):
    of = CASES[name]()
    network, instances, latent = encoded(of)
    nodes = of.lift.shape_map.nodes(instances.theta)
    with torch.no_grad():
        nodal = network.nodal_fields(latent, instances, of.lift, nodes)
        for b in range(len(instances)):
            alone = instances.subset(slice(b, b + 1))
            found = network.values_at(latent[b : b + 1], alone, of.lift, nodes[b])
            torch.testing.assert_close(found, nodal[b], rtol=1e-8, atol=1e-9)


def test_instances_do_not_see_each_other():
    of = poisson()
    network, instances, latent = encoded(of, count=3)
    nodes = of.lift.shape_map.nodes(instances.theta)
    together = network.nodal_fields(latent, instances, of.lift, nodes)
    alone = instances.subset(slice(1, 2))
    own = network.encode(alone, *clouds(of.lift, alone, 150, seed=1))
    torch.testing.assert_close(network.nodal_fields(own, alone, of.lift, nodes[1:2])[0], together[1])


@pytest.mark.parametrize("name", ["c1", "level", "strength"])
def test_values_at_sensors_are_differentiable_in_shape_and_numbers(name):
    of = poisson()
    network, instances, _ = encoded(of, count=1)
    points = 0.4 * torch.tensor([[1.0, 0.3], [-0.8, 0.5], [0.1, -0.9]], dtype=torch.float64)
    start = instances.parameters[name]

    def sensors(value):
        parameters = {k: v for k, v in instances.parameters.items() if k not in ("c1", name)}
        parameters = parameters if name == "c1" else parameters | {name: value}
        here = of.population.instances(value[:, None] if name == "c1" else instances.theta, parameters)
        latent = network.encode(here, *clouds(of.lift, here, 120, seed=1))
        return network.values_at(latent, here, of.lift, points)[:, 0]

    slope = torch.autograd.functional.jacobian(sensors, start)[:, 0]
    with torch.no_grad():
        difference = (sensors(start + 1e-6) - sensors(start - 1e-6)) / 2e-6
    assert slope.abs().max() > 1e-3
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=1e-7)


def test_the_network_is_given_what_varies_and_nothing_else():
    assert [entry.name for entry in poisson().network().inputs] == ["source of u", "u on wall"]
    assert [(entry.name, entry.tag) for entry in squeezed().network().inputs] == [("v on top", "top")]


NUMBERS = [f"n{k}" for k in range(12)]


@pytest.mark.parametrize(
    ("formula", "varies"),
    [
        ("2.5", False),
        ("0*x + 3", False),
        ("n3", True),
        ("maximum(0, -x)", True),
        ("abs(n0) - n0", True),
        ("sqrt(x - 100)", True),
        ("log(-n1)", True),
        *((f"x - {name}", True) for name in NUMBERS),
        *((f"n0 - {name}", True) for name in NUMBERS[1:]),
    ],
)
def test_a_formula_counts_as_given_if_it_varies_anywhere(formula, varies):
    """Whichever numbers it combines, and whatever branch hides its variation."""
    function = parse(formula, ["x", "y", *NUMBERS], "test")
    data = case("poisson", "star_domain", (Dirichlet("u", "wall", function),)).data
    assert bool(input_functions(data, NUMBERS)) == varies


def test_a_coefficient_of_the_fields_is_no_input():
    of = case("poisson", "star_domain", (Dirichlet("u", "wall", lambda ops, q: q["x"]),))
    data = of.data
    data.coefficients["conductivity"] = lambda ops, q: 1 + q["u"] ** 2
    assert [entry.name for entry in input_functions(data, [])] == ["u on wall"]


def test_scales_are_those_of_the_boundary_values_and_inputs():
    of = poisson()
    network = of.network()
    drawn = of.population.draw(4000, seed=9)
    size = network.scale.item()
    assert 0.3 < size < 1.0  # level ~ U(-1, 1): root mean square 0.58 on a disc, with x y beside it
    (mean, deviation), _ = network.input_scale.tolist()
    strengths = drawn.parameters["strength"]
    assert abs(mean - float(strengths.mean())) < 1
    assert deviation == pytest.approx(float(strengths.std()), rel=0.5)
    still = case("poisson", "star_domain", (Dirichlet("u", "wall", lambda ops, q: 0.0),))
    assert still.network().scale.tolist() == [1.0]
    assert squeezed().network().scale[0] == squeezed().network().scale[1]  # u is prescribed as zero: the size of v


@settings(max_examples=15)
@given(st.integers(1, 600), st.integers(0, 50))
def test_clouds_have_about_the_points_asked_for_and_measure_the_domain(count, seed):
    of = poisson()
    instances = of.population.draw(2, seed)
    inside, around = clouds(of.lift, instances, count, seed)
    curves = len(of.lift.shape_map.family.curves)
    assert abs((len(inside.points) + len(around.points)) / 2 - count) <= 2 * curves
    assert inside.shapes == around.shapes == 2
    area = quadrature(of.lift, instances, 3, seed=0).weights.sum((-1, -2))
    torch.testing.assert_close(inside.measures(), area)
    again = clouds(of.lift, instances, count, seed)
    assert torch.equal(inside.points, again[0].points)
    assert np.array_equal(around.points, again[1].points)


def test_the_rule_integrates_as_well_at_other_places():
    """Exact to degree two on straight cells, whatever the places, which the seed decides."""
    of = squeezed()
    instances = of.population.draw(1, seed=0)
    samples = [quadrature(of.lift, instances, 2, seed) for seed in (0, 1, 0)]
    assert torch.equal(samples[0].points, samples[2].points)
    assert not torch.equal(samples[0].points, samples[1].points)
    for power in range(2):
        integrals = [(p.points[..., 0] ** power * p.points[..., 1] * p.weights).sum() for p in samples[:2]]
        torch.testing.assert_close(integrals[0], integrals[1], rtol=1e-7, atol=0)
    nodal = of.lift.shape_map.nodes(instances.theta)[..., 0]
    torch.testing.assert_close(samples[1].interpolate(nodal), samples[1].points[..., 0])
