"""Training learns fields and design gradients, goes on where it was broken off, and refuses what it cannot learn."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch

from benchmarks.optimizer_bytes import optimizer_state_bytes
from shapewright.surrogate.training import loop
from shapewright.surrogate.training.accuracy import measure
from shapewright.surrogate.training.derivative_informed import TrainingConfig, _norms, batch_loss, loss_scales, train
from shapewright.surrogate.training.loop import Progress, TrainingError, make_optimizer
from tests.surrogate.design_cases import exact_dataset, small_surrogate

DATA, HELD_OUT = exact_dataset(40, seed=1), exact_dataset(12, seed=2)
SHORT = TrainingConfig(steps=12, batch=4, check_every=3, checkpoint_every=4)


class Killed(BaseException):
    """Stands for a kill signal: nothing in the trainer may catch it."""


def weights_of(surrogate):
    return {name: tensor.clone() for name, tensor in surrogate.state_dict().items()}


def assert_same_weights(one, other):
    assert all(torch.equal(one[name], other[name]) for name in one), "weights differ"


def unbroken(config=SHORT, seed=0):
    surrogate = small_surrogate(seed)
    return train(surrogate, DATA, HELD_OUT, config), weights_of(surrogate)


def train_until(step, checkpoint, config=SHORT, seed=0):
    """Kill a training after so many steps."""

    def report(progress):
        if progress.step == step:
            raise Killed

    surrogate = small_surrogate(seed)
    with pytest.raises(Killed):
        train(surrogate, DATA, HELD_OUT, config, checkpoint, report)


def test_learns_fields_and_design_gradients():
    surrogate = small_surrogate()
    before, losses = measure(surrogate, HELD_OUT), []
    config = TrainingConfig(steps=160, batch=8, learning_rate=1e-2, check_every=40)
    history = train(surrogate, DATA, HELD_OUT, config, report=lambda progress: losses.append(progress.loss))
    after = measure(surrogate, HELD_OUT)
    print(f"before {before}\nafter {after}")
    assert sum(losses[-20:]) < 0.1 * sum(losses[:20])
    assert [progress.step for progress in history] == [40, 80, 120, 160]
    assert history[-1].error < history[0].error
    assert before.gradient > 0.3
    assert after.gradient < 0.1
    assert after.cosine > 0.99
    assert max(after.field.values()) < 0.03
    assert after.objective < 0.02


@pytest.mark.parametrize("options", [{}, {"rank": 0.25}, {"rank": (1.0, 1.0, 1.0, 0.25, 1.0), "moments": "8bit"}])
def test_tensor_galore_trains_with_less_optimizer_memory_and_resumes_bit_for_bit(tmp_path, options):
    config = replace(SHORT, update_gap=5, **options)
    _, whole = unbroken(config)
    checkpoint = tmp_path / "training.checkpoint"
    train_until(8, checkpoint, config)
    surrogate = small_surrogate()
    train(surrogate, DATA, HELD_OUT, config, checkpoint)
    assert_same_weights(whole, weights_of(surrogate))
    used = {}
    for name in ("adamw", "tensor_galore"):
        surrogate = small_surrogate()
        optimizer = make_optimizer(surrogate, replace(config, optimizer=name))
        surrogate.evaluate(DATA.theta[:2].to(next(surrogate.parameters())))[1].sum().backward()
        optimizer.step()
        used[name] = optimizer_state_bytes(optimizer)
    assert used["tensor_galore"] < 0.6 * used["adamw"]


def test_a_checkpoint_under_former_names_is_continued(tmp_path, monkeypatch):
    """As it was written before options of the training and entries of the optimizer's state were renamed."""
    options = {new: old for old, new in loop.RENAMED_OPTIONS.items()}
    state = {"mean": "first", "mean_square": "second"}
    config, checkpoint, save = replace(SHORT, ema_decay=0.9), tmp_path / "training.checkpoint", torch.save

    def save_as_before(content, file):
        content["config"] = {options.get(name, name): value for name, value in content["config"].items()}
        for group in content["optimizer"]["param_groups"]:
            group["discarded"], group["cold_every"] = group.pop("residual_weight"), group.pop("recompute_every")
        states = content["optimizer"]["state"]
        for number, own in states.items():
            states[number] = {state.get(name, name): value for name, value in own.items()}
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save_as_before)
        train_until(8, checkpoint, config)
    surrogate, steps = small_surrogate(), []
    train(surrogate, DATA, HELD_OUT, config, checkpoint, lambda progress: steps.append(progress.step))
    assert steps == [9, 10, 11, 12]
    assert_same_weights(unbroken(config)[1], weights_of(surrogate))


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="tensor_galore and adamw"):
        make_optimizer(small_surrogate(), replace(SHORT, optimizer="sgd"))


def test_ranks_that_do_not_fit_the_networks_tensors_are_refused():
    with pytest.raises(TrainingError, match=r"rank has 3 entries; a parameter of order 5 .* needs 5"):
        make_optimizer(small_surrogate(), replace(SHORT, rank=(1.0, 1.0, 0.5)))


def test_tangents_help_the_design_gradient():
    """The reason for derivative-informed training, at equal steps on few designs."""
    few = DATA.subset(slice(0, 8))
    errors = {}
    for weight in (0.0, 0.5):
        surrogate = small_surrogate()
        config = TrainingConfig(
            steps=60, batch=4, learning_rate=1e-2, check_every=20, tangent_weight=weight, gradient_weight=weight
        )
        errors[weight] = min(p.error for p in train(surrogate, few, HELD_OUT, config))
    print(f"held-out gradient error without and with tangents: {errors}")
    assert errors[0.5] < errors[0.0]


def test_every_part_of_the_loss_vanishes_where_the_network_is_right():
    """Fields, values and derivatives made by the network itself."""
    surrogate = small_surrogate()
    directions = DATA.directions[:, 0]
    (solution, values), (tangent, _) = torch.func.jvp(surrogate.evaluate, (DATA.theta,), (directions,))
    own = replace(
        DATA,
        solution=solution.detach(),
        values=values.detach(),
        gradients=surrogate.value_and_gradient(DATA.theta)[1],
        tangents=tangent.detach()[:, None],
        directions=directions[:, None],
    )
    config, scales = replace(SHORT, tangent_gradient_weight=0.3), loss_scales(surrogate, DATA)
    assert batch_loss(surrogate, own, 0, scales, config).item() < 1e-20
    parts = "field_gradient_weight", "tangent_weight", "tangent_gradient_weight", "objective_weight", "gradient_weight"
    for part in parts:  # each is there, and counts what it says
        off = replace(config, **dict.fromkeys(parts, 0.0))
        weights = (replace(off, **{part: 1.0}), off)
        whole, others = (batch_loss(surrogate, DATA, 0, scales, each) for each in weights)
        assert (whole - others).item() > 0.01


def test_each_parameter_has_scales_of_its_own_where_directions_are_single_parameters():
    """A network that knows nothing of the tangents has the same error in those of a weak as of a strong parameter."""
    surrogate, data = small_surrogate(), exact_dataset(40, seed=1, axes=True)
    weak = data.directions[..., :1].bool()
    data = replace(data, tangents=torch.where(weak[..., None], 1e-3 * data.tangents, data.tangents))
    scales = loss_scales(surrogate, data)
    norms = _norms(surrogate, data.theta)
    for parameter in range(3):
        found = [norms.fields(data.tangents[:, t])[data.directions[:, t, parameter] == 1] for t in range(2)]
        torch.testing.assert_close(torch.cat(found).mean(0), scales.tangent[parameter])
    assert len(loss_scales(surrogate, DATA).tangent) == 1


@pytest.mark.parametrize("step", [4, 6, 11])
def test_killed_and_resumed_equals_unbroken_bit_for_bit(tmp_path, step):
    checkpoint = tmp_path / "checkpoint"
    train_until(step, checkpoint)
    surrogate, steps = small_surrogate(seed=99), []
    history = train(surrogate, DATA, HELD_OUT, SHORT, checkpoint, lambda progress: steps.append(progress.step))
    assert steps[0] == (5 if step < 8 else 9)  # from the last whole checkpoint
    expected_history, expected_weights = unbroken()
    assert_same_weights(weights_of(surrogate), expected_weights)
    assert history == expected_history


@pytest.mark.parametrize("rate", [1e-4, 0.3])
def test_a_second_training_never_ends_with_worse_weights_than_it_began_with(rate):
    surrogate = small_surrogate()
    train(surrogate, DATA, HELD_OUT, SHORT)
    before = measure(surrogate, HELD_OUT).gradient
    train(surrogate, DATA, HELD_OUT, replace(SHORT, learning_rate=rate), trained=True)
    after = measure(surrogate, HELD_OUT).gradient
    assert after == before if rate == 0.3 else after < before


def test_a_finished_training_is_not_repeated(tmp_path):
    train(small_surrogate(), DATA, HELD_OUT, SHORT, tmp_path / "checkpoint")
    surrogate, steps = small_surrogate(seed=99), []
    train(surrogate, DATA, HELD_OUT, SHORT, tmp_path / "checkpoint", lambda progress: steps.append(progress.step))
    assert steps == []
    assert_same_weights(weights_of(surrogate), unbroken()[1])


def test_a_killed_write_of_the_checkpoint_leaves_the_last_one(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    train_until(6, checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    (tmp_path / "part-checkpoint").write_bytes(b"half of the next one")
    surrogate = small_surrogate(seed=99)
    train(surrogate, DATA, HELD_OUT, SHORT, checkpoint)
    assert_same_weights(weights_of(surrogate), unbroken()[1])


def test_a_checkpoint_that_was_cut_or_edited_is_not_taken_for_whole(tmp_path):
    """A flipped bit in the weights would load, and teach on from there."""
    checkpoint = tmp_path / "checkpoint"
    train_until(6, checkpoint)
    whole = checkpoint.read_bytes()
    flipped = bytearray(whole)
    flipped[-len(whole) // 2] ^= 1
    for content in (whole[: len(whole) // 2], bytes(flipped), b"", b"junk", whole + b" "):
        checkpoint.write_bytes(content)
        surrogate, seen = small_surrogate(), []
        train(surrogate, DATA, HELD_OUT, SHORT, checkpoint, seen.append)
        assert seen[0].step == 1
        assert_same_weights(weights_of(surrogate), unbroken()[1])


def test_a_checkpoint_of_another_configuration_is_ignored(tmp_path):
    train_until(6, tmp_path / "checkpoint")
    other, steps = replace(SHORT, learning_rate=1e-3), []
    surrogate = small_surrogate()
    train(surrogate, DATA, HELD_OUT, other, tmp_path / "checkpoint", lambda progress: steps.append(progress.step))
    assert steps[0] == 1
    assert_same_weights(weights_of(surrogate), unbroken(other)[1])


def test_ends_with_the_weights_that_were_best():
    surrogate = small_surrogate()

    def spoil(progress):
        if progress.step == 7:
            with torch.no_grad():
                surrogate.operator.projection.weight.add_(20)

    errors = [progress.error for progress in train(surrogate, DATA, HELD_OUT, SHORT, report=spoil)]
    assert max(errors[:2]) < 0.9 * min(errors[2:])
    assert measure(surrogate, HELD_OUT).gradient == min(errors)


def test_stops_when_looks_bring_no_improvement():
    surrogate = small_surrogate()
    start = weights_of(surrogate)
    still = TrainingConfig(steps=100, batch=2, learning_rate=0.0, check_every=2, patience=3)
    history = train(surrogate, DATA, HELD_OUT, still)
    assert [progress.step for progress in history] == [2, 4, 6, 8]  # the first look is the best
    assert_same_weights(weights_of(surrogate), start)


def test_reports_every_step():
    seen: list[Progress] = []
    history = train(small_surrogate(), DATA, HELD_OUT, SHORT, report=seen.append)
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert all(progress.steps == 12 for progress in seen)
    assert seen[5].error == seen[6].error == history[1].error


def test_every_design_is_seen_once_in_an_epoch_and_every_tangent_in_turn(monkeypatch):
    import shapewright.surrogate.training.derivative_informed as training

    seen = []
    loss = training.batch_loss

    def spy(surrogate, batch, which, scales, config):
        seen.append((batch.theta, which))
        return loss(surrogate, batch, which, scales, config)

    monkeypatch.setattr(training, "batch_loss", spy)
    train(small_surrogate(), DATA, HELD_OUT, replace(SHORT, batch=10, steps=8))
    for epoch in (0, 1):
        thetas = torch.cat([theta for theta, _ in seen[4 * epoch : 4 * epoch + 4]])
        assert torch.equal(thetas.sort(0).values, DATA.theta.sort(0).values)
    assert not torch.equal(seen[0][0], seen[4][0])
    assert {which for _, which in seen} == {0, 1}
    assert all(a != b for (_, a), (_, b) in pairwise(seen[:4]))


def test_fewer_designs_than_a_batch():
    assert train(small_surrogate(), DATA.subset(slice(0, 3)), HELD_OUT, SHORT)[-1].step == 12


@pytest.mark.parametrize("name", [field.name for field in fields(DATA)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_data_that_are_not_finite_are_named(name, bad):
    array = getattr(DATA, name).clone()
    array[7].flatten()[-1] = bad
    broken = replace(DATA, **{name: array})
    with pytest.raises(TrainingError, match=f"training data: {name} of design 7 is not finite"):
        train(small_surrogate(), broken, HELD_OUT, SHORT)
    with pytest.raises(TrainingError, match=f"held-out data: {name} of design 7 is not finite"):
        train(small_surrogate(), DATA, broken, SHORT)


def test_a_loss_that_becomes_nan_names_the_step(tmp_path):
    surrogate = small_surrogate()
    steps = []

    def poison(progress):
        steps.append(progress.step)
        if progress.step == 5:
            with torch.no_grad():
                surrogate.operator.projection.weight[0, 0] = float("nan")

    with pytest.raises(TrainingError, match=r"nan at step 5; lower the learning_rate of this training \(now 0.002\)"):
        train(surrogate, DATA, HELD_OUT, SHORT, tmp_path / "checkpoint", poison)
    assert steps == [1, 2, 3, 4, 5]


def test_a_gradient_that_is_not_finite_reaches_neither_weights_nor_checkpoint(tmp_path):
    surrogate = small_surrogate()
    handle = surrogate.operator.projection.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights_of(surrogate)
    with pytest.raises(TrainingError, match=r"the gradient of the loss is .* at step 0"):
        train(surrogate, DATA, HELD_OUT, replace(SHORT, checkpoint_every=1), tmp_path / "checkpoint")
    handle.remove()
    assert_same_weights(weights_of(surrogate), before)
    assert not list(tmp_path.iterdir())


def test_held_out_designs_without_a_gradient_are_refused():
    flat = replace(HELD_OUT, gradients=torch.zeros_like(HELD_OUT.gradients))
    with pytest.raises(TrainingError, match="the held-out gradient error is inf at step 2"):
        train(small_surrogate(), DATA, flat, SHORT)


def test_quantities_that_do_not_vary_are_named_with_the_weight_that_turns_them_off():
    constant = replace(DATA, values=torch.stack([DATA.values[:, 0], torch.ones(40, dtype=torch.float64)], -1))
    with pytest.raises(
        TrainingError, match=r"functional 'flux' is the same in all .* or set training.objective_weight to 0"
    ):
        train(small_surrogate(), constant, HELD_OUT, SHORT)
    train(small_surrogate(), constant, HELD_OUT, replace(SHORT, steps=1, objective_weight=0.0))
    still = replace(DATA, tangents=DATA.tangents * torch.tensor([1.0, 0.0]))
    with pytest.raises(TrainingError, match="tangent of field 'p' is the same"):
        train(small_surrogate(), still, HELD_OUT, SHORT)


@pytest.mark.gpu
def test_trains_on_a_gpu_as_on_the_cpu():
    config = replace(SHORT, steps=3)
    expected = train(small_surrogate(), DATA, HELD_OUT, config)
    found = train(small_surrogate().cuda(), DATA, HELD_OUT, config)
    assert found[-1].loss == pytest.approx(expected[-1].loss, rel=1e-6)
    assert found[-1].error == pytest.approx(expected[-1].error, rel=1e-6)


def test_averaged_weights_are_judged_and_kept():
    """With a memory of 0.5 the kept weights are the average by hand of those that single steps leave."""
    steps = []

    def spy(progress):
        steps.append(weights_of(surrogate))

    surrogate = small_surrogate(0)
    start = weights_of(surrogate)
    config = replace(SHORT, steps=3, ema_decay=0.5, check_every=3)
    history = train(surrogate, DATA, HELD_OUT, config, report=spy)
    by_hand = start
    for step, weights in enumerate(steps, start=1):
        memory = min(0.5, step / (step + 9))
        by_hand = {name: memory * by_hand[name] + (1 - memory) * weights[name] for name in weights}
    kept = weights_of(surrogate)
    for name in kept:
        torch.testing.assert_close(kept[name], by_hand[name], rtol=1e-5, atol=1e-7)
    assert measure(surrogate, HELD_OUT).gradient == pytest.approx(history[-1].error)


def test_an_averaged_training_resumes_bit_for_bit(tmp_path):
    config = replace(SHORT, ema_decay=0.9)
    _, whole = unbroken(config)
    checkpoint = tmp_path / "training.checkpoint"
    train_until(7, checkpoint, config)
    surrogate = small_surrogate()
    train(surrogate, DATA, HELD_OUT, config, checkpoint)
    assert_same_weights(whole, weights_of(surrogate))
