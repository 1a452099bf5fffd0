"""The same batches of the same files, read with common libraries and without this project."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.input.job import Job
from d2v.errors import DataError
from d2v.modalities.text.tokenizer import PAD, SPECIALS

ENDLESS = 10**9
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Peer:
    """Another way to make a case's batches.

    Attributes:
        name: for tables.
        data: the files of a job as a torch data set.
        collate: job -> what makes a batch of items; None: torch's own.
    """

    name: str
    data: Callable[[Job], Dataset[Any]]
    collate: Callable[[Job], Callable[[list[Any]], Tensor]] | None = None

    def batches(self, job: Job, workers: int) -> Iterator[Sized]:
        """Batches without end, in random order."""
        data = self.data(job)
        loader = DataLoader(
            data,
            batch_size=job.train_block().batch_unit,
            sampler=RandomSampler(data, replacement=True, num_samples=ENDLESS),  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=self.collate(job) if self.collate else None,
        )
        return (batch[0] if isinstance(batch, list) else batch for batch in loader)


def image_folder(job: Job) -> Dataset[Any]:
    """torchvision's data set and transforms."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    train: Any = job.train_block()
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(
                train.encoder.image_px, train.augment.crop_scale, interpolation=v2.InterpolationMode.BICUBIC
            ),
            v2.RandomHorizontalFlip(train.augment.flip),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    try:
        return ImageFolder(str(job.source), transform)
    except FileNotFoundError as error:
        raise DataError(
            f"torchvision cannot read {job.source} ({error}): give a folder with a folder for each class"
        ) from error


class SoundFiles(Dataset[Tensor]):
    """Recordings as the reference reads them: decode all of one, normalise it, cut a piece out."""

    def __init__(self, job: Job) -> None:
        train: Any = job.train_block()
        self._samples = train.longest_samples
        self._files = [file for file in job.files if soundfile.info(file).frames >= self._samples]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> Tensor:
        wave = torch.from_numpy(soundfile.read(self._files[number], dtype="float32")[0])
        wave = torch.nn.functional.layer_norm(wave, wave.shape)
        start = int(torch.randint(len(wave) - self._samples + 1, ()))
        return wave[start : start + self._samples]


class Lines(Dataset[str]):
    """Lines of texts, held in memory; a line is about as long as a block."""

    def __init__(self, job: Job) -> None:
        self._lines = [line for file in job.files for line in file.read_text().splitlines() if line.strip()]

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, number: int) -> str:
        return self._lines[number]


class _Encoded:
    """Tokenises a batch of texts when it is wanted."""

    def __init__(self, job: Job) -> None:
        self._tokenizer = Tokenizer.from_file(str(job.tokenizer))
        block = job.case.prepare["block_tokens"]
        self._tokenizer.enable_truncation(block)
        self._tokenizer.enable_padding(length=block, pad_id=PAD, pad_token=SPECIALS[PAD])

    def __call__(self, texts: list[str]) -> Tensor:
        return torch.tensor([one.ids for one in self._tokenizer.encode_batch(texts)])


PEERS = {
    "vision": Peer("torchvision ImageFolder", image_folder),
    "speech": Peer("soundfile loop", SoundFiles),
    "text": Peer("tokenizers, on the fly", Lines, _Encoded),
}
"""By modality."""


# --------------------------------------------------------------------------------- tokenising a corpus


_WITH_ALL_CORES = mock.patch.dict(os.environ, TOKENIZERS_PARALLELISM="true")


@_WITH_ALL_CORES
def encode_files(job: Job) -> int:
    """Tokenise every file with `tokenizers` and all cores, and keep the ids in memory; tokens."""
    tokenizer = Tokenizer.from_file(str(job.tokenizer))
    texts = [file.read_text() for file in job.files]
    return sum(len(one.ids) for one in tokenizer.encode_batch(texts, add_special_tokens=False))


@_WITH_ALL_CORES
def map_files(job: Job) -> int:
    """Tokenise every file with `datasets` into blocks on the disk, as the examples for language models do; tokens."""
    datasets = importlib.import_module("datasets")
    tokenizer = Tokenizer.from_file(str(job.tokenizer))
    block = job.case.prepare["block_tokens"]

    def encode(rows: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"ids": [one.ids for one in tokenizer.encode_batch(rows["text"], add_special_tokens=False)]}

    def pack(rows: dict[str, list[list[int]]]) -> dict[str, Sequence[np.ndarray]]:
        flat = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in rows["ids"]])
        return {"ids": list(flat[: len(flat) // block * block].reshape(-1, block))}

    files = [str(file) for file in job.files]
    raw = datasets.load_dataset("text", data_files=files, sample_by="document", cache_dir=str(job.scratch / "datasets"))
    encoded = raw["train"].map(encode, batched=True, remove_columns=["text"])
    return len(encoded.map(pack, batched=True)) * block


TOKENISERS = {"tokenizers": encode_files, "datasets": map_files}
"""By name."""


def has_datasets() -> bool:
    """Whether Hugging Face's `datasets` can be imported."""
    return importlib.util.find_spec("datasets") is not None


def tokenisers() -> dict[str, Callable[[Job], int]]:
    """Those that can be imported; they are, so that it is not timed."""
    if has_datasets():
        importlib.import_module("datasets")
    return {name: work for name, work in TOKENISERS.items() if name != "datasets" or has_datasets()}
