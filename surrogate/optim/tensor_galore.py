"""Adam whose moments live in a low-rank Tucker subspace of each tensor gradient.

R. George et al., *Tensor-GaLore: Memory-Efficient Training via Gradient Tensor Decomposition* (2024), after J. Zhao
et al., *GaLore* (ICML 2024). Differences: the factors are refreshed throughout the training, the moments are rotated
with them (see :mod:`optim.moments`), the mean square is real, modes that are not truncated have no factor, and
the part of the gradient outside the subspace can take a step that needs no state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any, overload

import torch
from torch import Tensor
from torch.autograd import Variable

from shapewright.surrogate.optim.in_backward import ReleasedGradient, step_when_ready
from shapewright.surrogate.optim.options import Options, completed_state, refuse_former_names
from shapewright.surrogate.optim.state import (
    ON_CPU,
    State,
    gradient_of,
    has_subspace,
    is_recomputed,
    refresh,
    start,
    working_gradient,
)
from shapewright.surrogate.optim.subspace import Rank
from shapewright.surrogate.optim.update import STACKED_ENTRIES, batches, decay


class TensorGaLore(torch.optim.Optimizer):
    """AdamW with moments in Tucker subspaces; every option but the last can differ between parameter groups.

    Args:
        params: parameters or groups, as every torch optimizer takes them.
        lr, betas, eps, weight_decay: as AdamW's, decoupled weight decay included.
        rank, rank_rule: size of the subspace, see :func:`subspace.choose_ranks`; ``rank=1.0`` is AdamW.
        update_gap: steps between refreshes of a subspace; those of different parameters are spread over the gap.
        recompute_every: refreshes after which the subspace and its ranks are computed from the gradient alone; 0 for
            never. The first refresh reconsiders ranks that depend on the first gradient in any case.
        scale: factor on the step from the subspace; by default sqrt(full size / core size), with which the step
            is as long as AdamW's, and up to sqrt(2) times that with the step along the residual.
        residual_weight: weight of a step along the residual, the part of the gradient outside the subspace, without
            state: 1 for the rate of the step inside, and at most its length; 0 for none, the published method.
        matrices: whether tensors of order 2 are projected too; vectors never are.
        moments: "full", "bfloat16" or "8bit", see :mod:`optim.moments`.
        complex_pairs: parameters are real with a last dimension 2 and mean complex tensors.
        step_in_backward: parameters are stepped as soon as their gradients are accumulated and have 2^17 entries
            together, or at the end of the backward pass, and the gradients freed, so that only one large layer's
            gradient exists at a time. ``step`` then only checks. Gradient accumulation,
            clipping by the global norm, gradient scaling and distributed training are refused with an error, the
            first three when they are tried: a step has been taken by then.

    All state is tensors, so a ``state_dict`` can be read by ``torch.load(weights_only=True)``, and a resumed run is
    bit for bit the uninterrupted one. A parameter's state starts with its first gradient that is not zero.

    Attributes:
        refresh_seconds, refresh_count: cost of refreshes since construction, including the first subspaces.
            The clock waits for the device before and after each.

    Raises:
        ValueError: an option, or a parameter for ``complex_pairs``, that is not allowed.
        RuntimeError: in ``step``, for sparse gradients, for a gradient that is not finite when a subspace is to be
            computed from it, and for what ``step_in_backward`` excludes.
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
        recompute_every: int = 0,
        scale: float | None = None,
        residual_weight: float = 1.0,
        matrices: bool = False,
        moments: str = "full",
        complex_pairs: bool = False,
        step_in_backward: bool = False,
    ) -> None:
        self._step_in_backward = step_in_backward
        self._waiting: dict[int, list[Tensor]] = {}
        defaults = Options(
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            rank=rank,
            rank_rule=rank_rule,
            update_gap=update_gap,
            recompute_every=recompute_every,
            scale=scale,
            residual_weight=residual_weight,
            matrices=matrices,
            moments=moments,
            complex_pairs=complex_pairs,
        )
        defaults.check()
        if step_in_backward:
            _refuse_distributed()
        super().__init__(params, dict(vars(defaults)))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As every torch optimizer's; options are checked."""
        refuse_former_names(param_group)
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            options = Options.of(group)
            options.check()
            for parameter in group["params"]:
                options.check_parameter(parameter)
            if self._step_in_backward:
                step_when_ready(self, group["params"], TensorGaLore._step_and_release)
        except ValueError:
            self.param_groups.pop()
            raise
        self._numbers = self._number()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every parameter that has a gradient; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        present = [
            (Options.of(group), [p for p in group["params"] if p.grad is not None]) for group in self.param_groups
        ]
        if self._step_in_backward:
            self._waiting.clear()  # of a backward pass that broke off
            for _, parameters in present:
                _refuse_unreleased(parameters)
            return loss
        for options, parameters in present:  # all before the first change: one that is refused changes no parameter
            for parameter in parameters:
                self._check(parameter, options)
        for options, parameters in present:
            self._step_all(parameters, options)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As every torch optimizer's; with ``step_in_backward`` there is nothing to set to zero."""
        super().zero_grad(set_to_none=set_to_none or self._step_in_backward)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As every torch optimizer's, but state keeps its own precision instead of the parameters'.

        States and options under their former names are read too.

        Raises:
            ValueError: the state is of another optimizer or of parameters of other shapes, or an option is not allowed.
        """
        state_dict = completed_state(state_dict, self.param_groups)
        super().load_state_dict({**state_dict, "state": {}})  # torch would cast state, even complex to real
        own = chain.from_iterable(group["params"] for group in self.param_groups)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        for number, parameter in zip(saved, own, strict=True):
            self.state[parameter] = {
                key: value.detach().to("cpu" if key in ON_CPU else parameter.device, copy=True)
                for key, value in state_dict["state"].get(number, {}).items()
            }
        self._numbers = self._number()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._step_in_backward = getattr(self, "_step_in_backward", False)
        self._waiting = {}
        self._numbers = self._number()

    def _number(self) -> dict[Tensor, int]:
        """Number of each projected parameter, by which their refreshes are spread over the gap."""
        projected = [
            p for group in self.param_groups for p in group["params"] if Options.of(group).is_projected(p)
        ]
        return {parameter: index for index, parameter in enumerate(projected)}

    def _check(self, parameter: Tensor, options: Options) -> None:
        """Refuse a gradient from which no step can be computed."""
        gradient, state = gradient_of(parameter), self.state[parameter]
        if gradient.layout != torch.strided:
            raise RuntimeError(
                f"the gradient of a parameter of shape {tuple(parameter.shape)} is sparse ({gradient.layout});"
                " TensorGaLore takes dense gradients only: use sparse=False in the layer, or another optimizer"
            )
        if self._is_due(parameter, state, options) and not bool(torch.isfinite(gradient).all()):
            raise RuntimeError(
                f"the gradient of a parameter of shape {tuple(parameter.shape)} is not finite at its step"
                f" {int(state['step']) if state else 0}: no subspace can be computed from it"
            )

    def _step_all(self, parameters: list[Tensor], options: Options) -> None:
        ready = [parameter for parameter in parameters if self._prepare(parameter, options)]
        for update, batch in batches(ready, self.state, options):
            update(batch, [self.state[parameter] for parameter in batch], options)

    def _prepare(self, parameter: Tensor, options: Options) -> bool:
        """Start or refresh the parameter's state; False if it has had no gradient but zero yet."""
        state = self.state[parameter]
        if parameter not in self._numbers:
            if not state:
                state.update(start(working_gradient(parameter, options.complex_pairs), options, projected=False))
        elif self._is_due(parameter, state, options):
            gradient = working_gradient(parameter, options.complex_pairs)
            if bool(gradient.any()):
                self._refresh(gradient, state, options)
            elif not state:
                decay(parameter, options)
                return False
        return True

    def _is_due(self, parameter: Tensor, state: State, options: Options) -> bool:
        """Whether the parameter is projected and needs a new subspace, its first one included."""
        if parameter not in self._numbers or not state:
            return parameter in self._numbers
        gap = options.update_gap
        offset = self._numbers[parameter] * gap // len(self._numbers)
        can_change = has_subspace(state) or options.recompute_every or is_recomputed(state, options)
        return (int(state["step"]) + offset) % gap == 0 and bool(can_change)

    def _refresh(self, gradient: Tensor, state: State, options: Options) -> None:
        began = _clock(gradient.device)
        if state:
            refresh(gradient, state, options)
        else:
            state.update(start(gradient, options, projected=True))
        state["refreshes"] += 1
        self.refresh_count += 1
        self.refresh_seconds += _clock(gradient.device) - began

    def _step_and_release(self, parameter: Tensor) -> None:
        """Once parameters that wait have enough entries together, or at the end of the backward pass: few launches."""
        _refuse_distributed()
        backward = torch._C._current_graph_task_id()  # one may run inside another
        waiting = self._waiting.setdefault(backward, [])
        waiting.append(parameter)
        if sum(each.numel() for each in waiting) > STACKED_ENTRIES:
            self._step_waiting(backward)
        elif len(waiting) == 1:
            Variable._execution_engine.queue_callback(partial(self._step_waiting, backward))

    def _step_waiting(self, backward: int) -> None:
        self._step_released(self._waiting.pop(backward, []))

    @torch.no_grad()
    def _step_released(self, parameters: list[Tensor]) -> None:
        ready = set(map(id, parameters))
        for group in self.param_groups:
            own = [parameter for parameter in group["params"] if id(parameter) in ready]
            if own:
                options = Options.of(group)
                for parameter in own:
                    self._check(parameter, options)
                self._step_all(own, options)
        for parameter in parameters:
            parameter.grad = ReleasedGradient(parameter)


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
