"""Promise: initial data hold exactly, exact derivatives are those of the field, no place of the circle is special."""

import math

import pytest
import torch

from shapewright.surrogate.mgno.operator import OperatorConfig
from shapewright.surrogate.models.evolution import EvolutionOperator
from shapewright.surrogate.models.periodic_functions import GaussianRandomField, PeriodicFunctions
from shapewright.surrogate.training.evolution_training import (
    EvolutionSolutions,
    EvolutionTrainingConfig,
    burgers_residual,
    squared_errors,
    train_evolution,
)
from shapewright.surrogate.training.residual_to_error import residual_to_error

FIELD = GaussianRandomField(2.0, 0.7)


def network(dtype: torch.dtype = torch.float64) -> EvolutionOperator:
    torch.manual_seed(0)
    config = OperatorConfig(width=6, hidden=8, modes=(4, 3), layers=2)
    net = EvolutionOperator(config, grid=(16, 12), radius=2, scale=1.4, sensors=(32, 4)).to(dtype)
    torch.nn.init.normal_(net.operator.projection.weight)
    return net


@pytest.fixture(scope="module")
def solved():
    net, initial = network(), FIELD.draw(2, seed=3)
    return net, initial, net.encode(initial)


def test_initial_data_hold_exactly(solved) -> None:
    net, initial, latent = solved
    x = torch.linspace(0, 1, 9, dtype=torch.float64)
    found = net.fields(latent, initial, x, torch.zeros(1, dtype=torch.float64))
    assert torch.equal(found[..., 0], initial.values(x))


def test_exact_derivatives_agree_with_differences_of_the_field(solved) -> None:
    net, initial, latent = solved
    x, t = torch.tensor([0.11, 0.47, 0.98]).double(), torch.tensor([0.2, 0.55, 0.9]).double()
    found = net.exact_derivatives(latent, initial, x, t)
    step = 2e-5

    def moved(dx: float, dt: float) -> torch.Tensor:
        return net.fields(latent, initial, x + dx, t + dt)

    with torch.no_grad():
        expected = {
            "value": moved(0, 0),
            "t": (moved(0, step) - moved(0, -step)) / (2 * step),
            "x": (moved(step, 0) - moved(-step, 0)) / (2 * step),
            "xx": (moved(step, 0) - 2 * moved(0, 0) + moved(-step, 0)) / step**2,
        }
    for name, value in expected.items():
        assert (getattr(found, name) - value).abs().max() < 1e-5 * value.abs().max(), name


def test_differences_on_the_grid_converge_to_the_exact_derivatives() -> None:
    """A field whose variation the grid resolves: the initial data's own, with the network's part turned off."""
    net, initial = network(), GaussianRandomField(2.0, 0.7, waves=3).draw(2, seed=3)
    torch.nn.init.zeros_(net.operator.projection.weight)
    torch.nn.init.zeros_(net.operator.projection.bias)
    with torch.no_grad():
        latent = net.encode(initial)
        errors = []
        for points in (32, 64):
            x = (torch.arange(points).double() + 0.3) / points
            t = torch.linspace(0, 1, points).double()
            ways = [net.derivatives(kind, latent, initial, x, t) for kind in ("exact", "differences", "fourier")]
            exact, *others = (burgers_residual(u, 0.01) for u in ways)
            errors.append([float((other - exact).abs().max()) for other in others])
    assert math.log2(errors[0][0] / errors[1][0]) == pytest.approx(2, abs=0.15)
    assert errors[0][1] < 1e-9


def test_unknown_derivatives_are_refused(solved) -> None:
    net, initial, latent = solved
    with pytest.raises(ValueError, match="derivatives are 'spectral'; allowed are exact, differences, fourier"):
        net.derivatives("spectral", latent, initial, torch.zeros(4), torch.zeros(4))


def test_shifted_data_have_shifted_solutions(solved) -> None:
    """By whole spacings of the latent grid and of the sensors, for which the operator is equivariant to rounding."""
    net, initial, latent = solved
    shift = 3 / 16
    turn = 2 * math.pi * shift * torch.arange(1, FIELD.waves + 1)
    cosine, sine = torch.cos(turn), torch.sin(turn)
    moved = PeriodicFunctions(
        initial.cosines * cosine - initial.sines * sine, initial.sines * cosine + initial.cosines * sine
    )
    x, t = torch.linspace(0, 1, 11, dtype=torch.float64), torch.linspace(0, 1, 5, dtype=torch.float64)
    assert torch.allclose(moved.values(x + shift), initial.values(x), atol=1e-12)
    found = net.fields(net.encode(moved), moved, x + shift, t)
    assert torch.allclose(found, net.fields(latent, initial, x, t), atol=1e-10)


@pytest.mark.parametrize(("kind", "share"), [("exact", 0.85), ("differences", 0.25), ("fourier", 0.25)])
def test_training_lowers_the_error_of_unseen_data_and_goes_on_where_it_was_broken_off(kind, share, tmp_path) -> None:
    """Data so small that only diffusion is left, of which the exact solution is known.

    Exact derivatives begin more slowly: they see the ripples between the nodes of the latent grid, which differences
    over a coarser grid do not.
    """
    field, viscosity = GaussianRandomField(2.0, 1e-4, waves=1), 0.03
    held_out = field.draw(4, seed=10**6)
    x, t = torch.arange(32).double() / 32, torch.linspace(0, 1, 17).double()
    decay = torch.exp(-viscosity * (2 * math.pi) ** 2 * t)
    solutions = EvolutionSolutions(held_out, held_out.values(x)[..., None] * decay)
    config = EvolutionTrainingConfig(
        steps=30, batch=2, learning_rate=1e-2, check_every=30, checkpoint_every=10, collocation=16,
        viscosity=viscosity, derivatives=kind,
    )  # fmt: skip

    def fresh() -> EvolutionOperator:
        torch.manual_seed(1)
        config = OperatorConfig(width=6, hidden=8, modes=(4, 3), layers=1)
        return EvolutionOperator(config, (16, 12), 2, scale=2e-4, sensors=(16, 4))

    class BrokenOffError(Exception):
        pass

    def stop(progress) -> None:
        if progress.step == 20:
            raise BrokenOffError

    whole, broken, start = fresh(), fresh(), squared_errors(fresh(), solutions).mean()
    history = train_evolution(whole, field, solutions, config)
    with pytest.raises(BrokenOffError):
        train_evolution(broken, field, solutions, config, tmp_path / "checkpoint", stop)
    resumed = fresh()
    train_evolution(resumed, field, solutions, config, tmp_path / "checkpoint")
    assert history[-1].error < share * start
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("points", [32, 64])
def test_residual_stands_for_the_error_to_first_order(points: int) -> None:
    """Residual of u + e for u whose own residual is subtracted; what comes back is e, at first order of the grid."""
    x = (torch.arange(points).double() + 0.4) / points
    t = (torch.arange(points).double() + 0.7) / points
    angle = 2 * math.pi * x[:, None]
    viscosity, size = 0.05, 1e-3
    u, slope, error = torch.sin(angle - t), 2 * math.pi * torch.cos(angle - t), size * t * torch.cos(angle)
    by_t, by_x = size * torch.cos(angle).expand(-1, points), -2 * math.pi * size * t * torch.sin(angle)
    residual = by_t + u * by_x + slope * error + viscosity * 4 * math.pi**2 * error
    found = residual_to_error(residual[None], u[None], t, viscosity)[0]
    assert (found - error).norm() / error.norm() < 6 / points


def test_residual_to_error_is_linear_and_conserves() -> None:
    generator = torch.Generator().manual_seed(0)
    r, other, u = (torch.randn(2, 12, 9, generator=generator, dtype=torch.float64) for _ in range(3))
    t = (torch.arange(9).double() + 0.25) / 9
    found = residual_to_error(r, u, t, 0.01)
    together = residual_to_error(2 * r - other, u, t, 0.01)
    assert torch.allclose(together, 2 * found - residual_to_error(other, u, t, 0.01), atol=1e-13)
    steps = torch.diff(t, prepend=torch.zeros(1).double())
    assert torch.allclose(found.sum(1), (steps * r.sum(1)).cumsum(-1), atol=1e-12)
    assert found.abs().sum(1).max() <= (steps * r.abs().sum(1)).cumsum(-1).max()  # an L1 contraction for every u
