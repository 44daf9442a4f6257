"""Small convex problems and reference optimizers for the tests of Tensor-GaLore."""

from __future__ import annotations

import torch

from shapewright.surrogate.optim.tensor_galore import TensorGaLore


class ComplexAdamW:
    """AdamW written out, for real and complex parameters, with a real second moment \\|g\\|^2."""

    def __init__(self, parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        self.parameters, self.lr, self.betas, self.eps, self.decay = parameters, lr, betas, eps, weight_decay
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p.abs()) for p in parameters]
        self.count = 0

    @torch.no_grad()
    def step(self):
        self.count += 1
        beta1, beta2 = self.betas
        for i, p in enumerate(self.parameters):
            self.first[i] = beta1 * self.first[i] + (1 - beta1) * p.grad
            self.second[i] = beta2 * self.second[i] + (1 - beta2) * p.grad.abs() ** 2
            mean, square = self.first[i] / (1 - beta1**self.count), self.second[i] / (1 - beta2**self.count)
            p *= 1 - self.lr * self.decay
            p -= self.lr * mean / (square.sqrt() + self.eps)


def random(shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def low_rank(shape, rank, dtype=torch.float64, seed=0):
    """A tensor of Tucker rank ``rank`` in every mode, of unit root mean square."""
    tensor = random([rank] * len(shape), dtype, seed)
    for mode, n in enumerate(shape):
        tensor = torch.tensordot(tensor, random((n, rank), dtype, seed + mode + 1), dims=([0], [1]))
    return tensor / tensor.abs().square().mean().sqrt()


def least_squares(weight, seed=0, samples=256):
    """A convex loss of an order-3 weight (a, b, c): linear maps of random inputs against a low-rank truth."""
    inputs = random((samples, *weight.shape[:2]), weight.dtype, seed)
    truth = low_rank(weight.shape, 2, weight.dtype, seed + 9)
    targets = torch.einsum("sab,abc->sc", inputs, truth)
    return lambda: (torch.einsum("sab,abc->sc", inputs, weight) - targets).abs().square().mean()


def descend(optimizer, loss, steps):
    """Losses before each step."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    return losses


def feed(optimizer, gradients):
    """One step with given gradients, in the order of the parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else gradient.clone()
    optimizer.step()


def parameter(shape, dtype=torch.float64, seed=0):
    return torch.nn.Parameter(random(shape, dtype, seed))


def galore(parameters, **options):
    return TensorGaLore(parameters, **{"weight_decay": 0.0, "rank": 0.3, **options})
