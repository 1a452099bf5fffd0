"""Names and sizes of the reference's text checkpoints, data2vec 2.0 and 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from d2v.config import parse
from d2v.interchange.fairseq_names import (
    NOT_STORED,
    ROBERTA_LAYERS,
    Converted,
    Published,
    Reference,
    Renames,
    check_norm_first,
    check_v2,
    ema,
    fuse_attention,
    is_pre_norm,
    loss,
    refuse_options,
    rename,
    targets,
    trunk_sizes,
    v2_decoder_name,
    v2_objective,
    v2_part,
)
from d2v.modalities.text.config import TextTrainConfig
from d2v.modalities.text.tokenizer import MASK

RESERVED_POSITIONS = 2
"""Rows of the position table before the first token's."""

V2_RENAMES: Renames = (
    (r"^modality_encoders\.TEXT\.", ""),
    (r"^local_encoder\.embed_tokens\.", "stem.local.words."),
    (r"^local_encoder\.embed_positions\.", "stem.local.placing.positions."),
    (r"^local_encoder\.layernorm_embedding\.", "stem.local.placing.norm."),
    (r"^norm\.", "final_norm."),
)
V1_RENAMES: Renames = (
    (r"^encoder\.sentence_encoder\.", ""),
    (r"^embed_tokens\.", "stem.local.words."),
    (r"^embed_positions\.", "stem.placing.positions."),
    (r"^layernorm_embedding\.", "stem.placing.norm."),
    (r"^layer_norm\.", "final_norm."),
    *ROBERTA_LAYERS,
)
EMBEDDINGS: dict[str, tuple[Any, ...]] = {
    "learned_pos": (True,),
    "no_scale_embedding": (True,),
    "layernorm_embedding": (True,),
    "no_token_positional_embeddings": (False,),
}
"""Options of the embeddings, with the values that are read."""
V2 = Published(None, ("instance",), (), (0.9999, 0.99999, 100_000), scale=1.0, decoder_residual=False)
V1 = Published(10, ("layer",), (), (0.999, 0.9999, 300_000), beta=4.0, scale=1.0)


# ------------------------------------------------------------------------------------------ data2vec 2.0


def convert_v2(reference: Reference) -> Converted | None:
    """A data2vec 2.0 text checkpoint in our names, or None if it is something else. Its teacher is the blocks alone."""
    if "modality_encoders.TEXT.local_encoder.embed_tokens.weight" not in reference.model:
        return None
    student = v2_part(reference.model, "TEXT")
    state = {v2_name(name): value for name, value in student.items()}
    recipe = parse(TextTrainConfig, _v2_recipe(state, reference.config))
    blocks = {f"blocks.{name}": value for name, value in reference.ema.items()}
    blocks = blocks or {name: value for name, value in student.items() if name.startswith("blocks.")}
    state |= {f"teacher.encoder.{name}": value for name, value in blocks.items()}
    return Converted("text", recipe, state, tuple(sorted(reference.model.keys() - student.keys())))


def v2_name(name: str) -> str:
    """Our name of a parameter of the reference's model."""
    return v2_decoder_name(name, "TEXT") or "student." + rename(name, V2_RENAMES)


def _v2_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """A train recipe: sizes from the tensors, the rest from the stored configuration or the published defaults."""
    text = (config.get("modalities") or {}).get("text") or {}
    check_v2(state, config, text, **EMBEDDINGS, prenet_depth=(0,), num_extra_tokens=(0,), use_alibi_encoder=(False,))
    sizes = _sizes(state, "student.stem.local.placing.positions.weight")
    objective = v2_objective(state, config, text, V2)
    return {
        "encoder": {
            **sizes,
            "heads": config.get("num_heads") or sizes["width"] // 64,
            "pre_norm": is_pre_norm(state),
            "norm_eps": config.get("norm_eps", 1e-5),
            "dropout": config.get("encoder_dropout", 0.1),
            "embedding_dropout": text.get("dropout", 0.1),
            "attention_dropout": config.get("attention_dropout", 0.1),
            "layer_drop": config.get("layerdrop", 0.0),
        },
        "mask": {"kind": "random", "ratio": text.get("mask_prob", 0.48)},
        "objective": objective | {"ema": objective["ema"] | {"shared_local": True}},
        **NOT_STORED,
    }


def _sizes(state: Mapping[str, Tensor], positions: str) -> dict[str, Any]:
    """An encoder's settings from its tensors; `positions` is the name of its table."""
    return {
        **trunk_sizes(state),
        "vocab_size": state["student.stem.local.words.weight"].shape[0],
        "max_tokens": state[positions].shape[0] - RESERVED_POSITIONS,
    }


# ------------------------------------------------------------------------------------------ data2vec 1.0


def convert_v1(reference: Reference) -> Converted | None:
    """A data2vec 1.0 text checkpoint in our names, or None if it is something else.

    The reference feeds `<mask>` in place of masked tokens: its row of the token table is the objective's mask
    token, the last one if the file holds no dictionary. The teacher is shown the whole sequence (the objective's
    `teacher_view`).
    """
    if "encoder.sentence_encoder.embed_tokens.weight" not in reference.model:
        return None
    model = {name: value for name, value in reference.model.items() if not name.endswith("version")}
    state = fuse_attention({v1_name(name): value for name, value in model.items()})
    recipe = parse(TextTrainConfig, v1_recipe(state, reference.config))
    averaged = {n: v for n, v in reference.ema.items() if not n.endswith("version")}
    own = fuse_attention({v1_name(f"encoder.sentence_encoder.{name}"): value for name, value in averaged.items()})
    teacher = own or {name: value for name, value in state.items() if name.startswith("student.")}
    state |= {name.replace("student.", "teacher.encoder.", 1): value for name, value in teacher.items()}
    mask = reference.symbols.index(MASK) if MASK in reference.symbols else -1
    state["mask_token"] = state["student.stem.local.words.weight"][mask].view(1, 1, -1).clone()
    return Converted("text", recipe, state, tuple(sorted(reference.model.keys() - model.keys())))


def v1_name(name: str) -> str:
    """Our name of a parameter of the reference's model, with q, k and v apart."""
    if name.startswith("encoder.regression_head."):
        return name.replace("encoder.regression_head.", "head.")
    return "student." + rename(name, V1_RENAMES)


def v1_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """A train recipe: sizes from the student's tensors, the rest from the stored configuration or the published one."""
    transformer = config.get("transformer") or {}
    encoder = transformer.get("encoder") or {}
    refuse_options(transformer, EMBEDDINGS | {"activation_fn": ("gelu",)})
    refuse_options(encoder, {"learned_pos": (True,)})
    check_norm_first("normalize_before", encoder, state)
    sizes = _sizes(state, "student.stem.placing.positions.weight")
    dropout = transformer.get("dropout", 0.1)
    return {
        "encoder": {
            **sizes,
            "layout": "data2vec1",
            "pre_norm": is_pre_norm(state),
            "heads": encoder.get("attention_heads") or sizes["width"] // 64,
            "dropout": dropout,
            "embedding_dropout": dropout,
            "attention_dropout": transformer.get("attention_dropout", 0.1),
            "layer_drop": encoder.get("layerdrop", 0.0),
        },
        "mask": {"kind": "span"},
        "objective": {
            "name": "data2vec1",
            "head": "mlp",
            "targets": targets(config, V1, sizes["depth"]),
            "ema": ema(config, V1) | {"copied": ["stem."]},
            "loss": loss(config, V1),
        },
        **NOT_STORED,
    }
