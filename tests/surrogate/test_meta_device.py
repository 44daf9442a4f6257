"""Promise: a training step puts every tensor on the network's device and asks it for no number.

torch's meta device has shapes and no numbers: an operation between it and the CPU fails, and so does every look at a
value. What passes there can run on a GPU without waiting, and be recorded as a CUDA graph; that kernels exist there and
are right, only tests on a GPU show.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shapewright.geometries.design import point_cloud
from shapewright.geometries.mesh import constants
from shapewright.surrogate.mgno import latent_grid
from shapewright.surrogate.mgno import window_sums as neighbourhood_sums
from shapewright.surrogate.mgno.fourier_blocks import FourierBlock
from shapewright.surrogate.training.derivative_informed import (
    TrainingConfig,
    draw_batch,
    loss_inputs,
    loss_of_inputs,
    loss_scales,
)
from tests.surrogate.design_cases import exact_dataset, small_surrogate

META = torch.device("meta")


@pytest.fixture
def recording(monkeypatch):
    """As on a GPU whose work is being recorded."""
    for module in (point_cloud, latent_grid):
        monkeypatch.setattr(module, "is_capturing", lambda like: like.device.type == "meta")
    monkeypatch.setitem(neighbourhood_sums.CHUNK_BYTES, "meta", 2**28)
    monkeypatch.setattr(constants, "_KEPT", type(constants._KEPT)())


def on_meta(value):
    """Dataclass of tensors, moved."""
    return replace(value, **{name: part.to(META) for name, part in vars(value).items()})


@pytest.mark.parametrize("contrast", [None, 3.0])
def test_a_training_step(recording, contrast):
    data, config = exact_dataset(8, seed=1), TrainingConfig(batch=4, tangent_gradient_weight=0.1)
    network = small_surrogate()
    network.contrast = contrast
    scales = on_meta(loss_scales(network, data))
    batch, which = draw_batch(data, config, 0)
    network = network.to(META)
    inputs = loss_inputs(network, batch, which)
    loss = loss_of_inputs(network, scales, config, *inputs)
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    assert loss.is_meta
    assert all(gradient is None or gradient.is_meta for gradient in gradients)
    assert sum(gradient is not None for gradient in gradients) == len(gradients)


def test_value_and_gradient(recording):
    network = small_surrogate().to(META).requires_grad_(False)
    like = next(network.parameters())
    values, slopes = network.value_and_gradient(torch.full((5, 3), 1.1, dtype=like.dtype, device=META))
    assert values.shape == (5, 2)
    assert slopes.shape == (5, 2, 3)
    assert slopes.is_meta


def test_a_fourier_block():
    block = FourierBlock(4, (3, 3)).to(META)
    assert block(torch.zeros(2, 8, 8, 4, device=META)).is_meta
