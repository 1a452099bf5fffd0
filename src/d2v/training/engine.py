"""The training engine: DeepSpeed around the one module that holds student, teacher, decoder and loss.

DeepSpeed's own `torch_autocast` is not used for bf16: it tags every Linear and Conv parameter to be reduced and
gathered in bf16 under ZeRO (here masters and reductions stay fp32) and leaves a process-wide flag behind. An
autocast outside the engine is no way either, as the engine switches it off. So the context is opened inside the
engine's module, by `_Forward`.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from d2v.config import OptimizerConfig, TrainConfig
from d2v.data.batch import Batch
from d2v.models.masking import Masks
from d2v.objectives.base import LossOutput, Objective
from d2v.training.launch import Place
from d2v.training.precision import Precision


class _Forward(nn.Module):
    """Runs the objective under autocast and returns plain tensors, the only outputs DeepSpeed's hooks see."""

    def __init__(self, objective: Objective, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.objective = objective
        self._device, self._bf16 = device, precision == "bf16"

    def forward(self, batch: Batch, masks: Masks) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            output = self.objective(batch, masks)
        return output.loss_sum, output.statistics


class Engine:
    """Forward, backward and optimiser step of one rank; made by `open_engine`.

    An update that is not finite is not applied, nor is any after it. That is decided on the device, so it costs
    no wait; `first_bad_update` tells when asked.

    Attributes:
        place: this rank.
        precision: format of the products.
        grad_norm: () norm of the last update's gradient before clipping.
    """

    def __init__(self, deepspeed_engine: Any, optimizer: torch.optim.AdamW, recipe: TrainConfig, place: Place) -> None:
        self._engine, self._optimizer = deepspeed_engine, optimizer
        self._clip_norm = recipe.optimizer.clip_norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.place = place
        self.precision: Precision = "fp32"
        self.grad_norm = torch.zeros((), device=place.device)
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=place.device)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """Teacher targets, student, decoder and loss of one micro-batch."""
        loss_sum, statistics = self._engine(batch, masks)
        return LossOutput(loss_sum, statistics)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of one micro-batch; `step` sums it over accumulation steps and ranks."""
        self._engine.backward(loss * self.place.ranks, scale_wrt_gas=False)  # DeepSpeed averages over ranks

    def sum_over_ranks(self, figure: Tensor) -> Tensor:
        """The sum of one figure over all ranks."""
        if self.place.ranks > 1:
            torch.distributed.all_reduce(figure)
        return figure

    def step(self, update: int, lr: float, loss: Tensor) -> None:
        """Clip, and apply the update unless its loss or gradient is not finite.

        Clipping rides on the fused optimiser's `grad_scale` and skipping on its `found_inf`: one pass over the
        gradients less than scaling them first, and no wait for the device.

        Args:
            update: index of the update, from 0.
            lr: its learning rate.
            loss: () the update's loss on this rank.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        grads = [p.grad for p in self._parameters if p.grad is not None]
        self.grad_norm = nn.utils.get_total_norm(grads, foreach=True)
        bad = ~torch.isfinite(self.grad_norm + loss)
        self._first_bad.copy_(torch.where((self._first_bad < 0) & bad, update, self._first_bad))
        self._optimizer.found_inf = (self._first_bad >= 0).float()  # type: ignore[attr-defined]
        if self._clip_norm is not None:
            scale = (self.grad_norm / self._clip_norm).clamp_min(1.0)
            self._optimizer.grad_scale = scale  # type: ignore[attr-defined]
        self._engine.step()

    def first_bad_update(self) -> int | None:
        """Index of the first update that was not finite; None while all are. Waits for the device."""
        first = int(self._first_bad)
        return first if first >= 0 else None

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over an optimiser's state."""
        self._optimizer.load_state_dict(state)


def parameter_groups(objective: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Trained parameters with and without weight decay.

    Vectors, scalars and biases are exempt unless `decay_all` (the reference meant to exempt them but never did).
    The teacher has no gradient and is in neither group.
    """
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            plain = config.decay_all or (parameter.ndim > 1 and not name.endswith("bias"))
            (decayed if plain else exempt).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": exempt, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


@contextlib.contextmanager
def open_engine(objective: Objective, recipe: TrainConfig, place: Place, precision: Precision) -> Iterator[Engine]:
    """Start DeepSpeed around `objective`, which moves to the device, and shut it down at the end.

    Args:
        objective: the module to train.
        recipe: optimiser, accumulation and clipping.
        place: this rank.
        precision: format of the products.
    """
    deepspeed = _import_deepspeed(place)
    with _process_group(deepspeed, place):
        optimizer = torch.optim.AdamW(
            parameter_groups(objective.to(place.device), recipe.optimizer),
            lr=recipe.optimizer.lr,
            betas=recipe.optimizer.betas,
            eps=recipe.optimizer.eps,
            fused=True,
        )
        wrapped = _Forward(objective, place.device, precision)
        inner, *_ = deepspeed.initialize(
            model=wrapped, optimizer=optimizer, config=_deepspeed_config(recipe, place), dist_init_required=False
        )
        # One rank has nobody to reduce with; DeepSpeed would still flatten and copy back every gradient.
        inner.enable_backward_allreduce = place.ranks > 1
        engine = Engine(inner, optimizer, recipe, place)
        engine.precision = precision
        try:
            yield engine
        finally:
            inner.destroy()


def _deepspeed_config(recipe: TrainConfig, place: Place) -> dict[str, Any]:
    parts = place.ranks * recipe.accumulation_steps
    return {
        "train_micro_batch_size_per_gpu": recipe.batch_unit // parts,
        "gradient_accumulation_steps": recipe.accumulation_steps,
        "managed_gradient_accumulation": False,  # one step() per update, after all its micro-batches
        "gradient_clipping": 0.0,  # Engine.step clips, fused with the optimiser
        "zero_optimization": {"stage": recipe.distributed.zero_stage if place.ranks > 1 else 0},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's CPU Adam would have to be compiled first
        "steps_per_print": sys.maxsize,
    }


def _import_deepspeed(place: Place) -> Any:
    """Import DeepSpeed quietly and late (seconds, and hundreds of MB)."""
    os.environ.setdefault("DS_ACCELERATOR", place.device.type)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepspeed
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # DeepSpeed asks this table whether it may compile a shared-memory all-reduce (40 s and a compiler) and fills
    # it by running compilers. No operator of its own is used here, so the answer to all is no.
    vars(deepspeed.ops).setdefault("__compatible_ops__", collections.defaultdict(bool))
    return deepspeed


@contextlib.contextmanager
def _process_group(deepspeed: Any, place: Place) -> Iterator[None]:
    """The process group that DeepSpeed insists on; for one rank it meets itself in memory, without an address.

    Restores what torch and DeepSpeed leave in the process: the group, LOCAL_RANK and the exception hook (which
    would mark every later error with "[rank0]").
    """
    hook, local_rank = sys.excepthook, os.environ.get("LOCAL_RANK")
    backend = "nccl" if place.device.type == "cuda" else "gloo"
    os.environ["LOCAL_RANK"] = str(place.device.index or 0)
    torch.distributed.init_process_group(
        backend, store=torch.distributed.HashStore(), rank=place.rank, world_size=place.ranks
    )
    try:
        deepspeed.init_distributed(dist_backend=backend, dist_init_required=False, verbose=False)
        yield
    finally:
        deepspeed.comm.destroy_process_group()
        sys.excepthook = hook
        if local_rank is None:
            os.environ.pop("LOCAL_RANK", None)
        else:
            os.environ["LOCAL_RANK"] = local_rank
