"""The folder of an aligned space: heads, the encoders that they belong to, and which these are.

    config.json           sizes, what the heads read, fingerprint of each encoder
    heads.safetensors
    trained_on.json       digests of the second items (texts) of the pairs that the heads were trained on
    encoders/<modality>/  what encoding needs of each encoder: config.json, its weights, its space to search in
    digests.json

Heads mean nothing on features of other weights, so every use compares fingerprints. The folder holds the encoders and
can be moved and registered as it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from d2v.alignment.heads import Head
from d2v.alignment.train import Heads
from d2v.config import parse
from d2v.config.alignment import AlignConfig
from d2v.data import digests
from d2v.data.disk import read_json
from d2v.errors import CheckpointError
from d2v.evaluation.search_space import SEARCH, SearchSpace
from d2v.model_folder import CONFIG, ENCODER

HEADS, ENCODERS, TRAINED_ON = "heads.safetensors", "encoders", "trained_on.json"
Reads = Literal["all", "search", "plain"]
AGAIN = "make it again with kedro run --pipeline=align"


def encoder_fingerprint(encoder: nn.Module, search_space: SearchSpace | None) -> str:
    """SHA-256 of the weights that make vectors, and of the space, whatever file they came from."""
    digest = hashlib.sha256()
    tensors = dict(encoder.state_dict())
    if search_space is not None:
        tensors |= {"space.mean": search_space.mean_P, "space.axes": search_space.axes_PR}
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        exact = value.float() if value.is_floating_point() else value
        digest.update(exact.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class AlignedHead:
    """One modality's way into an aligned space.

    Attributes:
        head: in evaluation mode.
        reads: which features it takes.
        fingerprint: of the encoder that it belongs to.
        folder: of the space, for messages.
    """

    head: Head
    reads: Reads
    fingerprint: str
    folder: Path

    def __call__(self, features_nD: Tensor) -> Tensor:
        """(n, R) float32 of length one."""
        with torch.no_grad():
            vectors: Tensor = self.head(features_nD.float().cpu())
        return vectors

    def check(self, fingerprint: str) -> None:
        """Raises CheckpointError if an encoder is another one."""
        if fingerprint != self.fingerprint:
            raise CheckpointError(
                f"the aligned space {self.folder} belongs to another encoder, so its heads mean nothing for this one's "
                "features: load it with load_aligned, which brings its own encoders, or run kedro run --pipeline=align"
            )


@dataclass(frozen=True)
class AlignedSpace:
    """What an aligned space's folder holds, without its encoders.

    Attributes:
        folder: of it.
        heads: by modality.
        about: contents of its config.json.
    """

    folder: Path
    heads: Mapping[str, AlignedHead]
    about: Mapping[str, Any]

    @property
    def width(self) -> int:
        """R."""
        return int(self.about["width"])

    def encoder_folder(self, modality: str) -> Path:
        """Where the encoder of a modality lies."""
        return self.folder / ENCODERS / modality


def save_space(
    folder: Path,
    heads: Heads,
    config: AlignConfig,
    encoders: Mapping[str, Path],
    fingerprints: Mapping[str, str],
    trained_on: Iterable[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write an aligned space.

    Args:
        folder: made anew.
        heads: that were trained.
        config: the recipe.
        encoders: modality -> model folder; what encoding needs of it is copied.
        fingerprints: modality -> `encoder_fingerprint`.
        trained_on: texts of the pairs that the heads were trained on.
        extra: further plain values of its config.json.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for modality, source in encoders.items():
        target = folder / ENCODERS / modality
        target.mkdir(parents=True)
        for name in (CONFIG, ENCODER, SEARCH):
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
        digests.seal(target)
    save_file({name: value.contiguous() for name, value in heads.state_dict().items()}, folder / HEADS)
    (folder / TRAINED_ON).write_text(json.dumps({"texts": sorted(text_digests(trained_on))}) + "\n")
    modalities = {
        name: {"fingerprint": fingerprints[name], "features_width": heads.head(name).width} for name in encoders
    }
    about = {"format": 1, "aligned": modalities, "width": config.width, "recipe": config.model_dump(mode="json")}
    (folder / CONFIG).write_text(json.dumps(about | dict(extra or {}), indent=2, sort_keys=True) + "\n")
    digests.seal(folder)


def text_digests(texts: Iterable[str]) -> set[str]:
    """A short digest of each text."""
    return {hashlib.blake2b(one.encode("utf-8", "replace"), digest_size=8).hexdigest() for one in texts}


def is_space(folder: Path) -> bool:
    """Whether a folder looks like an aligned space."""
    return (folder / HEADS).is_file() and (folder / ENCODERS).is_dir()


def read_space(folder: Path) -> AlignedSpace:
    """What `save_space` wrote.

    Raises:
        CheckpointError: it is no such folder, or damaged.
    """
    if not is_space(folder):
        raise CheckpointError(
            f"{folder} is no aligned space ({HEADS} and {ENCODERS} are not both there): give the folder that kedro run "
            "--pipeline=align left"
        )
    digests.check(folder, [CONFIG, HEADS], CheckpointError, AGAIN[0].upper() + AGAIN[1:])
    about = read_json(folder / CONFIG, CheckpointError, AGAIN, {"aligned": dict, "width": int, "recipe": dict})
    try:
        config = parse(AlignConfig, about["recipe"], at="align")
        heads = Heads({name: int(one["features_width"]) for name, one in about["aligned"].items()}, config)
        heads.load_state_dict(load_file(folder / HEADS))
        heads.eval()
        found = {
            name: AlignedHead(heads.head(name), config.features, str(one["fingerprint"]), folder)
            for name, one in about["aligned"].items()
        }
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder} cannot be read as an aligned space ({error}): {AGAIN}") from error
    return AlignedSpace(folder, found, about)
