"""A case on files, as the measuring processes receive it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.input.cases import CASES, Case
from d2v.config import TrainConfig, parse
from d2v.errors import DataError
from d2v.modalities import registry
from d2v.modalities.base import Modality

SEED = 2022
TOKENIZER_FILES = 400
_OBJECTIVE = {
    "name": "data2vec2",
    "masks_per_sample": 1,
    "decoder": {"layers": 1, "width": 32},
    "targets": {"top_k_layers": 2, "average_norms": ["layer"]},
    "ema": {"decay_start": 0.999, "decay_end": 0.999},
}


@dataclass(frozen=True)
class Job:
    """A case on the files of a folder.

    Attributes:
        name: of the case.
        source: folder of its files.
        scratch: folder for what is made of them.
        tokenizer: file of the one trained beforehand, if the case has any.
    """

    name: str
    source: Path
    scratch: Path
    tokenizer: Path

    @property
    def case(self) -> Case:
        """The measured case."""
        return CASES[self.name]

    @property
    def modality(self) -> Modality:
        """Its code."""
        return registry.get(self.case.modality)

    @cached_property
    def files(self) -> list[Path]:
        """All of the source, in order."""
        return files_of(self.name, self.source)

    @property
    def corpus(self) -> Path:
        """The folder that ingest writes."""
        return self.scratch / "corpus"

    @property
    def prepared(self) -> Path:
        """The folder that prepare writes."""
        return self.scratch / "prepared"

    def ingest_block(self, **changes: Any) -> Any:
        """The recipe's ingest block."""
        return self._block("ingest", {"source": str(self.source)} | changes)

    def prepare_block(self) -> Any:
        """The recipe's prepare block."""
        own = {"tokenizer": str(self.tokenizer)} if self.case.tokenizer else {}
        return self._block("prepare", self.case.prepare | own)

    def train_block(self, workers: int = 0) -> TrainConfig:
        """The recipe's train block, as far as loading depends on it."""
        shared = {"objective": _OBJECTIVE, "optimizer": {"lr": 1e-4}, "max_updates": 10**6, "data_workers": workers}
        return parse(self.modality.train_config, self.case.train | shared, at="train")

    def _block(self, name: str, values: dict[str, Any]) -> Any:
        block: Any = self.modality.recipe.model_fields[name].annotation
        return parse(block, values, at=name)


def files_of(name: str, source: Path) -> list[Path]:
    """The files of a folder that a case reads.

    Raises:
        DataError: there are none.
    """
    suffixes = tuple(CASES[name].suffixes)
    files = sorted(file for file in source.rglob("*") if file.name.lower().endswith(suffixes))
    if not files:
        raise DataError(f"{source} holds no file for {name}: give a folder with some of {', '.join(sorted(suffixes))}")
    return files


@dataclass(frozen=True)
class Material:
    """All files of a case.

    Attributes:
        name: of the case.
        folder: where they lie.
        scratch: folder for jobs, with a tokenizer if the case has one.
    """

    name: str
    folder: Path
    scratch: Path

    @cached_property
    def files(self) -> list[Path]:
        """All of them, in order."""
        return files_of(self.name, self.folder)

    def job(self, items: int, at: str) -> Job:
        """A job on so many files from all over the folder, without copies of them; `at` names it."""
        source, chosen = self.scratch / at / "source", self.files[:: len(self.files) // items][:items]
        for file in chosen:
            env = source / file.relative_to(self.folder)
            env.parent.mkdir(parents=True, exist_ok=True)
            env.symlink_to(file.absolute())
        return Job(self.name, source, self.scratch / at, self.scratch / "tokenizer.json")


def made(name: str, items: int, scratch: Path) -> Material:
    """Files of a case made for it, so many."""
    CASES[name].write(scratch / "files", items, SEED)
    return given(name, scratch / "files", scratch)


def given(name: str, folder: Path, scratch: Path) -> Material:
    """Files of a case that are there.

    Raises:
        DataError: there are none.
    """
    material = Material(name, folder, scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    if train_tokenizer := CASES[name].tokenizer:
        texts = [file.read_text() for file in material.files[:TOKENIZER_FILES]]
        (scratch / "tokenizer.json").write_text(train_tokenizer(texts), encoding="utf-8")
    return material
