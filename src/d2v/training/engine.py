"""The training engine: DeepSpeed around the one module that holds student, teacher, decoder and loss.

DeepSpeed's own `torch_autocast` is not used for bf16: it tags every Linear and Conv parameter to be reduced and
gathered in bf16 under ZeRO (here masters and reductions stay fp32) and leaves a process-wide flag behind. An
autocast outside the engine is no way either, as the engine switches it off. So the context is opened inside the
engine's module, by `_Forward`.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import logging
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from d2v.config import OptimizerConfig, RunConfig
from d2v.data.batch import Batch
from d2v.distributed.process_group import ProcessGroup
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.objectives.base import Objective
from d2v.training.precision import Precision

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's first and second moment."""

REDUCE_BUCKET = 50_000_000
"""Gradients that travel together under ZeRO: 200 MB. DeepSpeed allocates the bucket whatever the model's size, and by
default ten times as much."""

_CLIP_EPS = 1e-6


class _Forward(nn.Module):
    """Runs the objective under autocast and returns plain tensors, the only outputs DeepSpeed's hooks see."""

    def __init__(self, objective: Objective, device: torch.device, precision: Precision) -> None:
        super().__init__()
        self.objective = objective
        self._device, self._bf16 = device, precision == "bf16"

    def forward(self, batch: Batch, masks: Masks) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            # Not called as a module: parameters that stand directly in objective or encoder belong to this one then,
            # whose output is tensors, so ZeRO-3 knows when backward needs them.
            output = self.objective.forward(batch, masks)
        return output.loss_sum, output.statistics


class Engine(ABC):
    """Forward, backward and optimiser step of one rank; made by `open_engine`.

    An update that is not finite is not applied, nor is any after it; `first_bad_update` tells when asked.

    Attributes:
        module: DeepSpeed's engine; called with (batch, masks) it gives (sum of the loss, statistics).
        group: this rank among all.
        precision: format of the products.
        zero_stage: what is sharded over the ranks.
        optimizer: AdamW, whose parameters are flat shards under ZeRO.
        grad_norm: () norm of the last update's gradient over all ranks, before clipping.
        plain_student: on rank 0 under ZeRO-3, the student's modules without values; see `d2v.training.states`.
    """

    def __init__(
        self,
        objective: Objective,
        module: Any,
        optimizer: torch.optim.AdamW,
        recipe: RunConfig,
        group: ProcessGroup,
        precision: Precision,
    ) -> None:
        self._objective = objective
        self.module, self.optimizer = module, optimizer
        self.group, self.env = group, group.env
        self.precision = precision
        self.zero_stage: int = recipe.distributed.zero_stage
        self._clip_norm = recipe.optimizer.clip_norm
        self.grad_norm = torch.zeros((), device=self.env.device)
        self.plain_student: Encoder | None = None

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of one micro-batch; `step` sums it over accumulation steps and ranks."""
        self.module.backward(loss * self.env.world_size, scale_wrt_gas=False)  # DeepSpeed averages over ranks

    def step(self, update: int, lr: float, loss: Tensor) -> None:
        """Clip, and apply the update unless its loss or gradient is not finite.

        Args:
            update: index of the update, from 0.
            lr: its learning rate.
            loss: () the update's loss over all ranks.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr * self._objective.rate_of(group["part"], update)
        self._step(update, loss)

    @abstractmethod
    def _step(self, update: int, loss: Tensor) -> None: ...

    @property
    @abstractmethod
    def waits_to_tell(self) -> bool:
        """Whether `first_bad_update` waits for the device."""

    @abstractmethod
    def first_bad_update(self) -> int | None:
        """Index of the first update that was not finite; None while all are."""


class _ReplicatedEngine(Engine):
    """Every rank holds everything (stage 0). Clipping rides on the fused optimiser's `grad_scale` and skipping on its
    `found_inf`: one pass over the gradients less than scaling them first, and no wait for the device."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=self.env.device)
        # Reduced below, before the norm is taken. One rank has nobody to reduce with; DeepSpeed would still flatten
        # and copy back every gradient.
        self.module.enable_backward_allreduce = False

    def _step(self, update: int, loss: Tensor) -> None:
        for parameter in self._parameters:
            if parameter.grad is None:  # of a block that was skipped; shards of gradients are zero there, too
                parameter.grad = torch.zeros_like(parameter)
        if self.env.world_size > 1:
            self.module.buffered_allreduce_fallback()
        self.grad_norm = nn.utils.get_total_norm([p.grad for p in self._parameters], foreach=True)
        bad = ~torch.isfinite(self.grad_norm + loss)
        self._first_bad.copy_(torch.where((self._first_bad < 0) & bad, update, self._first_bad))
        self.optimizer.found_inf = (self._first_bad >= 0).float()  # type: ignore[attr-defined]
        if self._clip_norm is not None:
            scale = ((self.grad_norm + _CLIP_EPS) / self._clip_norm).clamp_min(1.0)
            self.optimizer.grad_scale = scale  # type: ignore[attr-defined]
        self.module.step()

    @property
    def waits_to_tell(self) -> bool:
        return self.env.device.type != "cpu"

    def first_bad_update(self) -> int | None:
        first = int(self._first_bad)
        return first if first >= 0 else None


class _ShardedEngine(Engine):
    """DeepSpeed's ZeRO (stages 1 to 3), which clips and skips by itself, and waits for the norm in every step."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._first_bad: int | None = None
        zero = self.module.optimizer
        if self.zero_stage == 3:
            start_moments(self.optimizer, zero.fp32_partitioned_groups_flat)
        else:
            # DeepSpeed does this after the first group's first step and would find no moments of the second group.
            start_moments(self.optimizer, zero.single_partition_of_fp32_groups)
            zero._lazy_init_hp_params_optimizer_state()

    def _step(self, update: int, loss: Tensor) -> None:
        if self._first_bad is not None:
            return
        if not bool(torch.isfinite(loss)):
            self._first_bad = update
            return
        self.module.step()
        self.grad_norm = torch.as_tensor(self.module.get_global_grad_norm(), device=self.env.device)
        if self.module.optimizer.overflow:
            self._first_bad = update

    @property
    def waits_to_tell(self) -> bool:
        return False

    def first_bad_update(self) -> int | None:
        return self._first_bad


def start_moments(optimizer: torch.optim.AdamW, parameters: Iterable[Tensor]) -> None:
    """Give AdamW the state that it would make at its first step."""
    for parameter in parameters:
        moments = {name: torch.zeros_like(parameter) for name in MOMENTS}
        optimizer.state[parameter] = {"step": torch.zeros((), device=parameter.device), **moments}


def parameter_groups(objective: Objective, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Trained parameters with and without weight decay, by the objective's parts.

    Vectors, scalars and biases are exempt unless `decay_all` (the reference meant to exempt them but never did).
    The teacher has no gradient and is in no group.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            decays = config.decay_all or (parameter.ndim > 1 and not name.endswith("bias"))
            groups.setdefault((objective.part_of(name), decays), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": config.weight_decay if decays else 0.0, "part": part}
        for (part, decays), parameters in sorted(groups.items(), key=lambda group: (group[0][0], not group[0][1]))
    ]


@contextlib.contextmanager
def open_engine(objective: Objective, recipe: RunConfig, group: ProcessGroup, precision: Precision) -> Iterator[Engine]:
    """Start DeepSpeed around `objective`, which moves to the device, and shut it down at the end.

    Under ZeRO-3 the objective's parameters are cut into shards and must be read through `d2v.training.states`.

    Args:
        objective: the module to train, with its first or its resumed weights, the same on every rank.
        recipe: optimiser, accumulation, clipping and sharding.
        group: this rank among all.
        precision: format of the products.
    """
    env = group.env
    deepspeed = _import_deepspeed(env.device)
    # DeepSpeed calls torch's collectives by their old names.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    deepspeed.init_distributed(dist_backend=torch.distributed.get_backend(), dist_init_required=False, verbose=False)
    plain = None
    if recipe.distributed.zero_stage == 3 and env.is_main:
        plain = copy.deepcopy(objective.student).to("meta")
    objective.to(env.device).student.activation_checkpointing = recipe.distributed.activation_checkpointing
    try:
        optimizer = torch.optim.AdamW(
            parameter_groups(objective, recipe.optimizer),
            lr=recipe.optimizer.lr,
            betas=recipe.optimizer.betas,
            eps=recipe.optimizer.eps,
            fused=True,
        )
        wrapped = _Forward(objective, env.device, precision)
        inner, *_ = deepspeed.initialize(
            model=wrapped, optimizer=optimizer, config=_deepspeed_config(recipe, group), dist_init_required=False
        )
        kind = _ShardedEngine if recipe.distributed.zero_stage else _ReplicatedEngine
        engine = kind(objective, inner, optimizer, recipe, group, precision)
        engine.plain_student = plain
        try:
            yield engine
        finally:
            inner.destroy()
    finally:
        deepspeed.comm.destroy_process_group()


def _deepspeed_config(recipe: RunConfig, group: ProcessGroup) -> dict[str, Any]:
    parts = group.env.world_size * recipe.accumulation_steps
    stage = recipe.distributed.zero_stage
    zero: dict[str, Any] = {"stage": stage, "overlap_comm": stage >= 2 and group.env.device.type == "cuda"}
    zero["reduce_bucket_size"] = REDUCE_BUCKET
    if stage == 3:
        # A small parameter would stay whole on every rank and be gathered again after every step, the teacher's too.
        zero["stage3_param_persistence_threshold"] = 0
    if recipe.distributed.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": group.env.device.type == "cuda"}
    return {
        "train_micro_batch_size_per_gpu": recipe.batch_unit // parts,
        "gradient_accumulation_steps": recipe.accumulation_steps,
        "managed_gradient_accumulation": False,  # one step() per update, after all its micro-batches
        "gradient_clipping": (recipe.optimizer.clip_norm or 0.0) if stage else 0.0,  # stage 0 clips in Engine.step
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's CPU Adam would have to be compiled first
        "steps_per_print": sys.maxsize,
    }


def _import_deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed quietly and late (seconds, and hundreds of MB)."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepspeed
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # DeepSpeed asks this table whether it may compile a shared-memory all-reduce (40 s and a compiler) and fills
    # it by running compilers. No operator of its own is used here, so the answer to all is no.
    vars(deepspeed.ops).setdefault("__compatible_ops__", collections.defaultdict(bool))
    return deepspeed
