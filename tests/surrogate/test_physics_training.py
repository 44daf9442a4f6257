"""Promise: an operator learns from the physics alone, never sees what judges it, and survives being killed."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from shapewright.surrogate.models.instances import Population
from shapewright.surrogate.training import physics_training
from shapewright.surrogate.training.loop import TrainingError
from shapewright.surrogate.training.physics_training import (
    FIRST_SEED,
    PhysicsTrainingConfig,
    Solutions,
    held_out_errors,
    squared_errors,
    train_on_physics,
)
from tests.surrogate.problem_cases import poisson

SHORT = PhysicsTrainingConfig(steps=6, batch=2, points=(60, 90), check_every=2, checkpoint_every=2)
HELD_OUT_SEED = 1000


@cache
def held_out(count=3):
    of = poisson()
    return of.solve(of.population.draw(count, HELD_OUT_SEED))


def train(network, config=SHORT, **options):
    of = poisson()
    return train_on_physics(network, [of.lift], of.population, held_out(), config, **options)


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def error_of(network):
    return float(held_out_errors(network, held_out(), 120).detach().mean())


class Killed(Exception):
    pass


def test_the_error_falls_on_physics_alone():
    """Fifty times in seconds, for both losses, on instances whose solutions were never shown."""
    config = PhysicsTrainingConfig(steps=100, batch=4, points=(60, 120), learning_rate=1e-2, check_every=25)
    for loss in ("energy", "weak_residual"):
        network = poisson().network(width=8).float()
        before = error_of(network)
        history = train(network, replace(config, loss=loss))
        after = error_of(network)
        print(f"{loss}: squared relative error {before:.3g} before, {after:.3g} after")
        assert after == pytest.approx(min(entry.error for entry in history))
        assert after < 0.02 * before


def test_solutions_help_where_the_physics_is_given_little_weight():
    """With them alone (a loss that physics hardly enters) the error falls, too."""
    of = poisson()
    known = of.solve(of.population.draw(6, 77))
    network = of.network(width=8).float()
    before = error_of(network)
    config = replace(SHORT, steps=40, learning_rate=1e-2, check_every=20, solution_weight=1e4)
    train(network, config, known=known)
    assert error_of(network) < 0.5 * before


def test_a_weight_of_zero_turns_solutions_off():
    of = poisson()
    known = of.solve(of.population.draw(2, 77))
    networks = [of.network().float() for _ in range(2)]
    train(networks[0], replace(SHORT, solution_weight=0.0), known=known)
    train(networks[1], replace(SHORT, solution_weight=0.0))
    for a, b in zip(weights_of(networks[0]).values(), weights_of(networks[1]).values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("loss", ["energy", "weak_residual"])
@pytest.mark.parametrize("step", [3, 4])
def test_killed_and_resumed_equals_unbroken_bit_for_bit(tmp_path, loss, step):
    config = replace(SHORT, loss=loss)
    whole = poisson().network().float()
    expected = train(whole, config)

    def kill(progress):
        if progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        train(poisson().network().float(), config, checkpoint=tmp_path / "checkpoint", report=kill)
    resumed, steps = poisson().network(seed=9).float(), []
    report = lambda progress: steps.append(progress.step)  # noqa: E731
    assert train(resumed, config, checkpoint=tmp_path / "checkpoint", report=report) == expected
    assert steps[0] == (3 if step == 3 else 5)
    for name, tensor in weights_of(resumed).items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_held_out_instances_are_never_trained_on(monkeypatch):
    """Over all the steps that a study may have: the seeds of draws are apart, whatever the seed of training."""
    seeds = []
    draw = Population.draw

    def spy(self, count, seed):
        seeds.append(seed)
        return draw(self, count, seed)

    monkeypatch.setattr(Population, "draw", spy)
    for seed in (0, 3):
        seeds.clear()
        train(poisson().network().float(), replace(SHORT, steps=3, seed=seed))
        drawn = [s for s in seeds if s > 1]  # one draw, of seed 1, is for the scales of the network
        assert drawn == [(seed + 1) * FIRST_SEED + step for step in range(3)]
        assert min(drawn) > 1_000_000


def test_cloud_sizes_are_drawn_log_uniformly_within_their_bounds(monkeypatch):
    counts = []
    clouds = physics_training.clouds

    def spy(lift, instances, count, seed):
        counts.append(count)
        return clouds(lift, instances, 40, seed)

    monkeypatch.setattr(physics_training, "clouds", spy)
    config = replace(SHORT, steps=40, points=(100, 10_000), check_every=1000)
    train(poisson().network(width=4).float(), config)
    sizes = np.array(counts[:40])
    assert sizes.min() >= 100
    assert sizes.max() <= 10_000
    assert 0.3 < (sizes < 1000).mean() < 0.7
    assert len(set(counts[:40])) > 30


def test_meshes_take_turns(monkeypatch):
    used = []
    quadrature = physics_training.quadrature

    def spy(lift, *rest):
        used.append(lift)
        return quadrature(lift, *rest)

    monkeypatch.setattr(physics_training, "quadrature", spy)
    lifts = [poisson().lift, poisson(mesh_size=0.4).lift]
    for loss in ("energy", "weak_residual"):
        used.clear()
        config = replace(SHORT, steps=4, loss=loss)
        train_on_physics(poisson().network().float(), lifts, poisson().population, held_out(), config)
        assert [lifts.index(lift) for lift in used] == [0, 1, 0, 1]


def test_the_error_is_the_squared_relative_one_of_each_instance():
    """A network that gives c times the solution is off by (1 - c)^2, whatever the size of the solution."""
    of = poisson()
    solutions = held_out()
    network = of.network()

    def fields(latent, instances, lift, nodes):
        return factor * (solutions.fields if len(instances) == 3 else solutions.fields[1:2])

    network.nodal_fields = fields
    for factor in (1.0, 0.9, -1.0):
        found = squared_errors(network, solutions, 50)
        torch.testing.assert_close(found, torch.full((3,), (1 - factor) ** 2, dtype=torch.float64))


def test_errors_do_not_depend_on_how_instances_are_batched():
    network = poisson().network()
    with torch.no_grad():
        together, apart = (held_out_errors(network, held_out(), 80, batch=batch) for batch in (8, 1))
    torch.testing.assert_close(together, apart)


def test_an_instance_is_weighed_by_its_size():
    """Conduction is linear: the same problem in other units has the same loss up to a constant of its energy."""
    of = poisson()
    network = of.network()
    sampled = physics_training.quadrature(of.lift, of.population.draw(2, 0), 2, 0)
    task = physics_training._PhysicsTask(network, [of.lift], of.population, held_out(), SHORT, None, None)
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2, sampled.weights[0].numel(), 1, generator=generator, dtype=torch.float64)
    typical = network.scale.square().sum() / 20
    size = task._size(values, sampled) - typical
    torch.testing.assert_close(task._size(3 * values, sampled) - typical, 9 * size)
    assert (task._size(0 * values, sampled) == typical).all()


def test_what_is_not_finite_stops_the_training_with_its_step():
    network = poisson().network().float()
    bad = Solutions(held_out().instances, held_out().fields * float("nan"), held_out().lift)
    of = poisson()
    with pytest.raises(TrainingError, match="the held-out squared relative error is nan at step 1"):
        train_on_physics(network, [of.lift], of.population, bad, SHORT)


@pytest.mark.gpu
@pytest.mark.parametrize("loss", ["energy", "weak_residual"])
def test_trains_on_a_gpu_as_on_the_cpu(loss):
    config = replace(SHORT, steps=3, loss=loss)
    expected, found = train(poisson().network(), config), train(poisson().network().cuda(), config)
    assert found[-1].loss == pytest.approx(expected[-1].loss, rel=1e-6)
    assert found[-1].error == pytest.approx(expected[-1].error, rel=1e-6)
