"""Parameter names of transformers' Data2VecAudio, Data2VecText and Data2VecVision beside ours.

Each table is read in both directions; `{}` is a layer's number, and a name that ends in a dot has a weight and a bias.
q, k and v are apart there and one matrix here: `split_attention` and `join_attention` go between the two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Pairs = tuple[tuple[str, str], ...]
"""(our prefix, their prefix)."""


def _layers(there: str, parts: dict[str, str]) -> Pairs:
    return tuple((f"blocks.{{}}.{ours}", f"{there}.{{}}.{theirs}") for ours, theirs in parts.items())


SPEECH: Pairs = (
    ("stem.local.layers.{}.conv.", "feature_extractor.conv_layers.{}.conv."),
    ("stem.local.layers.{}.norm.", "feature_extractor.conv_layers.{}.layer_norm."),
    ("stem.local.norm.", "feature_projection.layer_norm."),
    ("stem.local.projection.", "feature_projection.projection."),
    ("stem.positions.convs.{}.", "encoder.pos_conv_embed.layers.{}.conv."),
    ("context_norm.", "encoder.layer_norm."),
    *_layers(
        "encoder.layers",
        {
            "attn.q.": "attention.q_proj.",
            "attn.k.": "attention.k_proj.",
            "attn.v.": "attention.v_proj.",
            "attn.proj.": "attention.out_proj.",
            "norm1.": "layer_norm.",
            "mlp.fc1.": "feed_forward.intermediate_dense.",
            "mlp.fc2.": "feed_forward.output_dense.",
            "norm2.": "final_layer_norm.",
        },
    ),
)
TEXT: Pairs = (
    ("stem.local.words.", "embeddings.word_embeddings."),
    ("stem.placing.positions.", "embeddings.position_embeddings."),
    ("stem.placing.norm.", "embeddings.LayerNorm."),
    *_layers(
        "encoder.layer",
        {
            "attn.q.": "attention.self.query.",
            "attn.k.": "attention.self.key.",
            "attn.v.": "attention.self.value.",
            "attn.proj.": "attention.output.dense.",
            "norm1.": "attention.output.LayerNorm.",
            "mlp.fc1.": "intermediate.dense.",
            "mlp.fc2.": "output.dense.",
            "norm2.": "output.LayerNorm.",
        },
    ),
)
_TABLE = "relative_position_bias.relative_position_bias_table"
VISION: Pairs = (
    ("extra_tokens", "embeddings.cls_token"),
    ("stem.local.proj.", "embeddings.patch_embeddings.projection."),
    ("stem.relative_bias", f"encoder.{_TABLE}"),
    ("final_norm.", "layernorm."),
    *_layers(
        "encoder.layer",
        {
            "relative_bias": f"attention.attention.{_TABLE}",
            "attn.q.": "attention.attention.query.",
            "attn.k.": "attention.attention.key.",
            "attn.v.": "attention.attention.value.",
            "attn.proj.": "attention.output.dense.",
            "norm1.": "layernorm_before.",
            "norm2.": "layernorm_after.",
            "mlp.fc1.": "intermediate.dense.",
            "mlp.fc2.": "output.dense.",
            "gamma_1": "lambda_1",
            "gamma_2": "lambda_2",
        },
    ),
)
NAMES: dict[str, Pairs] = {"speech": SPEECH, "text": TEXT, "vision": VISION}


def renamed(name: str, pairs: Pairs, to: Literal["ours", "theirs"]) -> str | None:
    """A parameter's name on the other side; None if the table does not hold it."""
    for ours, theirs in pairs:
        source, target = (theirs, ours) if to == "ours" else (ours, theirs)
        end = r"(weight|bias)$" if source.endswith(".") else "$"
        found = re.match(re.escape(source).replace(r"\{\}", r"(?P<layer>\d+)") + end, name)
        if found:
            layer = found.groupdict().get("layer") or ""
            return target.replace("{}", layer) + (found.groups()[-1] if source.endswith(".") else "")
    return None


def split_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our fused attention, with or without a bias of k, as `.attn.q.`, `.attn.k.` and `.attn.v.` parameters."""
    apart = {}
    for name, value in state.items():
        if ".attn.qkv." in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                apart[name.replace(".attn.qkv.", f".attn.{part}.")] = rows
        else:
            apart[re.sub(r"\.attn\.([qv])_bias$", r".attn.\1.bias", name)] = value
    return apart


def join_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `split_attention`. A part that is missing stays missing, for the loading of the state to name."""
    joined = {name: value for name, value in state.items() if not re.search(r"\.attn\.[qkv]\.", name)}
    for name in (name for name in state if ".attn.q." in name):
        parts = {part: state.get(name.replace(".attn.q.", f".attn.{part}.")) for part in "qkv"}
        present = [value for value in parts.values() if value is not None]
        if len(present) == len(parts):
            joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(present)
        elif name.endswith(".bias"):  # BEiT: k has none
            shorter = {f".attn.{part}_bias": value for part, value in parts.items() if value is not None}
            joined |= {name.replace(".attn.q.bias", end): value for end, value in shorter.items()}
    return joined
