"""What a training costs each of its ranks: memory and communication, by formula.

P trained and F frozen (the teacher's) parameters, N ranks, A accumulation steps; fp32 everywhere, 4 bytes an element.

    kept       stage 0    weights, gradients, two moments                      16 P          + 4 F
               stage 1    weights, gradients; shards of masters and moments     8 P + 12 P/N + 4 F
               stage 2    weights; shards of gradients, masters, moments        4 P + 16 P/N + 4 F
               stage 3    shards of weights, gradients, masters and moments         20 P/N + 4 F/N

    sent, in units of 4 (N - 1) / N, by ring algorithms
               stage 0    gradients all-reduced once an update                  2 P
               stage 1    the same, and new weights gathered                    3 P
               stage 2    gradients all-reduced after each part               2 A P + P
               stage 3    weights gathered, gradients scattered, each part    A (2 P + F), and what is gathered twice

(Rajbhandari et al. 2020, "ZeRO", sections 5 and 7, with fp32 weights and a frozen teacher; DeepSpeed reduces gradients
to all ranks in stages 1 and 2, where the paper's reduce-scatter would send half as much.) DeepSpeed keeps the masters
apart from the weights under ZeRO though both are fp32 here. The teacher's step sends nothing in any stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from d2v.models.encoder import Encoder, Stem
from d2v.objectives.data2vec2 import Data2Vec2
from d2v.training.engine import REDUCE_BUCKET

BYTES = 4  # of a float32

_FLATTENED = 500_000_000  # elements that DeepSpeed reduces at once without ZeRO
_PREFETCHED = 50_000_000  # `stage3_prefetch_bucket_size`
_KEPT = 500_000_000  # half of `stage3_max_reuse_distance`: elements on the way forward, and on the way back again
_RESERVE = 0.1  # for CUDA, NCCL and fragmentation

_BLOCK = 28  # bytes a token and channel, see `activation_bytes`
_BLOCK_INPUT = 4
_DROPOUT_MASKS = 2
_CONV = 4
_FILLED = 12
_COMPARED = 14


def state_parts(trained: float, frozen: float, stage: int, ranks: int) -> dict[str, float]:
    """Bytes that a rank keeps between updates and, of gradients, at their peak.

    Args:
        trained: P, parameters that the optimiser has.
        frozen: F, parameters of the teacher.
        stage: of ZeRO.
        ranks: N.

    Returns:
        weights, teacher, gradients, masters, moments -> bytes.
    """
    weights, gradients, optimizer, teacher = (
        1.0 if stage < first_sharded else 1.0 / ranks for first_sharded in (3, 2, 1, 3)
    )
    return {
        "weights": BYTES * trained * weights,
        "teacher": BYTES * frozen * teacher,
        "gradients": BYTES * trained * gradients,
        "masters": BYTES * trained * optimizer if stage else 0.0,
        "moments": 2 * BYTES * trained * optimizer,
    }


def state_bytes(trained: float, frozen: float, stage: int, ranks: int) -> float:
    """The sum of `state_parts`: what a rank holds, without activations and buffers."""
    return sum(state_parts(trained, frozen, stage, ranks).values())


def buffer_bytes(trained: float, stage: int, ranks: int) -> float:
    """Bytes of what DeepSpeed works with on a GPU, at most.

    Stage 0 flattens gradients to reduce them. Stages 1 to 3 allocate a bucket of gradients: stage 2 two of them, to
    reduce one while the other fills, and stage 3 sorts a bucket into a copy.
    Stage 3 has whole weights besides: those that are needed again soon, and those that come next.

    Args:
        trained: P.
        stage: of ZeRO.
        ranks: N.
    """
    flat = min(trained, REDUCE_BUCKET)
    elements = {
        0: min(trained, _FLATTENED) if ranks > 1 else 0.0,
        1: REDUCE_BUCKET,
        2: 2 * REDUCE_BUCKET,
        3: REDUCE_BUCKET + flat + min(trained, _KEPT) + _PREFETCHED,
    }
    return BYTES * elements[stage]


def traffic_bytes(trained: float, frozen: float, stage: int, ranks: int, accumulation: int = 1) -> float:
    """Bytes that a rank sends in an update, once the first has shown DeepSpeed in which order weights are needed.

    In stage 3 weights stay from forward to backward if no more than a billion elements are used between; of a larger
    student the first blocks are gathered again.

    Args:
        trained: P, parameters that the optimiser has.
        frozen: F, all others: the teacher's, and fixed positions.
        stage: of ZeRO.
        ranks: N.
        accumulation: A.
    """
    again = max(0.0, trained - _KEPT)
    elements = {
        0: 2 * trained,
        1: 3 * trained,
        2: 2 * accumulation * trained + trained,
        3: accumulation * (2 * trained + frozen + again),
    }
    return BYTES * elements[stage] * (ranks - 1) / ranks


def activation_bytes(objective: Data2Vec2, tokens: int, recomputed: bool = False) -> float:
    """Bytes that backward waits for, of one sample of data2vec 2.0 in bf16 on a GPU with fused attention; about.

    After Korthikanti et al. 2022 ("Reducing Activation Recomputation", section 4), whose block has 34 bytes a token and
    channel. Here attention leaves only its output, and the residual stream is fp32: input of attention 2, queries, keys
    and values 6, attention's output 2, input of the first norm 4, input of the MLP 2, its hidden layer before GELU 8,
    input of the second norm 4: 28, and 2 more for the masks of dropout. A bias on attention costs 2 bytes a head and
    pair of tokens. Recomputed blocks leave their input, 4.

    A convolution leaves 4 bytes an output: its input and the norm's, both in bf16. The decoder's input is made of 12,
    and its outputs at masked tokens are compared in 14. The teacher leaves nothing for backward, but each block's
    output in bf16, and the chosen ones in fp32, wait for the average.

    Args:
        objective: built, on any device.
        tokens: T of the sample.
        recomputed: with `activation_checkpointing`.
    """
    student, config, masked = objective.student, objective.config, objective.num_masked(tokens)
    width, rows, seen = student.width, config.masks_per_sample, tokens - masked + student.num_extra
    depth = len(student.prenet) + len(student.blocks)

    block = seen * _block_bytes(student, tokens, seen)
    blocks = depth * seen * _BLOCK_INPUT * width + block if recomputed else depth * block
    decoder = _CONV * sum(conv.out_channels for conv in _convs(objective.decoder)) + _FILLED * width
    compared = masked * _COMPARED * width
    teacher = tokens * width * (2 * len(student.blocks) + BYTES * config.targets.top_k_layers + _BLOCK)
    in_rows = blocks + tokens * (decoder + _placing_bytes(student.stem)) + compared
    return rows * in_rows + teacher + _local_bytes(student.stem, tokens)


def _block_bytes(student: Encoder, tokens: int, seen: int) -> float:
    """Bytes that a block leaves of one token among those seen."""
    device = next(student.parameters()).device
    _, bias = student.stem.add_positions(torch.zeros(1, tokens, student.width, device=device), None, None)
    pairs = 0 if bias is None else 2 * bias.shape[-3] * seen
    drops = any(part.p > 0 for part in student.blocks.modules() if isinstance(part, nn.Dropout))
    return (_BLOCK + _DROPOUT_MASKS * drops) * student.width + pairs


def _convs(module: nn.Module) -> list[nn.Conv1d | nn.Conv2d]:
    return [part for part in module.modules() if isinstance(part, nn.Conv1d | nn.Conv2d)]


def _placing_bytes(stem: Stem) -> float:
    """Bytes that the convolutions of positions leave of one token of a row."""
    local = set(_convs(stem.local))
    return float(_CONV * sum(conv.out_channels for conv in _convs(stem) if conv not in local))


def _local_bytes(stem: Stem, tokens: int) -> float:
    """Bytes that the local features leave of a sample: each convolution has as many outputs as tokens times the strides
    after it. A patch embedding is one product."""
    outputs, total = tokens, _CONV * stem.width * tokens
    for conv in reversed(_convs(stem.local)):
        if isinstance(conv, nn.Conv1d):
            total += _CONV * conv.out_channels * outputs
            outputs *= conv.stride[0]
    return float(total)


@dataclass(frozen=True)
class Choice:
    """How to train.

    Attributes:
        stage: of ZeRO.
        recomputed: whether with `activation_checkpointing`.
        memory_bytes: that a rank needs then.
    """

    stage: int
    recomputed: bool
    memory_bytes: float


def memory_bytes(trained: float, frozen: float, stage: int, ranks: int, activations: float) -> float:
    """Bytes that a rank needs on a GPU: state, buffers, the weights' bf16 copies for products, and activations.

    Args:
        trained: P.
        frozen: F.
        stage: of ZeRO.
        ranks: N.
        activations: bytes of all samples of one part of the batch.
    """
    copies = BYTES // 2 * trained
    return state_bytes(trained, frozen, stage, ranks) + buffer_bytes(trained, stage, ranks) + copies + activations


def choose_stage(
    trained: float, frozen: float, ranks: int, activations: tuple[float, float], gpu_bytes: float
) -> Choice | None:
    """The lowest stage that leaves a tenth of the memory free, with recomputation only if no stage does without; None
    where nothing fits.

    Args:
        trained: P.
        frozen: F.
        ranks: N.
        activations: bytes of all samples of one part of the batch, stored and recomputed.
        gpu_bytes: memory of a GPU.
    """
    for recomputed in (False, True):
        for stage in range(4):
            need = memory_bytes(trained, frozen, stage, ranks, activations[recomputed])
            if need <= (1.0 - _RESERVE) * gpu_bytes:
                return Choice(stage, recomputed, need)
    return None
