"""The whole state of a model whose parts may be spread over ranks: for checkpoints, exports and probes.

Weights and moments travel parameter by parameter and meet on rank 0 as one full copy of what was asked for; the
others never hold more than one parameter. All ranks must call these functions; all but rank 0 get empty answers.
What is stored is whole and named by parameter, so another number of ranks or another ZeRO stage can read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.models.encoder import Encoder
from d2v.models.shards import held, whole_shape
from d2v.objectives.base import Objective
from d2v.training.engine import MOMENTS, Engine, start_moments


@contextmanager
def _gathered(parameters: Collection[nn.Parameter], engine: Engine) -> Iterator[None]:
    """Inside, the parameters are whole on every rank."""
    if engine.zero_stage < 3:
        yield
        return
    from deepspeed.runtime.zero import GatheredParameters

    with GatheredParameters(list(parameters)):
        yield


def whole_weights(
    module: nn.Module, engine: Engine, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, Tensor]:
    """The module's state dict on rank 0, as copies on the CPU.

    Args:
        module: any part of what is trained.
        engine: that trains it.
        wanted: which names to take.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    whole = {}
    for name, tensor in module.state_dict().items():
        if wanted(name):
            own = parameters.get(name)
            with _gathered([] if own is None else [own], engine):
                if engine.env.is_main:
                    whole[name] = (tensor if own is None else own).detach().to("cpu", copy=True).contiguous()
    return whole


@contextmanager
def whole_student(objective: Objective, engine: Engine) -> Iterator[Encoder]:
    """The student in evaluation mode, as rank 0 may run it without the others. Under ZeRO-3 that is a copy for as long
    as it is looked at, and what the other ranks get must not be run."""
    plain, student = engine.plain_student, objective.student
    if engine.zero_stage < 3:
        was_training = student.training
        yield student.eval()
        student.train(was_training)
        return
    if plain is not None:
        plain.to_empty(device=engine.env.device).eval()
        for name, buffer in plain.named_buffers():
            buffer.copy_(student.get_buffer(name))
    for name, own in student.named_parameters():
        with _gathered([own], engine):
            if plain is not None:
                plain.get_parameter(name).data.copy_(own.data)
    yield student if plain is None else plain
    if plain is not None:
        plain.to("meta")


def norms(modules: Mapping[str, nn.Module], engine: Engine) -> dict[str, float]:
    """Euclidean norm of each module's parameters, on every rank."""
    squares = torch.stack([_square_of_held(module, engine) for module in modules.values()])
    if engine.zero_stage == 3:
        engine.group.all_reduce(squares)
    return dict(zip(modules, squares.sqrt().tolist(), strict=True))


def _square_of_held(module: nn.Module, engine: Engine) -> Tensor:
    """() the squared norm of what this rank holds of a module's parameters."""
    parts = [_without_padding(parameter, engine) for parameter in module.parameters()]
    if not parts:
        return torch.zeros((), device=engine.env.device)
    return nn.utils.get_total_norm(parts, foreach=True).square()


def _without_padding(parameter: nn.Parameter, engine: Engine) -> Tensor:
    """What this rank holds of a parameter, without what fills the last shard up: that was never written."""
    own = held(parameter)
    if engine.zero_stage < 3:
        return own
    begin = engine.env.rank * own.numel()
    return own[: max(0, math.prod(whole_shape(parameter)) - begin)]


def trained(objective: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that the optimiser has, by name."""
    return {name: parameter for name, parameter in objective.named_parameters() if parameter.requires_grad}


def whole_moments(objective: Objective, engine: Engine, moment: str) -> dict[str, Tensor]:
    """One moment of every trained parameter on rank 0, by the parameter's name, as copies on the CPU.

    Args:
        objective: what is trained.
        engine: has done an update, or took moments over.
        moment: of `MOMENTS`.
    """
    from deepspeed.utils import safe_get_full_optimizer_state

    whole = {}
    for name, parameter in trained(objective).items():
        if engine.zero_stage:
            value = safe_get_full_optimizer_state(parameter, moment)
        else:
            value = engine.optimizer.state[parameter][moment]
        if engine.env.is_main:
            whole[name] = value.to("cpu", copy=True).contiguous()
    return whole


def take_moments_over(objective: Objective, engine: Engine, stored: Callable[[str, str], Tensor], steps: int) -> None:
    """Continue from stored moments.

    Args:
        objective: what is trained.
        engine: freshly opened.
        stored: (moment, parameter's name) -> the whole moment, the same on every rank.
        steps: updates that AdamW has applied, which its bias correction counts.
    """
    if not engine.zero_stage:
        start_moments(engine.optimizer, trained(objective).values())
    for moment in MOMENTS:
        for name, parameter in trained(objective).items():
            _set_moment(parameter, stored(moment, name), moment, engine)
    for state in engine.optimizer.state.values():
        state["step"].fill_(steps)


def _set_moment(parameter: nn.Parameter, value: Tensor, moment: str, engine: Engine) -> None:
    """Put a whole moment into the shards."""
    from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

    value = value.to(engine.env.device)
    if not engine.zero_stage:
        engine.optimizer.state[parameter][moment].copy_(value)
        return
    if engine.zero_stage < 3:
        safe_set_full_optimizer_state(parameter, value, moment)
        return
    size: int = held(parameter).numel()
    padded = F.pad(value.flatten(), (0, size * engine.env.world_size - value.numel()))
    safe_set_local_optimizer_state(parameter, padded[size * engine.env.rank :][:size], moment)
