"""Encoders as folders that transformers loads.

data2vec 1.0 becomes Data2VecAudio, Data2VecText or Data2VecVision. transformers has no data2vec 2.0 (its issues 23069
and 30805), so such a folder carries its own modelling code, which `trust_remote_code=True` runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from d2v.errors import ConfigError
from d2v.interchange.huggingface import OWN_TYPES
from d2v.interchange.huggingface_names import NAMES, renamed, split_attention
from d2v.interchange.imported import load_head, plain
from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.text.tokenizer import BOS, EOS, MASK, PAD, SPECIALS
from d2v.model_folder import load_encoder

TEMPLATES = ("configuration_d2v.py", "modeling_d2v.py")
STEM_EPS = 1e-5
"""Of the norms whose epsilon is fixed there and here."""
BICUBIC = 3
"""Pillow's number of it."""
_WEIGHTS = "model.safetensors"
NEW_POOLER = "transformers will say that the pooler is new: this encoder has none, use last_hidden_state"


@dataclass(frozen=True)
class Head:
    """A head as transformers has it.

    Attributes:
        kind: end of the class's name, such as `ForCTC`.
        weights: under transformers' names, without the base model's prefix; `pooler.` belongs to the base model.
        config: what config.json says of it.
        files: further JSON files.
    """

    kind: str
    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]
    files: Mapping[str, Any] = field(default_factory=dict)


def export_huggingface(
    folder: Path, target: Path, teacher: bool = False, finetuned: Head | None = None
) -> tuple[str, ...]:
    """Write a model folder's encoder for `transformers.AutoModel.from_pretrained`.

    Args:
        folder: a model folder.
        target: created if it is not there.
        teacher: export the teacher's encoder, not the student's.
        tuned: a fine-tuned model's head, for the class that has one.

    Returns:
        Notes for the user, a sentence each.

    Raises:
        ConfigError: transformers' class cannot hold this encoder; the message names why.
    """
    encoder, config = load_encoder(folder, teacher)
    modality, settings = config["modality"], config["recipe"]["encoder"]
    target.mkdir(parents=True, exist_ok=True)
    if settings["layout"] == "data2vec2":
        _write_own(target, config, plain(encoder.state_dict()))
        notes: tuple[str, ...] = ("load it with trust_remote_code=True: transformers has no data2vec 2.0 of its own",)
    else:
        model, notes = _EXPORTS[modality](settings, plain(encoder.state_dict()), load_head(folder))
        _save(target, model if finetuned is None else _with_head(model, finetuned))
        for name, content in (finetuned.files if finetuned else {}).items():
            _write_json(target / name, content)
        notes = notes if finetuned is None else tuple(note for note in notes if note != NEW_POOLER)
    return notes + _write_inputs(target, config)


def _write_own(target: Path, config: Mapping[str, Any], state: dict[str, Tensor]) -> None:
    modality, recipe = config["modality"], config["recipe"]
    name = f"D2v{modality.capitalize()}"
    save_file(state, target / _WEIGHTS, {"format": "pt"})
    for file in TEMPLATES:
        with resources.as_file(resources.files("d2v.interchange.templates") / file) as template:
            shutil.copyfile(template, target / file)
    _write_json(
        target / "config.json",
        {
            "model_type": next(kind for kind, ours in OWN_TYPES.items() if ours == modality),
            "architectures": [f"{name}Model"],
            "auto_map": {"AutoConfig": f"configuration_d2v.{name}Config", "AutoModel": f"modeling_d2v.{name}Model"},
            "encoder": recipe["encoder"],
            "d2v_recipe": recipe,  # transformers keeps it, and an import here takes it back
            "dtype": "float32",
        },
    )


# ------------------------------------------------------------------------------------------ data2vec 1.0


def _theirs(modality: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder under transformers' names."""
    apart = split_attention(state)
    names = {name: renamed(name, NAMES[modality], "theirs") for name in apart}
    missing = [name for name, new in names.items() if new is None]
    if missing:
        raise ConfigError(f"transformers has no place for {', '.join(missing)}: export to onnx or torch-export instead")
    return plain({str(names[name]): value for name, value in apart.items()})


@dataclass(frozen=True)
class _Model:
    """A class of transformers with what its folder holds."""

    kind: str
    name: str
    config: Mapping[str, Any]
    state: dict[str, Tensor]


def _with_head(model: _Model, head: Head) -> _Model:
    """The class that has the head: the base model's weights get a prefix there."""
    prefix = model.kind.replace("-", "_") + "."
    poolers = {name: value for name, value in head.weights.items() if name.startswith("pooler.")}
    base = {name: value for name, value in model.state.items() if not name.startswith("pooler.")} | poolers
    state = {prefix + name: value for name, value in base.items()}
    state |= {name: value for name, value in head.weights.items() if name not in poolers}
    name = model.name.removesuffix("Model") + head.kind
    return _Model(model.kind, name, {**model.config, **head.config}, plain(state))


def _save(target: Path, model: _Model) -> None:
    save_file(model.state, target / _WEIGHTS, {"format": "pt"})
    about = {"model_type": model.kind, "architectures": [model.name], "dtype": "float32"}
    _write_json(target / "config.json", about | dict(model.config))


def _sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": int(settings["width"] * settings["mlp_ratio"]),
        "layer_norm_eps": settings["norm_eps"],
        "hidden_act": "gelu",
    }


def _speech(
    settings: Mapping[str, Any], state: dict[str, Tensor], head: Mapping[str, Tensor]
) -> tuple[_Model, tuple[str, ...]]:
    if settings["norm_eps"] != STEM_EPS:
        raise ConfigError(
            f"encoder.norm_eps is {settings['norm_eps']:g}, and Data2VecAudio has one epsilon for all norms, of which "
            f"those before the transformer are {STEM_EPS:g} here: export to onnx, or train with norm_eps {STEM_EPS:g}"
        )
    channels, kernels, strides = zip(*settings["convs"], strict=True)
    weights = _theirs("speech", state)
    mask = head.get("masked_spec_embed", head.get("mask_token"))
    if mask is not None:
        weights["masked_spec_embed"] = mask.flatten().clone()
    config = {
        **_sizes(settings),
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
    model = _Model("data2vec-audio", "Data2VecAudioModel", config, weights)
    if settings["padding"] == "reference":
        return model, ()
    return model, (
        "Data2VecAudio's position convolutions see what became of padding, as the reference's do: in a padded batch "
        "the features of shorter recordings are not d2v's; give recordings one by one, or train with "
        "encoder.padding=reference",
    )


def _text(
    settings: Mapping[str, Any], state: dict[str, Tensor], head: Mapping[str, Tensor]
) -> tuple[_Model, tuple[str, ...]]:
    weights = _theirs("text", state)
    weights["embeddings.token_type_embeddings.weight"] = weights["embeddings.LayerNorm.weight"].new_zeros(
        1, settings["width"]
    )
    pooler = {name: value for name, value in head.items() if name.startswith("pooler.")}
    config = {
        **_sizes(settings),
        "vocab_size": settings["vocab_size"],
        "max_position_embeddings": settings["max_tokens"] + PAD + 1,
        "type_vocab_size": 1,
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["attention_dropout"],
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    return _Model("data2vec-text", "Data2VecTextModel", config, weights | pooler), () if pooler else (NEW_POOLER,)


def _vision(
    settings: Mapping[str, Any], state: dict[str, Tensor], head: Mapping[str, Tensor]
) -> tuple[_Model, tuple[str, ...]]:
    weights = _theirs("vision", state)
    mask = head.get("embeddings.mask_token", head.get("mask_token"))
    if mask is not None:
        weights["embeddings.mask_token"] = mask
    shared = "stem.relative_bias" in state
    config = {
        **_sizes(settings),
        "image_size": settings["image_px"],
        "patch_size": settings["patch_px"],
        "num_channels": 3,
        "use_mask_token": mask is not None,
        "use_absolute_position_embeddings": False,
        "use_relative_position_bias": not shared,
        "use_shared_relative_position_bias": shared,
        "layer_scale_init_value": settings["layer_scale_init"] or 0.0,
        "use_mean_pooling": "final_norm.weight"
        not in state,  # a norm of the mean takes the place of that of the tokens
        "drop_path_rate": settings["drop_path"],
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["attention_dropout"],
    }
    return _Model("data2vec-vision", "Data2VecVisionModel", config, weights), ()


_EXPORTS = {"speech": _speech, "text": _text, "vision": _vision}


# ------------------------------------------------------------------------------------------------ inputs


def _write_inputs(target: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Write how raw items become inputs: feature extractor, image processor or tokenizer."""
    modality, settings = config["modality"], config["recipe"]["encoder"]
    if modality == "text":
        if "tokenizer" not in config:
            return ("the model folder has no tokenizer: feed token ids laid out as RoBERTa's",)
        _write_tokenizer(target, config["tokenizer"], settings["max_tokens"])
        return ()
    processor = _audio_processor() if modality == "speech" else _image_processor(config, settings["image_px"])
    _write_json(target / "preprocessor_config.json", processor)
    return ()


def _audio_processor() -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": RATE_HZ,
        "do_normalize": True,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }


def _image_processor(config: Mapping[str, Any], side: int) -> dict[str, Any]:
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": config["mean"],
        "image_std": config["std"],
    }


def _write_tokenizer(target: Path, text: str, max_tokens: int) -> None:
    """The tokenizer with what d2v adds around its ids: `<s> A </s>`, pairs `<s> A </s> </s> B </s>`."""
    tokenizer = Tokenizer.from_str(text)
    begin, pad, end, unknown = SPECIALS
    tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, BOS), (end, EOS)],
    )
    tokenizer.save(str(target / "tokenizer.json"))
    _write_json(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_tokens,
            "padding_side": "right",
            "bos_token": begin,
            "cls_token": begin,
            "eos_token": end,
            "sep_token": end,
            "pad_token": pad,
            "unk_token": unknown,
            "mask_token": MASK,
        },
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
