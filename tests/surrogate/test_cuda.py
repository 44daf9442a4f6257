"""What was written on the CPU does the same on a GPU; only a machine with one says so.

A passing run does not prove that anything is fast there: `python -m benchmarks.gpu` measures that.
"""

from __future__ import annotations

import pytest
import torch

from shapewright.surrogate.mgno.fourier_blocks import FourierBlock
from shapewright.surrogate.mgno.latent_grid import grid_around
from shapewright.surrogate.mgno.mollifier import mollifier_named
from shapewright.surrogate.mgno.window_sums import gather, scatter
from shapewright.surrogate.models.novelty import novelty_over
from shapewright.surrogate.optim import update
from shapewright.surrogate.optim.tensor_galore import TensorGaLore
from shapewright.surrogate.training.accuracy import correlation_with_error, measure
from shapewright.surrogate.training.derivative_informed import TrainingConfig, train
from tests.surrogate.design_cases import exact_dataset, random_designs, small_surrogate
from tests.surrogate.galore_cases import random

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
GRID = grid_around([0.0, 0.0], [1.0, 1.0], (10, 12), 2)
MOLLIFY = mollifier_named("octic").weight


def weights(near):
    """Of one row, as a decoder's."""
    weight = MOLLIFY(near.along_axes.square().sum(1, keepdim=True))
    return (weight / weight.sum(-1, keepdim=True),)


def gathered(nodes, points, per_edge):
    owner = torch.arange(len(points), device=points.device) % 2
    return gather(weights, GRID, nodes, points, owner, per_edge)


def scattered(rows, masses, points, per_edge):
    owner = torch.arange(len(points), device=points.device) % 2
    return scatter(MOLLIFY, GRID, 2, rows, masses, points, owner, per_edge)


SUMS = {
    gathered: ((2 * GRID.nodes, 8), (50, 2), (8, 2)),
    scattered: ((50, 8), (50,), (50, 2), (8, 2)),
}


def inputs_of(shapes, device):
    """Random double-precision inputs; points lie in the unit square."""
    made = [torch.rand(shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
            for k, shape in enumerate(shapes)]  # fmt: skip
    return [tensor.to(device).requires_grad_() for tensor in made]


@pytest.mark.parametrize("sums", list(SUMS), ids=["gather", "scatter"])
@pytest.mark.parametrize("of_points", [True, False])
def test_sums_over_neighbourhoods_and_their_slopes(sums, of_points):
    found = []
    for device in ("cpu", DEVICE):
        inputs = inputs_of(SUMS[sums], device)
        wanted = inputs if of_points else [inputs[0], inputs[-1]]
        total = sums(*(inputs if of_points else [inputs[0], *(each.detach() for each in inputs[1:-1]), inputs[-1]]))
        found.append([total.detach(), *torch.autograd.grad(total.square().sum(), wanted)])
    for expected, there in zip(*found, strict=True):
        torch.testing.assert_close(there.cpu(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sums", list(SUMS), ids=["gather", "scatter"])
def test_sums_over_neighbourhoods_in_forward_mode(sums):
    found = []
    for device in ("cpu", DEVICE):
        inputs = [each.detach() for each in inputs_of(SUMS[sums], device)]
        found.append(torch.func.jvp(sums, tuple(inputs), tuple(torch.ones_like(each) for each in inputs)))
    for expected, there in zip(*found, strict=True):
        torch.testing.assert_close(there.cpu(), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("moments", ["full", "bfloat16", "8bit"])
@pytest.mark.parametrize("rank", [(1.0, 1.0, 1.0, 0.25, 1.0), 0.25])
@pytest.mark.parametrize("in_backward", [False, True])
def test_tensor_galore_steps_and_refreshes(moments, rank, in_backward):
    """Over several refreshes; single precision moments round alike, so weights agree to their rounding."""
    ends = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        block = FourierBlock(8, (3, 3)).double().to(device)
        field = random((2, 8, 8, 8)).to(device)
        groups = [{"params": [block.spectral.weight], "complex_pairs": True, "rank": rank},
                  {"params": [*block.local.parameters(), *block.mix.parameters()], "rank": 1.0}]  # fmt: skip
        optimizer = TensorGaLore(groups, lr=1e-2, update_gap=3, moments=moments, step_in_backward=in_backward)
        for _ in range(8):
            optimizer.zero_grad()
            (block(field) - field.roll(1, 1)).square().mean().backward()
            optimizer.step()
        assert all(value.device.type == torch.device(device).type or key in ("step", "refreshes")
                   for state in optimizer.state.values() for key, value in state.items())  # fmt: skip
        ends.append([parameter.detach().cpu() for parameter in block.parameters()])
    tolerance = 1e-8 if moments == "full" else 2e-3
    for expected, found in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("in_backward", [False, True])
def test_large_parameters_step_as_on_the_cpu(in_backward, monkeypatch):
    """Large means above no entry here, so that a GPU steps them together and unstacked."""
    monkeypatch.setattr(update, "STACKED_ENTRIES", 0)
    ends = []
    for device in ("cpu", DEVICE):
        weights = [random((6, 5, 4 + k), torch.complex128, k).to(device).requires_grad_() for k in range(3)]
        truth = [random(each.shape, torch.complex128, 9).to(device) for each in weights]
        optimizer = TensorGaLore(weights, lr=1e-2, rank=0.4, update_gap=3, step_in_backward=in_backward)
        for _ in range(7):
            optimizer.zero_grad()
            sum((each - true).abs().square().mean() for each, true in zip(weights, truth, strict=True)).backward()
            optimizer.step()
        ends.append([each.detach().cpu() for each in weights])
    for expected, found in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_a_broken_off_training_goes_on(tmp_path):
    data, held_out = exact_dataset(24, seed=1), exact_dataset(8, seed=2)
    config = TrainingConfig(steps=8, batch=4, check_every=4, checkpoint_every=4, update_gap=3)

    class Killed(BaseException):
        pass

    def kill(progress):
        if progress.step == 6:
            raise Killed

    whole = train(small_surrogate(0).to(DEVICE), data, held_out, config)
    with pytest.raises(Killed):
        train(small_surrogate(0).to(DEVICE), data, held_out, config, tmp_path / "checkpoint", kill)
    resumed = train(small_surrogate(1).to(DEVICE), data, held_out, config, tmp_path / "checkpoint")
    assert [each.step for each in resumed] == [each.step for each in whole]
    # sums by atomic additions round differently from run to run
    assert [each.error for each in resumed] == pytest.approx([each.error for each in whole], rel=1e-5)


def test_errors_and_distances():
    data = exact_dataset(20, seed=3)
    designs = random_designs(24, 4), random_designs(12, 5)
    found = []
    for device in ("cpu", DEVICE):
        network = small_surrogate(0).to(device)
        known = novelty_over(network, *designs)
        found.append((measure(network, data.to(device)), correlation_with_error(known, data)))
    (accuracy, correlation), (there, correlation_there) = found
    assert there.gradient == pytest.approx(accuracy.gradient, rel=1e-6)
    assert there.field == pytest.approx(accuracy.field, rel=1e-6)
    assert correlation_there == pytest.approx(correlation, abs=0.05)


def test_steps_replayed_from_a_graph_are_the_steps():
    data, held_out = exact_dataset(24, seed=1), exact_dataset(8, seed=2)
    config = TrainingConfig(steps=12, batch=4, check_every=4, update_gap=3)
    eager, replayed = [], []
    for graphed, losses in ((False, eager), (True, replayed)):
        network = small_surrogate(0).to(DEVICE)
        train(network, data, held_out, config, report=lambda p, to=losses: to.append(p.loss), graphed=graphed)
    assert replayed == pytest.approx(eager, rel=1e-5)
    assert replayed[-1] != replayed[0]
