"""How images become the input of an encoder from elsewhere: what transformers' preprocessor_config.json says, as plain
values of our config.json, or refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from d2v.errors import CheckpointError
from d2v.modalities.base import Foreign

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
HALF = [0.5, 0.5, 0.5]
RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of what can be followed."""
NOT_FOLLOWED = {1: "Lanczos", 4: "box", 5: "Hamming"}
_HALF = {"image_mean": HALF, "image_std": HALF}
_SQUARE = {"height": 224, "width": 224}
DEFAULTS: dict[str, dict[str, Any]] = {
    "Beit": {**_HALF, "resample": 3, "size": _SQUARE, "crop_size": _SQUARE, "do_center_crop": False},
    "ViT": {**_HALF, "resample": 2, "size": _SQUARE},
    "DeiT": {
        **_HALF,
        "resample": 3,
        "size": {"height": 256, "width": 256},
        "crop_size": _SQUARE,
        "do_center_crop": True,
    },
}
"""What transformers' image processors do where a file is silent; Data2VecVision's is Beit's."""
ENDS = ("ImageProcessor", "ImageProcessorFast", "ImageProcessorPil", "FeatureExtractor")
FOLLOWED = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels")
"""Steps that are followed, or that say nothing about an encoder's input."""


def about_images(source: Foreign, side: int) -> tuple[dict[str, object], tuple[str, ...]]:
    """(mean, standard deviation and, where it is not our own way, `resize` of config.json, notes).

    Args:
        source: with the settings of its image processor.
        side: of the images that the encoder takes.

    Raises:
        CheckpointError: a step that cannot be followed, named with its value.
    """
    if not source.preprocessor:
        note = f"{source.path} does not say how images are normalised: ImageNet's mean and deviation are taken"
        return dict(IMAGENET), (note,) if source.path.is_dir() else ()
    if not source.path.is_dir():  # a checkpoint file, whose pretraining resized as we do
        given = source.preprocessor
        mean, std = given.get("image_mean", IMAGENET["mean"]), given.get("image_std", IMAGENET["std"])
        return {"mean": _three("image_mean", mean, source), "std": _three("image_std", std, source)}, ()
    said = _with_defaults(source)
    others = [name for name, value in said.items() if name.startswith("do_") and value and name not in FOLLOWED]
    if others:
        raise _refused(
            source, f"{others[0]}={said[others[0]]!r}", "take that step out of the file if it changes nothing"
        )
    return _scaled(said, source) | _resizing(said, side, source), ()


def _refused(source: Foreign, what: str, remedy: str) -> CheckpointError:
    return CheckpointError(f"{source.path} prepares its images with {what}, which cannot be followed here: {remedy}")


def _with_defaults(source: Foreign) -> dict[str, Any]:
    """The settings, with those of the processor's class for what is not said."""
    given = {name: value for name, value in source.preprocessor.items() if value is not None}
    kind = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "BeitImageProcessor")
    name = next((kind.removesuffix(end) for end in sorted(ENDS, key=len, reverse=True) if kind.endswith(end)), kind)
    if name not in DEFAULTS:
        known = ", ".join(DEFAULTS)
        raise _refused(source, f"a {kind}", f"write all its settings under one of {known} (such as ViTImageProcessor)")
    return (
        {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
        | DEFAULTS[name]
        | given
    )


def _scaled(said: Mapping[str, Any], source: Foreign) -> dict[str, object]:
    """Mean and deviation of values from 0 to 1 that do what is said of values from 0 to 255."""
    factor = float(said["rescale_factor"]) if said["do_rescale"] else 1.0
    if not math.isfinite(factor) or factor <= 0:
        raise _refused(source, f"rescale_factor={said['rescale_factor']!r}", "give a number above 0, such as 1/255")
    mean, std = [0.0] * 3, [1.0] * 3
    if said["do_normalize"]:
        mean, std = (_three(name, said[name], source) for name in ("image_mean", "image_std"))
    whole = 255.0 * factor
    if math.isclose(whole, 1.0, rel_tol=1e-6):
        return {"mean": mean, "std": std}
    return {"mean": [value / whole for value in mean], "std": [value / whole for value in std]}


def _three(name: str, value: Any, source: Foreign) -> list[float]:
    values = [value] * 3 if isinstance(value, int | float) else list(value) if isinstance(value, list | tuple) else []
    are_numbers = all(isinstance(one, int | float) and math.isfinite(one) for one in values)
    if len(values) != 3 or not are_numbers or (name == "image_std" and min(values) <= 0):
        raise _refused(source, f"{name}={value!r}", "give three numbers, one of each colour, of deviations above 0")
    return [float(one) for one in values]


def _resizing(said: Mapping[str, Any], side: int, source: Foreign) -> dict[str, object]:
    """`resize` of config.json: `to`, a side, (height, width) or null; `crop`, a side or null; `resample`. Nothing if
    images become a square of the encoder's side by bicubic interpolation, as ours do."""
    number = said["resample"] if said["do_resize"] else 3
    if number not in RESAMPLING:
        way = NOT_FOLLOWED.get(number, "an unknown interpolation")
        raise _refused(
            source, f"resample={number!r} ({way})", f"set one of {RESAMPLING}, and measure what that changes"
        )
    to = _size("size", said["size"], source) if said["do_resize"] else None
    crop = _size("crop_size", said.get("crop_size", said["size"]), source) if said.get("do_center_crop") else None
    if crop is not None and crop != (side, side) and crop != side:
        raise _refused(source, f"crop_size={said.get('crop_size')!r}", f"the encoder takes images of {side} px")
    if crop is None and to is not None and to != (side, side):
        raise _refused(
            source, f"size={said['size']!r}", f"the encoder takes images of {side} x {side} px: set that size"
        )
    if crop is None and to == (side, side) and number == 3:
        return {}
    return {"resize": {"to": to, "crop": None if crop is None else side, "resample": RESAMPLING[number]}}


def _size(name: str, value: Any, source: Foreign) -> int | tuple[int, int]:
    """The shorter side, or (height, width). A plain number is a square, as Beit's and ViT's processors take it."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping) and value.keys() == {"shortest_edge"}:
        return int(value["shortest_edge"])
    if isinstance(value, Mapping) and value.keys() == {"height", "width"}:
        return int(value["height"]), int(value["width"])
    if isinstance(value, list | tuple) and len(value) == 2:
        return int(value[0]), int(value[1])
    raise _refused(source, f"{name}={value!r}", 'give {"height": ..., "width": ...} or {"shortest_edge": ...}')
