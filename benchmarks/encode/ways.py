"""Ways to turn a folder into a table of vectors. Each is run in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from PIL import Image
from torch import Tensor

BATCH_ITEMS = 32


def ours(modality: str, model: Path, files: Path, out: Path, dtype: str, runtime: str = "torch") -> Callable[[], None]:
    """`d2v encode`."""
    import d2v
    from d2v.interchange.encode_files import encode_files

    loaded = d2v.load(model, dtype=dtype, **({} if runtime == "torch" else {"runtime": runtime}))
    return lambda: _done(encode_files(loaded, [files], out))


def _done(_: object) -> None:
    return None


@dataclass(frozen=True)
class _Peer:
    """The model card's way for one modality.

    Attributes:
        processor: the class of transformers that prepares items, by name.
        items: (name, item) of a folder.
        features: (model, processor, items) -> (items, width).
    """

    processor: str
    items: Callable[[Path], Iterator[tuple[str, Any]]]
    features: Callable[[Any, Any, Sequence[Any]], Tensor]


def transformers(modality: str, model: Path, files: Path, out: Path, dtype: str) -> Callable[[], None]:
    """The model card's way: batches of 32 in the order of the files, padded to the longest, mean of the tokens."""
    import transformers as t

    peer = _PEERS[modality]
    loaded: Any = t.AutoModel.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    prepare: Any = getattr(t, peer.processor).from_pretrained(model)

    def encode() -> None:
        names, rows = [], []
        with torch.inference_mode():
            for some in _batches(peer.items(files)):
                names += [name for name, _ in some]
                rows.append(peer.features(loaded, prepare, [item for _, item in some]).float().numpy())
        pd.DataFrame({"file": names, "embedding": list(np.concatenate(rows))}).to_parquet(out)

    return encode


def _image_files(files: Path) -> Iterator[tuple[str, Any]]:
    return ((path.name, Image.open(path).convert("RGB")) for path in sorted(files.iterdir()))


def _sound_files(files: Path) -> Iterator[tuple[str, Any]]:
    return ((path.name, soundfile.read(path, dtype="float32")[0]) for path in sorted(files.iterdir()))


def _lines(files: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(files.iterdir()):
        yield from ((f"{path.name}#{line}", text) for line, text in enumerate(path.read_text().splitlines(), 1))


def _of_images(model: Any, prepare: Any, items: Sequence[Any]) -> Tensor:
    pixels = prepare(items, return_tensors="pt")["pixel_values"].to(model.dtype)
    features: Tensor = model(pixels).last_hidden_state[:, 1:].mean(1)
    return features


def _of_recordings(model: Any, prepare: Any, items: Sequence[Any]) -> Tensor:
    given = prepare(items, sampling_rate=16_000, padding=True, return_tensors="pt")
    hidden = model(given["input_values"].to(model.dtype), attention_mask=given["attention_mask"]).last_hidden_state
    return _mean(hidden, model._get_feature_vector_attention_mask(hidden.shape[1], given["attention_mask"]))


def _of_texts(model: Any, prepare: Any, items: Sequence[Any]) -> Tensor:
    given = prepare(items, padding=True, truncation=True, return_tensors="pt")
    return _mean(model(**given).last_hidden_state, given["attention_mask"])


def _mean(hidden_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    return hidden_BTD.masked_fill(~mask_BT.bool()[..., None], 0).sum(1) / mask_BT.sum(1)[:, None]


_PEERS = {
    "vision": _Peer("AutoProcessor", _image_files, _of_images),
    "speech": _Peer("AutoFeatureExtractor", _sound_files, _of_recordings),
    "text": _Peer("AutoTokenizer", _lines, _of_texts),
}


def _batches(items: Iterator[tuple[str, Any]]) -> Iterator[Sequence[tuple[str, Any]]]:
    some = []
    for item in items:
        some.append(item)
        if len(some) == BATCH_ITEMS:
            yield some
            some = []
    if some:
        yield some


WAYS: dict[str, Callable[..., Callable[[], None]]] = {"d2v": ours, "transformers": transformers}


def main(way: str, modality: str, model: str, files: str, out: str, dtype: str, threads: str) -> None:
    """Encode once and print the seconds of this process and of the wall, without imports and loading, as JSON."""
    torch.set_num_threads(int(threads))
    name, _, runtime = way.partition("-")
    more = {"runtime": runtime} if runtime else {}
    with contextlib.redirect_stdout(sys.stderr):
        encode = WAYS[name](modality, Path(model), Path(files), Path(out), dtype, **more)
        before, began = os.times(), time.perf_counter()
        encode()
        wall, after = time.perf_counter() - began, os.times()
    sys.stdout.write(json.dumps({"cpu_s": sum(after[:2]) - sum(before[:2]), "wall_s": wall}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
