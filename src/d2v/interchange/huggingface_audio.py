"""transformers' Data2VecAudio: names, what is read and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from d2v.errors import ConfigError
from d2v.interchange import fairseq_speech
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

STEM_EPS = 1e-5
"""Of the norms whose epsilon is fixed there and here."""
SEES_PADDING = "d2v_sees_padding"
"""Added to config.json's settings: whether the folder's feature extractor tells the model nothing about padding."""
NAMES: Pairs = (
    ("stem.local.layers.{}.conv.", "feature_extractor.conv_layers.{}.conv."),
    ("stem.local.layers.{}.norm.", "feature_extractor.conv_layers.{}.layer_norm."),
    ("stem.local.norm.", "feature_projection.layer_norm."),
    ("stem.local.projection.", "feature_projection.projection."),
    ("stem.positions.convs.{}.", "encoder.pos_conv_embed.layers.{}.conv."),
    ("context_norm.", "encoder.layer_norm."),
    *layers(
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


def read(theirs: dict[str, Tensor], config: Mapping[str, Any]) -> Read:
    """A Data2VecAudio as our encoder. Raises CheckpointError for parts that have no counterpart here."""
    refuse_other(
        config,
        {
            "conv_bias": (False,),
            "feat_extract_activation": ("gelu",),
            "hidden_act": ("gelu",),
            "add_adapter": (False,),
            "layer_norm_eps": (1e-5,),
        },
    )
    state = our_names(theirs, NAMES)
    convs = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    settings = {
        "conv_feature_layers": " + ".join(f"[({width}, {kernel}, {stride})]" for width, kernel, stride in convs),
        "encoder_attention_heads": config["num_attention_heads"],
        "dropout": config.get("hidden_dropout", 0.1),
        "attention_dropout": config.get("attention_dropout", 0.1),
        "encoder_layerdrop": config.get("layerdrop", 0.0),
    }
    # What transformers does with padding; where its extractor gives no mask, a lone recording's features are meant.
    padding = {"padding": config.get("d2v_padding", "invariant" if config.get(SEES_PADDING) else "reference")}
    return state, recipe_of(fairseq_speech.v1_recipe, state, settings, padding), ()


def write(settings: Mapping[str, Any], state: dict[str, Tensor], head: Mapping[str, Tensor]) -> Written:
    """Our encoder as a Data2VecAudio. Raises ConfigError for an epsilon that the class cannot hold."""
    if settings["norm_eps"] != STEM_EPS:
        raise ConfigError(
            f"encoder.norm_eps is {settings['norm_eps']:g}, and Data2VecAudio has one epsilon for all norms, of which "
            f"those before the transformer are {STEM_EPS:g} here: export to onnx, or train with norm_eps {STEM_EPS:g}"
        )
    channels, kernels, strides = zip(*settings["convs"], strict=True)
    weights = their_names(state, NAMES)
    mask = head.get("masked_spec_embed", head.get("mask_token"))
    if mask is not None:
        weights["masked_spec_embed"] = mask.flatten().clone()
    config = {
        **sizes(settings),
        "conv_dim": channels,
        "conv_kernel": kernels,
        "conv_stride": strides,
        "conv_bias": False,
        "feat_extract_activation": "gelu",
        "num_conv_pos_embeddings": settings["position_layers"],
        "conv_pos_kernel_size": settings["position_kernel"],
        "num_conv_pos_embedding_groups": settings["position_groups"],
        "hidden_dropout": settings["dropout"],
        "attention_dropout": settings["attention_dropout"],
        "activation_dropout": 0.0,
        "layerdrop": settings["layer_drop"],
        "mask_time_prob": 0.0 if mask is None else 0.05,  # without a mask vector transformers would draw one
        "d2v_padding": settings["padding"],
    }
    if settings["padding"] == "reference":
        return config, weights, ()
    note = (
        "Data2VecAudio's position convolutions see the values at padded positions, as the reference's do: in a padded "
        "batch the features of shorter recordings are not d2v's; give recordings one by one, or train with "
        "encoder.padding=reference"
    )
    return config, weights, (note,)


AUDIO = Architecture("data2vec-audio", "Data2VecAudio", "speech", NAMES, read, write)
