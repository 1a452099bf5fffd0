"""Ways to turn a folder into a table of vectors. Each is run in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

BATCH_ITEMS = 32


def ours(modality: str, model: Path, files: Path, out: Path, dtype: str, engine: str = "torch") -> Callable[[], None]:
    """`d2v encode`."""
    import d2v
    from d2v.interchange.encode_files import encode_files

    loaded = d2v.load(model, dtype=dtype, **({} if engine == "torch" else {"engine": engine}))
    return lambda: _done(encode_files(loaded, [files], out))


def _done(_: object) -> None:
    return None


def transformers(modality: str, model: Path, files: Path, out: Path, dtype: str) -> Callable[[], None]:
    """The model card's way: batches of 32 in the order of the files, padded to the longest, mean of the tokens."""
    import transformers as t

    loaded: Any = t.AutoModel.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
    if modality == "text":
        prepare: Any = t.AutoTokenizer.from_pretrained(model)
    else:
        prepare = t.AutoProcessor.from_pretrained(model) if modality == "vision" else None
        prepare = prepare or t.AutoFeatureExtractor.from_pretrained(model)

    def encode() -> None:
        names, rows = [], []
        with torch.inference_mode():
            for some in _batches(_items(modality, files)):
                names += [name for name, _ in some]
                rows.append(_features(modality, loaded, prepare, [item for _, item in some]))
        pd.DataFrame({"file": names, "embedding": list(np.concatenate(rows))}).to_parquet(out)

    return encode


def _items(modality: str, files: Path) -> Iterator[tuple[str, Any]]:
    import soundfile
    from PIL import Image

    for path in sorted(files.iterdir()):
        if modality == "vision":
            yield path.name, Image.open(path).convert("RGB")
        elif modality == "speech":
            yield path.name, soundfile.read(path, dtype="float32")[0]
        else:
            yield from ((f"{path.name}#{line}", text) for line, text in enumerate(path.read_text().splitlines(), 1))


def _batches(items: Iterator[tuple[str, Any]]) -> Iterator[Sequence[tuple[str, Any]]]:
    some = []
    for item in items:
        some.append(item)
        if len(some) == BATCH_ITEMS:
            yield some
            some = []
    if some:
        yield some


def _features(modality: str, model: Any, prepare: Any, items: Sequence[Any]) -> np.ndarray:
    dtype = next(model.parameters()).dtype
    if modality == "vision":
        pixels = prepare(items, return_tensors="pt")["pixel_values"].to(dtype)
        return model(pixels).last_hidden_state[:, 1:].mean(1).float().numpy()
    if modality == "speech":
        given = prepare(items, sampling_rate=16_000, padding=True, return_tensors="pt")
        hidden = model(given["input_values"].to(dtype), attention_mask=given["attention_mask"]).last_hidden_state
        mask = model._get_feature_vector_attention_mask(hidden.shape[1], given["attention_mask"])
    else:
        given = prepare(items, padding=True, truncation=True, return_tensors="pt")
        hidden, mask = model(**given).last_hidden_state, given["attention_mask"]
    hidden = hidden.masked_fill(~mask.bool()[..., None], 0)
    return (hidden.sum(1) / mask.sum(1)[:, None]).float().numpy()


WAYS: dict[str, Callable[..., Callable[[], None]]] = {"d2v": ours, "transformers": transformers}


def main(way: str, modality: str, model: str, files: str, out: str, dtype: str, threads: str) -> None:
    """Encode once and print the seconds of this process and of the wall, without imports and loading, as JSON."""
    torch.set_num_threads(int(threads))
    name, _, engine = way.partition("-")
    more = {"engine": engine} if engine else {}
    with contextlib.redirect_stdout(sys.stderr):
        encode = WAYS[name](modality, Path(model), Path(files), Path(out), dtype, **more)
        before, began = os.times(), time.perf_counter()
        encode()
        wall, after = time.perf_counter() - began, os.times()
    sys.stdout.write(json.dumps({"cpu_s": sum(after[:2]) - sum(before[:2]), "wall_s": wall}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
