"""Checkpoints of Meta's reference implementations, without fairseq.

A fairseq file is a pickle of plain containers, tensors, `argparse.Namespace`, OmegaConf nodes and the task's
dictionary. It holds a pretraining model (student, teacher, decoder or head), or a fine-tuned one: the student's encoder
with a task's head.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import omegaconf
from torch import Tensor

from d2v.errors import CheckpointError
from d2v.interchange import fairseq_speech, fairseq_text, fairseq_vision
from d2v.interchange.fairseq_finetuned import PRETRAINING, split
from d2v.interchange.fairseq_names import Converted, Reference
from d2v.interchange.imported import Imported
from d2v.interchange.pickled import dictionary_symbols, unpickle
from d2v.interchange.weights import without_wrappers
from d2v.modalities import registry
from d2v.model_folder import load_state
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective

CONVERTERS = tuple(
    convert
    for layout in (fairseq_vision, fairseq_speech, fairseq_text)
    for convert in (layout.convert_v2, layout.convert_v1)
)
"""Each turns one layout into our names and returns None for all others."""


def read(path: Path) -> Reference:
    """Read a fairseq, BEiT or DeepSpeed container of the reference.

    Raises:
        CheckpointError: the file is not there, damaged, or holds objects outside the allow-list.
    """
    content = unpickle(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("model", content.get("module")), Mapping):
        holds = ", ".join(str(name) for name in list(content)[:6]) if isinstance(content, Mapping) else "no such part"
        raise CheckpointError(
            f"{path} has no `model` or `module` part, but {holds or 'nothing'}: it is not a checkpoint of the "
            "reference. Give the file that its training wrote"
        )
    return _plain_reference(content)


def _plain_reference(content: Mapping[str, Any]) -> Reference:
    model = content.get("model", content.get("module"))
    nested = {name: value for name, value in model.items() if isinstance(value, Mapping)}
    ema = next((value for name, value in nested.items() if name.endswith("_ema")), content.get("model_ema") or {})
    tensors = {name: value for name, value in model.items() if isinstance(value, Tensor)}
    averaged = {name: value for name, value in ema.items() if isinstance(value, Tensor)}
    settings = _settings(content)
    return Reference(
        without_wrappers(tensors),
        without_wrappers(averaged),
        _block(settings, "model"),
        _block(settings, "task"),
        _symbols(content.get("task_state")),
    )


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The stored configuration as plain values, namespaces within it too. `args` of other programs than today's
    fairseq have no blocks: there all of them tell about the task."""
    cfg = content.get("cfg")
    if isinstance(cfg, omegaconf.Container):
        cfg = omegaconf.OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    plain = _plain(cfg) if isinstance(cfg, Mapping) else {}
    args = _plain(content.get("args"))
    return plain | ({} if "task" in plain or not isinstance(args, dict) else {"task": args})


def _block(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    block = settings.get(name)
    return block if isinstance(block, dict) else {}


def _symbols(task_state: Any) -> tuple[str, ...]:
    """Of a task's dictionaries, the one of its targets first."""
    if not isinstance(task_state, Mapping):
        return ()
    names = ("target_dictionary", "dictionary", "source_dictionary")
    return next((found for name in names if (found := dictionary_symbols(task_state.get(name)))), ())


def _plain(value: Any) -> Any:
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def load_reference(path: Path) -> tuple[Objective, Converted]:
    """Rebuild a reference model (student, teacher, decoder or head) from its checkpoint.

    The layout is recognised by its parameter names and the sizes are read from the tensors.

    Raises:
        CheckpointError: unreadable, unknown layout, or keys that do not fit (all of them named).
    """
    converted = _convert(read(path), path)
    objective = build_objective(registry.get(converted.modality), converted.recipe)
    load_state(objective, converted.state, str(path))
    return objective, converted


def import_fairseq(path: Path) -> Imported:
    """The encoder of a pretrained or fine-tuned reference model, with its head or decoder and its teacher apart.

    A fine-tuned model's recipe is that of its pretraining, with the encoder's own dropout: what fine-tuning changed
    about training is not read.

    Raises:
        CheckpointError: unreadable, or an unknown layout.
    """
    reference = read(path)
    finetuned = split(reference)
    pretraining, head = finetuned or (reference, {})
    converted = _convert(pretraining, path)
    student, teacher = (_part(converted.state, prefix) for prefix in ("student.", "teacher.encoder."))
    rest = {name: value for name, value in converted.state.items() if not name.startswith(("student.", "teacher."))}
    notes: tuple[str, ...] = ()
    if finetuned and not pretraining.config:
        notes = (f"{path} does not hold the settings of its pretraining: heads and strides are the published ones",)
    return Imported(
        converted.modality,
        converted.recipe,
        student,
        teacher=student | teacher if reference.ema else {},
        head=head | rest,
        unused=converted.unused,
        notes=notes,
        settings={key: value for key, value in reference.config.items() if key not in PRETRAINING}
        if finetuned
        else None,
        symbols=reference.symbols,
        preprocessor=_preprocessor(reference),
    )


def _preprocessor(reference: Reference) -> dict[str, Any]:
    """How raw items became inputs, in the words of transformers' preprocessor_config.json; what the file does not say
    is left out."""
    task = reference.task
    said = {"do_normalize": task.get("normalize"), "sampling_rate": task.get("sample_rate")}
    said |= {"image_mean": task.get("normalization_mean"), "image_std": task.get("normalization_std")}
    if task.get("imagenet_default_mean_and_std") is False:  # BEiT's other choice
        said |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return {name: value for name, value in said.items() if value is not None}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _convert(reference: Reference, path: Path) -> Converted:
    for convert in CONVERTERS:
        try:
            converted = convert(reference)
        except KeyError as error:
            raise CheckpointError(f"{path} lacks parameters that its layout has, such as our {error}") from error
        if converted is not None:
            return converted
    some = ", ".join(list(reference.model)[:4])
    raise CheckpointError(
        f"{path} has a layout that is not known (its keys begin {some}): docs/interchange.md lists what is read"
    )
