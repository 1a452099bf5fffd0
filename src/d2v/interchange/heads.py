"""Heads of fairseq's, the BEiT repository's and transformers' fine-tuned models as ours.

| theirs | ours |
|---|---|
| CTC: a linear layer | transcription; outputs in the order of our vocabularies |
| images: mean of patches or CLS token, a norm, a linear layer | classification |
| texts: first token, a layer with tanh, a linear layer | classification, or regression if there is one output |
| AudioSet: a linear layer, linear softmax over frames | multilabel |
| sounds of data2vec 2.0 (emotion2vec): mean over frames, a linear layer | classification |
| transformers' audio: a linear layer, mean over frames, a linear layer | classification; both layers are one |

A head with one output is a regression. A head without a counterpart stays as it is, and a note says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from d2v.config import HeadConfig, MultilabelTask
from d2v.errors import DataError
from d2v.finetuning.ctc_vocabulary import BLANK, SPECIALS, CtcVocabulary
from d2v.interchange.ctc_tokenizer import CtcTokenizer
from d2v.interchange.huggingface_audio import AUDIO
from d2v.interchange.huggingface_text import TEXT
from d2v.interchange.imported import HEAD, FinetunedHead, Imported
from d2v.interchange.labels import LIBRISPEECH, in_our_order, symbols_of

Made = tuple[FinetunedHead, tuple[str, ...]]
"""(the head, what a user should know of it)."""
GLUE_RANGE, AS_IT_IS = (0.0, 5.0), (0.0, 1.0)
"""Of what one output predicts: the reference divides GLUE's scores by 5."""


REFERENCE_CTC = "w2v_encoder.proj.weight"
"""The weight of a CTC head of the reference."""


class NoCounterpart(Exception):
    """A head that ours cannot express; the message says what it has."""


@dataclass(frozen=True)
class Names:
    """Names of a head's outputs.

    Attributes:
        given: by the user, or in a file of the source; None if there are none.
        boundary: the symbol between words.
        tokenizer: of a CTC model of transformers, where none are given by the user.
    """

    given: Sequence[str] | None = None
    boundary: str = "|"
    tokenizer: CtcTokenizer | None = None


def make_head(imported: Imported, names: Names) -> tuple[FinetunedHead | None, tuple[str, ...]]:
    """The head of an imported model in our names.

    Args:
        imported: with the head under the source's names.
        names: of its outputs.

    Returns:
        (the head, or None if there is none or it has no counterpart here, notes).

    Raises:
        DataError: there are not as many names as outputs.
    """
    if imported.settings is None:
        return None, ()
    try:
        for make in _TRANSFORMERS if "model_type" in imported.settings else _REFERENCE:
            made = make(imported, imported.settings, names)
            if made is not None:
                return made
    except NoCounterpart as reason:
        return None, (f"{HEAD} holds the head as it is, for {reason}",)
    return None, ()


def has_ctc(imported: Imported) -> bool:
    """Whether an imported model writes letters."""
    return REFERENCE_CTC in imported.head or _kind(imported.settings or {}) == "CTC"


# ----------------------------------------------------------------------------------------- the reference


def _reference_ctc(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    if REFERENCE_CTC not in imported.head:
        return None
    layer, used = _layer(imported.head, "w2v_encoder.proj")
    weight, bias = layer["weight"].clone(), layer["bias"].clone()
    blank_weight = settings.get("blank_weight") or 0.0
    if blank_weight:  # added to the blank's logit, or put in its place
        is_set = settings.get("blank_mode", "add") == "set"
        weight[BLANK] = weight[BLANK] * (not is_set)
        bias[BLANK] = bias[BLANK] * (not is_set) + blank_weight
    dropout = float(settings.get("final_dropout") or 0.0)
    symbols = names.given or ()
    blank = symbols.index(SPECIALS[BLANK]) if SPECIALS[BLANK] in symbols else BLANK
    return _transcription({"weight": weight, "bias": bias}, used, names, blank, dropout)


def _reference_images(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    if "head.weight" not in imported.head:
        return None
    mode = str(settings.get("prediction_mode") or "MEAN_POOLING").rpartition(".")[2]
    if mode == "LIN_SOFTMAX":
        raise NoCounterpart("it pools images by linear softmax, and here they are pooled by their mean or CLS token")
    normed = "fc_norm.weight" in imported.head
    is_beit = imported.recipe.encoder.layout == "beit"  # type: ignore[attr-defined]
    first = mode == "CLS_TOKEN" or (is_beit and not normed)
    head = HeadConfig(pool="first" if first else "mean", norm=normed)
    state, used = _renamed(imported.head, {"head": "classify"} | ({"fc_norm": "norm"} if normed else {}))
    return _pooled(head, state, used, imported, names, AS_IT_IS)


def _reference_texts(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    heads = {found[1] for name in imported.head if (found := re.match(r"classification_heads\.([^.]+)\.", name))}
    if not heads:
        return None
    if len(heads) > 1:
        raise NoCounterpart(f"it has several heads ({', '.join(sorted(heads))}), and a model here has one")
    activation = settings.get("pooler_activation_fn") or "tanh"
    return _roberta(imported, f"classification_heads.{heads.pop()}", activation, names, GLUE_RANGE)


def _reference_sounds(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    if not any(name.startswith("proj") for name in imported.head):
        return None
    if imported.recipe.encoder.layout == "data2vec2":  # type: ignore[attr-defined]
        state, used = _renamed(imported.head, {"proj": "classify"})
        return _pooled(HeadConfig(pool="mean", norm=False), state, used, imported, names, AS_IT_IS)
    mode = settings.get("eval_prediction_mode") or settings.get("prediction_mode") or "lin_softmax"
    if mode != "lin_softmax" or "proj.weight" not in imported.head:
        raise NoCounterpart(
            f"it pools frames by {mode}, and here several classes are pooled by lin_softmax after a linear layer"
        )
    state, used = _renamed(imported.head, {"proj": "classify"})
    task = MultilabelTask(name="multilabel", dropout=float(settings.get("final_dropout") or 0.0))
    class_names, notes = _class_names(names.given, imported, len(state["classify.weight"]))
    return FinetunedHead(task.model_dump(mode="json"), {"class_names": class_names}, state, used), notes


# ------------------------------------------------------------------------------------------ transformers


def _kind(settings: Mapping[str, Any]) -> str:
    """Such as `ForCTC`."""
    architecture = (settings.get("architectures") or [""])[0]
    return str(architecture).partition("For")[2]


def _their_ctc(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    if _kind(settings) != "CTC":
        return None
    layer, used = _layer(imported.head, "lm_head")
    trained = settings.get("pad_token_id")
    blank = BLANK if trained is None else int(trained)
    decoded = names.tokenizer.pad_id if names.tokenizer else blank
    if decoded != blank:
        raise NoCounterpart(
            f"its blank is output {blank} by config.json's pad_token_id and {decoded} by its tokenizer's pad_token: "
            "set both to one"
        )
    dropout = float(settings.get("final_dropout") or 0.0)
    return _transcription(layer, used, names, blank, dropout)


def _their_texts(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    if settings["model_type"] != TEXT.kind or _kind(settings) != "SequenceClassification":
        return None
    return _roberta(imported, "classifier", "tanh", names, AS_IT_IS)


def _their_images(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    if _kind(settings) != "ImageClassification":
        return None
    normed = bool(settings.get("use_mean_pooling", True))
    eps = float(settings.get("layer_norm_eps", 1e-12))
    head = HeadConfig(pool="mean", norm_eps=eps) if normed else HeadConfig(pool="first", norm=False)
    parts = {"classifier": "classify"} | ({"pooler.layernorm": "norm"} if normed else {})
    return _pooled(head, *_renamed(imported.head, parts), imported, names, AS_IT_IS)


def _their_sounds(imported: Imported, settings: Mapping[str, Any], names: Names) -> Made | None:
    if settings["model_type"] != AUDIO.kind or _kind(settings) != "SequenceClassification":
        return None
    if settings.get("use_weighted_layer_sum"):
        raise NoCounterpart("it takes a weighted sum of all layers, and a head here takes the last")
    inner, used = _layer(imported.head, "projector")
    outer, more = _layer(imported.head, "classifier")
    state = {
        "classify.weight": outer["weight"] @ inner["weight"],
        "classify.bias": outer["weight"] @ inner["bias"] + outer["bias"],
    }
    return _pooled(HeadConfig(norm=False), state, used | more, imported, names, AS_IT_IS)


_Make = Callable[[Imported, Mapping[str, Any], Names], Made | None]
_REFERENCE: tuple[_Make, ...] = (_reference_ctc, _reference_texts, _reference_images, _reference_sounds)
_TRANSFORMERS: tuple[_Make, ...] = (_their_ctc, _their_texts, _their_images, _their_sounds)


# ------------------------------------------------------------------------------------------ what is made


def _transcription(layer: Mapping[str, Tensor], used: frozenset[str], names: Names, blank: int, dropout: float) -> Made:
    outputs = len(layer["weight"])
    notes: tuple[str, ...] = ()
    tokenizer = names.tokenizer
    if tokenizer is not None:
        symbols = tokenizer.symbols(outputs)
    else:
        symbols = list(LIBRISPEECH) if names.given is None else symbols_of(names.given, outputs)
    if len(symbols) != outputs:
        raise NoCounterpart(
            f"the letters of its {outputs} outputs are not told: give --labels dict.ltr.txt or vocab.json"
        )
    if names.given is None and tokenizer is None:
        notes = ("the source does not say what its outputs mean: they are taken for the letters of LibriSpeech",)
    letters, state = in_our_order(symbols, layer, blank, names.boundary, tokenizer.special if tokenizer else None)
    if tokenizer is not None and tokenizer.lower_case:
        letters = tuple(letter.lower() for letter in letters)
    try:
        CtcVocabulary(letters)
    except DataError as error:
        raise NoCounterpart(f"it writes symbols that are not single letters ({error})") from error
    task = {"name": "transcription", "vocabulary": "data", "dropout": dropout}
    return FinetunedHead(
        task, {"letters": list(letters)}, {f"classify.{key}": value for key, value in state.items()}, used
    ), notes


def _roberta(imported: Imported, at: str, activation: str, names: Names, scale: tuple[float, float]) -> Made:
    state, used = _renamed(imported.head, {f"{at}.dense": "hidden", f"{at}.out_proj": "classify"})
    if activation != "tanh" or len(set(state["hidden.weight"].shape)) > 1:
        size = tuple(state["hidden.weight"].shape)
        raise NoCounterpart(
            f"its hidden layer is of {size} with {activation}, and here it has the encoder's width and tanh"
        )
    return _pooled(HeadConfig(pool="first", norm=False, hidden=True), state, used, imported, names, scale)


def _pooled(
    head: HeadConfig,
    state: dict[str, Tensor],
    used: frozenset[str],
    imported: Imported,
    names: Names,
    scale: tuple[float, float],
) -> Made:
    """A class an item, or a number if there is one output."""
    if (imported.settings or {}).get("problem_type") == "multi_label_classification":
        raise NoCounterpart("it gives an item several classes at once, which here is a head of every token")
    outputs = len(state["classify.weight"])
    shape = head.model_dump(mode="json")
    if outputs == 1:
        return FinetunedHead({"name": "regression", "head": shape, "range": scale}, {}, state, used), ()
    class_names, notes = _class_names(names.given, imported, outputs)
    return FinetunedHead({"name": "classification", "head": shape}, {"class_names": class_names}, state, used), notes


def _class_names(given: Sequence[str] | None, imported: Imported, outputs: int) -> tuple[list[str], tuple[str, ...]]:
    if given is not None:
        if len(given) != outputs:
            raise DataError(
                f"There are {len(given)} names for {outputs} classes: give the file of this model's classes"
            )
        return list(given), ()
    named = imported.about.get("class_names") or []
    if len(named) == outputs:
        return list(named), ()
    return [str(number) for number in range(outputs)], ("the classes are numbers: name them with --labels",)


def _layer(head: Mapping[str, Tensor], at: str) -> tuple[dict[str, Tensor], frozenset[str]]:
    """Weight and bias, which may be missing, of a linear layer, and their names."""
    if f"{at}.weight" not in head:
        raise NoCounterpart(f"it has no {at}.weight")
    weight = head[f"{at}.weight"]
    bias = head.get(f"{at}.bias", torch.zeros_like(weight[..., 0]))
    return {"weight": weight, "bias": bias}, frozenset({f"{at}.weight", f"{at}.bias"} & head.keys())


def _renamed(head: Mapping[str, Tensor], parts: Mapping[str, str]) -> tuple[dict[str, Tensor], frozenset[str]]:
    """Layers under our names, and the names they had."""
    state: dict[str, Tensor] = {}
    used: frozenset[str] = frozenset()
    for theirs, ours in parts.items():
        layer, names = _layer(head, theirs)
        state |= {f"{ours}.{key}": value for key, value in layer.items()}
        used |= names
    return state, used
