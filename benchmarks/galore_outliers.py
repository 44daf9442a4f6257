"""Tensor-GaLore beside which the largest entries of each gradient have moments of their own.

After S. Loeschcke et al., *TensorGRaD: Tensor Gradient Robust Decomposition for Memory-Efficient Neural Operator
Training* (2025): an unstructured sparse part is taken out first, the rest is projected. Here the entries are those of
the gradient at every ``update_gap``-th step; one that stays keeps its moments, a new one starts from its gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from shapewright.surrogate.optim.tensor_galore import TensorGaLore


class OutlierTensorGaLore(TensorGaLore):
    """Of complex parameters of order three or more; ``outliers`` is the share of their entries that is taken out."""

    def __init__(self, params: Any, *, outliers: float, **options: Any) -> None:
        super().__init__(params, **options)
        self._outliers = outliers
        self._steps = 0
        self._apart: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step of every parameter."""
        taken = [(p, group, self._take_out(p, group)) for group in self.param_groups for p in group["params"]]
        super().step()
        self._steps += 1
        for parameter, group, direction in taken:
            if direction is not None:
                apart = self._apart[parameter]
                parameter.view(-1).index_add_(0, apart["outlier_index"].long(), direction, alpha=-group["lr"])
                self.state[parameter].update(apart)  # so that their bytes count

    def _take_out(self, parameter: Tensor, group: dict[str, Any]) -> Tensor | None:
        """Adam's direction of the outliers, whose gradient is then zero; None of a parameter without any."""
        if not parameter.is_complex() or parameter.dim() < 3:
            return None
        gradient, (beta1, beta2) = parameter.grad.view(-1), group["betas"]
        weights = 1 - beta1**self._steps, 1 - beta2**self._steps
        if self._steps % group["update_gap"] == 0:
            self._choose(parameter, gradient, weights)
        apart = self._apart[parameter]
        index = apart["outlier_index"].long()
        values = gradient[index]
        gradient[index] = 0
        first = apart["outlier_first"].lerp_(values, 1 - beta1)
        second = apart["outlier_second"].lerp_(values.abs().square(), 1 - beta2)
        mean, square = first / (1 - beta1 ** (self._steps + 1)), second / (1 - beta2 ** (self._steps + 1))
        return mean / (square.sqrt() + group["eps"])

    def _choose(self, parameter: Tensor, gradient: Tensor, weights: tuple[float, float]) -> None:
        """The largest entries, with the moments of those that were among them before."""
        count = math.ceil(self._outliers * gradient.numel())
        index = gradient.abs().topk(count).indices
        first, second = weights[0] * gradient[index], weights[1] * gradient[index].abs().square()
        if parameter in self._apart:
            old = self._apart[parameter]
            position = torch.full((gradient.numel(),), -1)
            position[old["outlier_index"].long()] = torch.arange(len(old["outlier_index"]))
            known = position[index] >= 0
            first[known] = old["outlier_first"][position[index][known]]
            second[known] = old["outlier_second"][position[index][known]]
        self._apart[parameter] = {
            "outlier_index": index.to(torch.int32), "outlier_first": first, "outlier_second": second
        }  # fmt: skip
