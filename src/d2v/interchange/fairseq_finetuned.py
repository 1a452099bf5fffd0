"""Fine-tuned models of the reference: the prefixes of their encoders and heads.

| model | encoder | head |
|---|---|---|
| CTC, data2vec 1.0 and 2.0 | `w2v_encoder.w2v_model.` | `w2v_encoder.proj.` |
| audio classification, emotion2vec | `d2v_model.` | `proj.`, `proj2.` |
| image and text classification, data2vec 2.0 | `model.` | `fc_norm.`, `head.`, `classification_heads.<name>.` |
| text classification, data2vec 1.0 | as pretrained | `classification_heads.<name>.` |
| images of the BEiT repository, also DeepSpeed's `module` | as pretrained | `fc_norm.`, `head.` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from d2v.interchange.fairseq_names import Reference

ENCODER_PREFIXES = ("w2v_encoder.w2v_model.", "d2v_model.", "model.")
HEADS_IN_PLACE = re.compile(r"^(fc_norm|head|classification_heads\.[^.]+)\.")
PRETRAINING = ("w2v_args", "d2v_args", "pretrained_model_args")
"""Where a fine-tuned model's settings keep those of its pretraining."""


def split(reference: Reference) -> tuple[Reference, dict[str, Tensor]] | None:
    """A fine-tuned model as (its encoder in the layout of pretraining, its head under its own names); None for others.

    Everything beside a prefixed encoder is the head."""
    for prefix in ENCODER_PREFIXES:
        inner = {name[len(prefix) :]: value for name, value in reference.model.items() if name.startswith(prefix)}
        if inner:
            head = {name: value for name, value in reference.model.items() if not name.startswith(prefix)}
            return Reference(inner, {}, _pretraining(reference.config)), head
    head = {name: value for name, value in reference.model.items() if HEADS_IN_PLACE.match(name)}
    if not head:
        return None
    inner = {name: value for name, value in reference.model.items() if name not in head}
    return Reference(inner, {}, reference.config), head


def _pretraining(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the pretrained model; in old files they are not under `model`."""
    stored: dict[str, Any] = next((config[key] for key in PRETRAINING if isinstance(config.get(key), dict)), {})
    model = stored.get("model", stored)
    return model if isinstance(model, dict) else {}
