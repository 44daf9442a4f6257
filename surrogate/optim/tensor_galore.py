"""Adam whose moments live in a low-rank Tucker subspace of each tensor gradient.

R. George et al., *Tensor-GaLore: Memory-Efficient Training via Gradient Tensor Decomposition* (2024), after J. Zhao
et al., *GaLore* (ICML 2024). What is done otherwise: the factors are refreshed for as long as training lasts, the
moments are rotated along (see :mod:`optim.moment_rotation`), the second moment is real, modes that are kept
whole have no factor, and the part of the gradient outside the subspace can take a step that needs no state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from shapewright.surrogate.optim.batches import batches
from shapewright.surrogate.optim.hooks import step_when_ready
from shapewright.surrogate.optim.loading import complete
from shapewright.surrogate.optim.options import check_options, check_parameter
from shapewright.surrogate.optim.released_gradient import ReleasedGradient
from shapewright.surrogate.optim.state import (
    ON_CPU,
    State,
    has_subspace,
    is_cold,
    refresh,
    start,
    working_gradient,
    working_shape,
)
from shapewright.surrogate.optim.tucker_ranks import Rank
from shapewright.surrogate.optim.update import decay


class TensorGaLore(torch.optim.Optimizer):
    """AdamW with moments in Tucker subspaces; every option but the last can differ between parameter groups.

    Args:
        params: parameters or groups, as every torch optimizer takes them.
        lr, betas, eps, weight_decay: as AdamW's, decoupled weight decay included.
        rank, rank_rule: size of the subspace, see :func:`tucker_ranks.choose_ranks`; ``rank=1.0`` is AdamW.
        update_gap: steps between refreshes of a subspace; those of different parameters are spread over the gap.
        cold_every: every so many refreshes the subspace and its ranks are found from nothing; 0 for only the start.
            The first refresh reconsiders ranks that a rule took from the first gradient in any case.
        scale: factor on the step from the subspace; by default sqrt(full size / core size), with which the step
            is as long as AdamW's, and up to sqrt(2) times that with the part along what was discarded.
        residual_weight: weight of a step along the part of the gradient outside the subspace, without state: 1 for one
            of the same rate as inside, and at most of its length; 0 for none, which is the published method.
        matrices: whether tensors of order 2 are projected too; vectors never are.
        moments: "full", "bfloat16" or "8bit", see :mod:`optim.moment_storage`.
        complex_pairs: parameters are real with a last dimension 2 and mean complex tensors.
        step_in_backward: each parameter is stepped as soon as its gradient is there, and the gradient freed, so that
            whole gradients of no two layers are alive at a time. ``step`` then only checks. Gradient accumulation,
            clipping by the global norm, gradient scaling and distributed training are refused with an error, the
            first three when they are tried: a step has been taken by then.

    All state is tensors, so a ``state_dict`` survives ``torch.load(weights_only=True)`` and a resumed run is
    bit for bit the unbroken one. Gradients that are zero before a parameter's first non-zero one start no state.

    Attributes:
        refresh_seconds, refresh_count: what refreshes have cost since construction, finding the first subspaces
            included. The clock waits for the device before and after each.

    Raises:
        ValueError: an option, or a parameter for ``complex_pairs``, that is not allowed.
        RuntimeError: in ``step``, for sparse gradients, for a gradient that is not finite when a subspace is to be
            taken from it, and for what ``step_in_backward`` excludes.
    """

    refresh_seconds = 0.0
    refresh_count = 0

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        rank: Rank = 0.25,
        rank_rule: str = "spectrum",
        update_gap: int = 200,
        cold_every: int = 0,
        scale: float | None = None,
        residual_weight: float = 1.0,
        matrices: bool = False,
        moments: str = "full",
        complex_pairs: bool = False,
        step_in_backward: bool = False,
    ) -> None:
        self._step_in_backward = step_in_backward
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "rank": rank,
            "rank_rule": rank_rule,
            "update_gap": update_gap,
            "cold_every": cold_every,
            "scale": scale,
            "residual_weight": residual_weight,
            "matrices": matrices,
            "moments": moments,
            "complex_pairs": complex_pairs,
        }
        check_options(defaults)
        if step_in_backward:
            _refuse_distributed()
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As every torch optimizer's; options are checked."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            check_options(group)
            for parameter in group["params"]:
                check_parameter(parameter, group)
            if self._step_in_backward:
                step_when_ready(self, group["params"], TensorGaLore._step_and_release)
        except ValueError:
            self.param_groups.pop()
            raise
        self._places = self._number()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every parameter that has a gradient; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        present = [(group, [p for p in group["params"] if p.grad is not None]) for group in self.param_groups]
        if self._step_in_backward:
            for _, parameters in present:
                _refuse_unreleased(parameters)
            return loss
        for group, parameters in present:  # of all before the first change: one that is refused leaves all alone
            for parameter in parameters:
                self._check(parameter, group)
        for group, parameters in present:
            self._step_all(parameters, group)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As every torch optimizer's; with ``step_in_backward`` there is nothing to set to zero."""
        super().zero_grad(set_to_none=set_to_none or self._step_in_backward)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As every torch optimizer's, but state keeps its precision, which is not the parameters'.

        Raises:
            ValueError: the state is of another optimizer or of parameters of other shapes, or an option is not allowed.
        """
        state_dict = complete(state_dict, self.param_groups)
        super().load_state_dict({**state_dict, "state": {}})  # torch would cast state, complex to real even
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        for number, parameter in zip(saved, own, strict=True):
            self.state[parameter] = {
                key: value.detach().to("cpu" if key in ON_CPU else parameter.device, copy=True)
                for key, value in state_dict["state"].get(number, {}).items()
            }
        self._places = self._number()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._step_in_backward = getattr(self, "_step_in_backward", False)
        self._places = self._number()

    def _number(self) -> dict[Tensor, int]:
        """Place of each projected parameter among them, which spreads their refreshes over the gap."""
        projected = [p for group in self.param_groups for p in group["params"] if _is_projected(p, group)]
        return {parameter: index for index, parameter in enumerate(projected)}

    def _check(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """Refuse a gradient that no step can be taken from."""
        gradient, state = parameter.grad, self.state[parameter]
        if gradient.layout != torch.strided:
            raise RuntimeError(
                f"the gradient of a parameter of shape {tuple(parameter.shape)} is sparse ({gradient.layout});"
                " TensorGaLore takes dense gradients only: use sparse=False in the layer, or another optimizer"
            )
        if self._is_due(parameter, state, group) and not bool(torch.isfinite(gradient).all()):
            raise RuntimeError(
                f"the gradient of a parameter of shape {tuple(parameter.shape)} is not finite at its step"
                f" {int(state['step']) if state else 0}: no subspace can be taken from it"
            )

    def _step_all(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        ready = [parameter for parameter in parameters if self._prepare(parameter, group)]
        for update, batch in batches(ready, self.state, group):
            update(batch, [self.state[parameter] for parameter in batch], group)

    def _prepare(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        """See to the parameter's state and subspace; False if there is nothing to step along yet."""
        state = self.state[parameter]
        if parameter not in self._places:
            if not state:
                state.update(start(working_gradient(parameter.grad, group["complex_pairs"]), group, projected=False))
        elif self._is_due(parameter, state, group):
            gradient = working_gradient(parameter.grad, group["complex_pairs"])
            if bool(gradient.any()):
                self._refresh(gradient, state, group)
            elif not state:
                decay(parameter, group)
                return False
        return True

    def _is_due(self, parameter: Tensor, state: State, group: dict[str, Any]) -> bool:
        """Whether the parameter is projected and needs a new subspace, its first one included."""
        if parameter not in self._places or not state:
            return parameter in self._places
        gap = group["update_gap"]
        offset = self._places[parameter] * gap // len(self._places)
        can_change = has_subspace(state) or group["cold_every"] or is_cold(state, group)
        return (int(state["step"]) + offset) % gap == 0 and bool(can_change)

    def _refresh(self, gradient: Tensor, state: State, group: dict[str, Any]) -> None:
        began = _clock(gradient.device)
        if state:
            refresh(gradient, state, group)
        else:
            state.update(start(gradient, group, projected=True))
        state["refreshes"] += 1
        self.refresh_count += 1
        self.refresh_seconds += _clock(gradient.device) - began

    @torch.no_grad()
    def _step_and_release(self, parameter: Tensor) -> None:
        _refuse_distributed()
        group = next(group for group in self.param_groups if any(p is parameter for p in group["params"]))
        self._check(parameter, group)
        self._step_all([parameter], group)
        parameter.grad = ReleasedGradient(parameter)


def _is_projected(parameter: Tensor, group: dict[str, Any]) -> bool:
    order = len(working_shape(parameter, group["complex_pairs"]))
    whole = group["rank"] == 1 and group["rank_rule"] != "energy"
    return not whole and order >= (2 if group["matrices"] else 3)


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _refuse_distributed() -> None:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        raise RuntimeError(
            "step_in_backward=True steps before gradients are averaged over processes; in a process group of"
            f" {distributed.get_world_size()} use step_in_backward=False"
        )


def _refuse_unreleased(parameters: list[Tensor]) -> None:
    for parameter in parameters:
        if not isinstance(parameter.grad, ReleasedGradient):
            raise RuntimeError(
                f"a parameter of shape {tuple(parameter.shape)} has a gradient that no backward pass brought; with"
                " step_in_backward=True steps are taken in the backward pass only"
            )
