"""A good citizen: what it holds, how it is saved and resumed, what it refuses, and other precisions."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch

import shapewright.surrogate.optim.update as module
from benchmarks.optimizer_bytes import optimizer_state_bytes
from shapewright.surrogate.mgno.fourier_blocks import FourierBlock
from shapewright.surrogate.optim.tensor_galore import TensorGaLore
from shapewright.surrogate.training.parameter_groups import parameter_groups
from tests.surrogate.galore_cases import descend, feed, galore, least_squares, low_rank, parameter, random

SHAPE = (10, 9, 8)
OPTIONS = {
    "plain": {},
    "energy": {"rank_rule": "energy", "rank": 0.7, "recompute_every": 2},
    "residual_weight": {"residual_weight": 0.5},
    "bfloat16": {"moments": "bfloat16"},
    "8bit": {"moments": "8bit"},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def weights(dtype=torch.complex64):
    """Two alike, which are stepped together, another order, a matrix and a vector."""
    shapes = [SHAPE, SHAPE, (4, 6, 5, 4), (6, 5), (7,)]
    return [parameter(shape, dtype, seed) for seed, shape in enumerate(shapes)]


def gradients(parameters, step):
    return [random(p.shape, p.dtype, seed=1000 * step + i) for i, p in enumerate(parameters)]


def through_a_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@each_option
@pytest.mark.parametrize("dtype", [torch.complex64, torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("broken_off", [3, 7])
def test_resumed_run_is_the_unbroken_one_bit_for_bit(options, dtype, broken_off):
    """Broken off in mid-gap, with refreshes of every parameter still to come."""
    unbroken, optimizer = weights(dtype), None
    optimizer = galore(unbroken, update_gap=5, **options)
    for step in range(16):
        if step == broken_off:
            resumed = [torch.nn.Parameter(p.detach().clone()) for p in unbroken]
            saved = through_a_file(optimizer.state_dict())
        feed(optimizer, gradients(unbroken, step))
    other = TensorGaLore(resumed, lr=0.5, rank=1.0)  # its options come with the state
    other.load_state_dict(saved)
    for step in range(broken_off, 16):
        feed(other, gradients(resumed, step))
    for p, q in zip(unbroken, resumed, strict=True):
        assert torch.equal(p, q)
    assert int(other.state[resumed[0]]["refreshes"]) == 4


@each_option
def test_state_is_tensors_only_and_keeps_its_types_when_loaded(options):
    parameters = weights(torch.bfloat16)
    optimizer = galore(parameters, **options)
    feed(optimizer, gradients(parameters, 0))
    before = optimizer.state_dict()["state"]
    optimizer.load_state_dict(through_a_file(optimizer.state_dict()))
    after = optimizer.state_dict()["state"]
    for number, state in before.items():
        assert all(isinstance(value, torch.Tensor) for value in state.values())
        assert {k: v.dtype for k, v in state.items()} == {k: v.dtype for k, v in after[number].items()}


def test_a_copy_of_the_optimizer_goes_on():
    optimizer = galore([parameter(SHAPE)], update_gap=2)
    feed(optimizer, [random(SHAPE)])
    twin = copy.deepcopy(optimizer)
    for step in range(4):
        for each in (optimizer, twin):
            feed(each, [random(SHAPE, seed=step)])
    mine, its = (each.param_groups[0]["params"][0] for each in (optimizer, twin))
    assert mine is not its
    assert torch.equal(mine, its)


@each_option
def test_stacking_equal_shapes_changes_nothing(options, monkeypatch):
    together, apart = weights(torch.complex128), weights(torch.complex128)
    first, second = galore(together, update_gap=5, **options), galore(apart, update_gap=5, **options)
    for step in range(12):
        feed(first, gradients(together, step))
        with monkeypatch.context() as patch:
            patch.setattr(module, "STACKED_ENTRIES", 1)
            feed(second, gradients(apart, step))
    for p, q in zip(together, apart, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


def test_bytes_are_counted_in_full():
    """12 a complex core entry and 8 a factor entry, 12 bytes of counters; AdamW of this package at rank 1.0."""
    weight = parameter((16, 16, 16), torch.complex64)
    optimizer = galore([weight], rank=(4, 4, 16))
    assert optimizer_state_bytes(optimizer) == 0
    feed(optimizer, [random((16, 16, 16), torch.complex64)])
    counters = 4 + 8
    assert optimizer_state_bytes(optimizer) == 12 * 4 * 4 * 16 + 8 * 2 * 16 * 4 + counters
    dense = galore([parameter((16, 16, 16), torch.complex64)], rank=1.0)
    feed(dense, [random((16, 16, 16), torch.complex64)])
    assert optimizer_state_bytes(dense) == 12 * 16**3 + counters


@pytest.mark.parametrize(("moments", "each"), [("full", 12), ("bfloat16", 6), ("8bit", 3 + 3 * 4 / 128)])
def test_bytes_of_moments(moments, each):
    """A complex first and a real second moment; eight bits have a scale of 4 bytes for 128 real entries."""
    weight = parameter((16, 16, 16), torch.complex64)
    optimizer = galore([weight, weight2 := parameter((16, 16, 16), torch.complex64)], rank=1.0, moments=moments)
    feed(optimizer, [random(weight.shape, weight.dtype), random(weight2.shape, weight2.dtype)])
    assert optimizer_state_bytes(optimizer) == 2 * (each * 16**3 + 12)


def test_bytes_count_what_a_view_keeps_alive_once():
    optimizer = torch.optim.SGD([parameter((3,))])
    held = torch.zeros(100)
    optimizer.state[optimizer.param_groups[0]["params"][0]] = {"a": held[:3], "b": [held, (held[50:],)], "c": 4.0}
    assert optimizer_state_bytes(optimizer) == 400


@pytest.mark.parametrize("rule", ["uniform", "spectrum"])
@pytest.mark.parametrize("share", [0.25, 0.1])
def test_state_takes_at_most_the_share_of_adamws(rule, share):
    shape = (2, 12, 12, 16, 16)
    optimizer = galore([parameter(shape, torch.complex64)], rank=share, rank_rule=rule)
    feed(optimizer, [random(shape, torch.complex64)])
    assert optimizer_state_bytes(optimizer) <= share * 12 * math.prod(shape) + 12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_have_single_precision_cores(dtype):
    half, single = parameter(SHAPE, torch.float32), parameter(SHAPE, torch.float32)
    half = torch.nn.Parameter(half.detach().to(dtype))
    first, second = galore([half], lr=0.02, update_gap=4), galore([single], lr=0.02, update_gap=4)
    for step in range(10):
        gradient = low_rank(SHAPE, 3, torch.float32, seed=step // 5).to(dtype)
        feed(first, [gradient])
        feed(second, [gradient.float()])
    state = first.state[half]
    assert half.dtype == dtype
    assert {state[key].dtype for key in ("mean", "mean_square", "factor_0")} == {torch.float32}
    torch.testing.assert_close(half.float(), single, rtol=0, atol=0.1 if dtype == torch.bfloat16 else 0.02)
    torch.testing.assert_close(state["mean"], second.state[single]["mean"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("moments", ["bfloat16", "8bit"])
def test_moments_in_fewer_bytes_train_as_well(moments):
    losses = {}
    for kind in ("full", moments):
        weight = torch.nn.Parameter(torch.zeros(8, 7, 6, dtype=torch.complex64))
        optimizer = galore([weight], lr=0.06, update_gap=20, moments=kind, residual_weight=0.0)
        losses[kind] = descend(optimizer, least_squares(weight), 200)
    assert losses["full"][-1] < 0.05 * losses["full"][0]
    assert losses[moments][-1] < 1.5 * losses["full"][-1]


def test_gradients_of_other_strides_and_missing_ones():
    parameters = [parameter((8, 7, 6)), parameter((8, 7, 6), seed=1)]
    permuted = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
    first, second = galore(parameters), galore(permuted)
    for step in range(3):
        gradient = random((8, 7, 6), seed=step)
        feed(first, [gradient, None])
        permuted[0].grad = gradient.permute(2, 1, 0).contiguous().permute(2, 1, 0)
        second.step()
    torch.testing.assert_close(parameters[0], permuted[0], rtol=0, atol=1e-12)
    assert torch.equal(parameters[1], permuted[1])
    assert parameters[1] not in first.state


def test_groups_of_a_network_with_spectral_weights():
    network = FourierBlock(6, (4, 4))
    groups = parameter_groups(network, 0.25)
    assert sum(p.numel() for group in groups for p in group["params"]) == sum(p.numel() for p in network.parameters())
    optimizer = TensorGaLore(groups, rank=0.25, update_gap=3, lr=1e-2)
    inputs = torch.randn(8, 12, 12, 6, generator=torch.Generator().manual_seed(0))
    losses = descend(optimizer, lambda: (network(inputs) - inputs.roll(1, 1)).square().mean(), 40)
    assert losses[-1] < 0.7 * losses[0]
    state = optimizer.state[network.spectral.weight]
    assert state["mean"].is_complex()
    assert not state["mean_square"].is_complex()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_shares_by_name_fit_spectral_weights_of_any_dimension(axes):
    network = FourierBlock(8, (2,) * axes)
    optimizer = TensorGaLore(parameter_groups(network, {"channels_in": 0.25}))
    for weight in network.parameters():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    spectral = optimizer.state[network.spectral.weight]
    assert {key for key in spectral if key.startswith("factor_")} == {f"factor_{axes + 1}"}
    assert spectral["mean"].shape == (2 ** (axes - 1), *(2,) * axes, 2, 8)
    others = [optimizer.state[weight] for weight in network.parameters() if weight is not network.spectral.weight]
    assert not any(key.startswith("factor_") for state in others for key in state)


def test_all_shares_by_name_go_where_they_are_named():
    shares = {"frequencies": 0.5, "channels_in": 0.25, "channels_out": 0.75}
    group = parameter_groups(FourierBlock(8, (4, 4)), shares)[0]
    assert group["rank"] == (1.0, 0.5, 0.5, 0.25, 0.75)
    with pytest.raises(ValueError, match="rank names channels; allowed are frequencies, channels_in, channels_out"):
        parameter_groups(FourierBlock(8, (4, 4)), {"channels": 0.5})


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(5, 4, sparse=True)
    optimizer = galore(table.parameters())
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match=r"shape \(5, 4\) is sparse .* use sparse=False"):
        optimizer.step()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"lr": -1.0}, "lr is -1"),
        ({"betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\)"),
        ({"eps": -1e-8}, "eps is"),
        ({"weight_decay": -0.1}, "weight_decay is"),
        ({"rank": 2.0}, r"rank is 2\.0"),
        ({"rank": (2, 2)}, r"2 entries; a parameter of order 3 \(shape \(10, 9, 8\)\) needs 3"),
        ({"rank_rule": "best"}, "rank_rule is 'best'"),
        ({"update_gap": 0}, "update_gap is 0; allowed is an integer from 1"),
        ({"recompute_every": -1}, "recompute_every is -1"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"residual_weight": -1.0}, "residual_weight is -1.0"),
        ({"moments": "4bit"}, "moments is '4bit'; allowed is 'full', 'bfloat16', '8bit'"),
        ({"complex_pairs": True}, r"last dimension is 2 .* found torch.float64 of shape \(10, 9, 8\)"),
    ],
)
def test_options_out_of_range_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        TensorGaLore([parameter(SHAPE)], **options)


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu():
    results = []
    for device in ("cpu", "cuda"):
        weight = torch.nn.Parameter(random(SHAPE, torch.complex128).to(device))
        optimizer = galore([weight], update_gap=3)
        for step in range(8):
            feed(optimizer, [low_rank(SHAPE, 4, torch.complex128, seed=step).to(device)])
        results.append(weight.detach().cpu())
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-8)
