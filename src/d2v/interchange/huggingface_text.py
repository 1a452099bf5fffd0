"""transformers' Data2VecText: names, what is read and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from d2v.interchange import fairseq_text
from d2v.interchange.huggingface_names import (
    Architecture,
    Pairs,
    Read,
    Written,
    layers,
    our_names,
    recipe_of,
    refuse_other,
    sizes,
    their_names,
)
from d2v.modalities.text.tokenizer import BOS, EOS, PAD

NEW_POOLER = "transformers will say that the pooler is new: this encoder has none, use last_hidden_state"
NAMES: Pairs = (
    ("stem.local.words.", "embeddings.word_embeddings."),
    ("stem.placing.positions.", "embeddings.position_embeddings."),
    ("stem.placing.norm.", "embeddings.LayerNorm."),
    *layers(
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


def read(theirs: dict[str, Tensor], config: Mapping[str, Any]) -> Read:
    """A Data2VecText as our encoder. Raises CheckpointError for parts that have no counterpart here."""
    refuse_other(config, {"hidden_act": ("gelu",), "pad_token_id": (PAD,), "is_decoder": (False,)})
    types = theirs.pop("embeddings.token_type_embeddings.weight", None)
    state, notes = our_names(theirs, NAMES), []
    positions = "stem.placing.positions.weight"
    if types is not None and positions in state:
        if types[0].any():
            rows = torch.arange(len(state[positions])).unsqueeze(1) > PAD  # earlier rows are never read
            state[positions] = state[positions] + types[0] * rows
            notes.append("the token type embedding, which every token has, was added to the position embeddings")
        if len(types) > 1:
            notes.append(f"{len(types) - 1} further token types are left out: there are none here")
    transformer = {
        "encoder": {"attention_heads": config["num_attention_heads"]},
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
    }
    eps = {"norm_eps": config.get("layer_norm_eps", 1e-12)}
    return state, recipe_of(fairseq_text.v1_recipe, state, {"transformer": transformer}, eps), tuple(notes)


def write(settings: Mapping[str, Any], state: dict[str, Tensor], head: Mapping[str, Tensor]) -> Written:
    """Our encoder as a Data2VecText."""
    weights = their_names(state, NAMES)
    weights["embeddings.token_type_embeddings.weight"] = weights["embeddings.LayerNorm.weight"].new_zeros(
        1, settings["width"]
    )
    pooler = {name: value for name, value in head.items() if name.startswith("pooler.")}
    config = {
        **sizes(settings),
        "vocab_size": settings["vocab_size"],
        "max_position_embeddings": settings["max_tokens"] + PAD + 1,
        "type_vocab_size": 1,
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["attention_dropout"],
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    return config, weights | pooler, () if pooler else (NEW_POOLER,)


TEXT = Architecture("data2vec-text", "Data2VecText", "text", NAMES, read, write)
