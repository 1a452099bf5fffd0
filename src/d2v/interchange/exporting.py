"""A model folder for other programs, with its head if it is a fine-tuned model.

Shape legend: B items, T tokens, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from d2v.config import HeadConfig
from d2v.errors import ConfigError
from d2v.finetuning.ctc_vocabulary import BLANK, END, PAD, UNKNOWN
from d2v.finetuning.model import HEAD, FinetunedModel, load_finetuned
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel, pooled_logits
from d2v.finetuning.tasks.regression import Regression
from d2v.finetuning.tasks.transcription import Transcription
from d2v.interchange.encoder_export import Graph, HeadParts, export, is_beit
from d2v.interchange.huggingface_audio import AUDIO
from d2v.interchange.huggingface_export import ELSEWHERE, Head, architecture_of
from d2v.interchange.huggingface_text import TEXT
from d2v.interchange.huggingface_vision import VISION
from d2v.interchange.imported import plain
from d2v.model_folder import read_config


def export_model(folder: Path, target: Path, form: str, teacher: bool = False) -> tuple[str, ...]:
    """Write a model folder for another program.

    Args:
        folder: a model folder: an encoder, or a fine-tuned model.
        target: a folder that is new or empty.
        form: one of `d2v.interchange.encoder_export.NAMES`.
        teacher: of an encoder: export the teacher's, not the student's.

    Returns:
        Notes for the user, a sentence each.

    Raises:
        ConfigError: an unknown format, one that cannot hold this model or needs packages that are not installed, or a
            target that is not empty.
    """
    if "finetune" not in read_config(folder):
        return export(folder, target, form, teacher)
    if teacher:
        raise ConfigError(f"{folder} is a fine-tuned model and has no teacher: leave --teacher out")
    model = load_finetuned(folder)
    parts = HeadParts(
        finetuned_graph(model),
        _for_timm(model) if form == "timm" else {},
        for_transformers(model) if form == "hf" else None,
    )
    notes = export(folder, target, form, head=parts)
    if form == "safetensors":
        save_file(plain(model.head.state_dict()), target / HEAD)
    if form == "hf" and parts.transformers is None:
        notes += (f"the head is left out, as the code that goes with the export has none: {ELSEWHERE} for it",)
    return notes


# ----------------------------------------------------------------------------------------------- graphs

Finish = Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]
"""(outputs of a head, token lengths or None) -> what a graph returns."""


class _Finetuned(nn.Module):
    """Encoder, head, and what makes their outputs readable."""

    def __init__(self, model: FinetunedModel, finish: Finish) -> None:
        super().__init__()
        self.encoder, self.head, self.finish = model.encoder, model.head, finish

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        token_lengths = self.encoder.token_lengths(lengths)
        encoded = self.encoder.encode(self.encoder.stem(inputs), token_lengths)
        return self.finish(self.head(encoded, token_lengths), token_lengths)


def finetuned_graph(model: FinetunedModel) -> Graph:
    """The graph of a fine-tuned model: logits of classes, a number, or log probabilities of symbols."""
    finish, outputs = _readable(model.task)
    return Graph(_Finetuned(model, finish).eval(), outputs)


def _readable(task: Task) -> tuple[Finish, dict[str, str]]:
    if isinstance(task, Classification):
        return lambda outputs, lengths: (outputs,), {"logits": "(items, classes), softmax gives probabilities"}
    if isinstance(task, Multilabel):
        about = {"logits": "(items, classes), the sigmoid of each gives its probability"}
        return lambda outputs, lengths: (pooled_logits(outputs, lengths),), about
    if isinstance(task, Regression):
        lowest, highest = task.config.range
        return lambda outputs, lengths: (outputs[:, 0] * (highest - lowest) + lowest,), {"numbers": "(items,)"}
    assert isinstance(task, Transcription)
    return _letters, {
        "log_probs": "(items, tokens, symbols), natural logarithms; symbol 0 is CTC's blank, then <pad>, </s>, <unk>, "
        "| between words, and the letters of config.json",
        "token_lengths": "(items,) int64, tokens that are not padding",
    }


def _letters(outputs_BTC: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
    if lengths is None:
        lengths = torch.full((outputs_BTC.shape[0],), outputs_BTC.shape[1])
    return outputs_BTC.log_softmax(dim=-1), lengths


# ------------------------------------------------------------------------------------------ transformers


def for_transformers(model: FinetunedModel) -> Head | None:
    """The head as transformers has it; None for data2vec 2.0, of which transformers has no class.

    Raises:
        ConfigError: transformers' class has another head; the message names in what.
    """
    encoder = model.about["recipe"]["encoder"]
    if encoder["layout"] == "data2vec2":
        return None
    if isinstance(model.task, Transcription):
        return _ctc(model, model.task)
    if isinstance(model.task, Multilabel):
        raise ConfigError(f"transformers has no head that pools several classes over frames: {ELSEWHERE}")
    return _CLASSIFIERS[architecture_of(model.about).kind](model, encoder)


def _ctc(model: FinetunedModel, task: Transcription) -> Head:
    """transformers' blank is its padding, so the first two symbols have each other's names there."""
    swapped = {"<s>": "<pad>", "<pad>": "<s>"}
    symbols = [swapped.get(name, name) for name in task.vocabulary.symbols]
    ids = {"pad_token_id": BLANK, "bos_token_id": PAD, "eos_token_id": END}
    tokenizer = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "processor_class": "Wav2Vec2Processor",
        "pad_token": symbols[BLANK],
        "bos_token": symbols[PAD],
        "eos_token": symbols[END],
        "unk_token": symbols[UNKNOWN],
        "word_delimiter_token": "|",
        "do_lower_case": False,
    }
    files = {"vocab.json": {name: number for number, name in enumerate(symbols)}, "tokenizer_config.json": tokenizer}
    config = {"vocab_size": len(symbols), **ids, "final_dropout": task.config.dropout}
    return Head("ForCTC", _named(model, {"classify": "lm_head"}), config, files)


def _texts(model: FinetunedModel, encoder: Mapping[str, Any]) -> Head:
    _check(model, pool="first", norm=False, hidden=True)
    weights = _named(model, {"hidden": "classifier.dense", "classify": "classifier.out_proj"})
    config = {"classifier_dropout": _shape(model).dropout, **_classes(model)}
    return Head("ForSequenceClassification", _on_scale(model, weights, "classifier.out_proj"), config)


def _sounds(model: FinetunedModel, encoder: Mapping[str, Any]) -> Head:
    _check(model, pool="mean", norm=False, hidden=False)
    width = encoder["width"]
    weights = _on_scale(model, _named(model, {"classify": "classifier"}), "classifier")
    weights |= {"projector.weight": torch.eye(width), "projector.bias": torch.zeros(width)}
    return Head("ForSequenceClassification", weights, {"classifier_proj_size": width, **_classes(model)})


def _images(model: FinetunedModel, encoder: Mapping[str, Any]) -> Head:
    of_tokens = encoder["final_norm"]
    _check_images(model, encoder)
    parts = {"classify": "classifier"} | ({} if of_tokens else {"norm": "pooler.layernorm"})
    weights = _on_scale(model, _named(model, parts), "classifier")
    return Head("ForImageClassification", weights, {"use_mean_pooling": not of_tokens, **_classes(model)})


_CLASSIFIERS: dict[str, Callable[[FinetunedModel, Mapping[str, Any]], Head]] = {
    TEXT.kind: _texts,
    AUDIO.kind: _sounds,
    VISION.kind: _images,
}
"""By the architecture of transformers that has the encoder."""


def _shape(model: FinetunedModel) -> HeadConfig:
    assert isinstance(model.task, Classification | Regression)
    return model.task.config.head


def _check(model: FinetunedModel, **wanted: Any) -> None:
    """Refuse a head of another shape than the class of transformers has."""
    head = _shape(model)
    other = [f"head.{key}={getattr(head, key)}" for key, value in wanted.items() if getattr(head, key) != value]
    if other:
        theirs = ", ".join(f"head.{key}={value}" for key, value in wanted.items())
        raise ConfigError(
            f"transformers' class for this encoder has a head with {theirs}, and this model {', '.join(other)}: "
            f"{ELSEWHERE}, or fine-tune with such a head"
        )


def _check_images(model: FinetunedModel, encoder: Mapping[str, Any]) -> None:
    """Both classes norm the tokens and take the first, or norm the mean of tokens that are not normed."""
    of_tokens = encoder["final_norm"]
    _check(model, pool="first" if of_tokens else "mean", norm=not of_tokens, hidden=False)
    if not of_tokens and _shape(model).norm_eps != encoder["norm_eps"]:
        raise ConfigError(
            f"there all norms have one epsilon, and here the head's is {_shape(model).norm_eps:g} and the encoder's "
            f"{encoder['norm_eps']:g}: {ELSEWHERE}, or fine-tune with head.norm_eps={encoder['norm_eps']:g}"
        )


def _named(model: FinetunedModel, parts: Mapping[str, str]) -> dict[str, Tensor]:
    state = model.head.state_dict()
    return {f"{new}.{key}": state[f"{ours}.{key}"] for ours, new in parts.items() for key in ("weight", "bias")}


def _on_scale(model: FinetunedModel, weights: dict[str, Tensor], last: str) -> dict[str, Tensor]:
    """A regression's last layer with the scale of its numbers in it."""
    if not isinstance(model.task, Regression):
        return weights
    lowest, highest = model.task.config.range
    weight, bias = (weights[f"{last}.{key}"] * (highest - lowest) for key in ("weight", "bias"))
    return weights | {f"{last}.weight": weight, f"{last}.bias": bias + lowest}


def _classes(model: FinetunedModel) -> dict[str, Any]:
    if isinstance(model.task, Regression):
        return {"problem_type": "regression", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    assert isinstance(model.task, Classification)
    names = model.task.class_names
    ids = {name: number for number, name in enumerate(names)}
    return {
        "problem_type": "single_label_classification",
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": ids,
    }


# ------------------------------------------------------------------------------------------------- timm


def _for_timm(model: FinetunedModel) -> dict[str, Tensor]:
    """timm's Beit has a norm of the mean, or takes the CLS token, and a linear layer."""
    encoder = model.about["recipe"]["encoder"]
    if not is_beit(encoder):
        return {}
    of_tokens = encoder["final_norm"]
    if not isinstance(model.task, Classification | Regression):
        return {}
    _check_images(model, encoder)
    parts = {"classify": "head"} | ({} if of_tokens else {"norm": "fc_norm"})
    return _on_scale(model, _named(model, parts), "head")
