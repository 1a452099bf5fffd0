"""What a modality brings to the contract, and its data after ingest and prepare."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2v.config import parse
from d2v.modalities.base import Modality

RUN: dict[str, Any] = {
    "optimizer": {"lr": 2e-3},
    "schedule": {"warmup_updates": 2},
    "batch_size": 8,
    "max_updates": 10,
    "seed": 3,
    "precision": "fp32",
    "log_every_updates": 1,
    "checkpoint": {"every_updates": 3},
    "monitor": {"grace_updates": 1000},
}
"""What the train blocks of all cases share; a case may say otherwise."""


@dataclass(frozen=True)
class Case:
    """What a modality brings to the contract: something tiny, made in seconds.

    Attributes:
        recipes: name of an objective -> `train` block (objective, encoder, mask ...; `RUN` gives the rest). Two trunk
            blocks, widths of 16 to 32, T of 16 to 50.
        ingest: the ingest block; its `source` may be an embedded corpus.
        prepare: the prepare block.
        write_source: writes the source's files into a folder, which then is `ingest.source`.
    """

    recipes: Mapping[str, Mapping[str, Any]]
    ingest: Mapping[str, Any]
    prepare: Mapping[str, Any]
    write_source: Callable[[Path], Any] | None = None


def find_case(name: str) -> Case | None:
    """The case of a modality; None if its file is not there."""
    try:
        found = importlib.util.find_spec(module := f"tests.modalities.{name}.contract_case")
    except ModuleNotFoundError:
        return None
    return importlib.import_module(module).CASE if found else None


@dataclass(frozen=True)
class Prepared:
    """A case's data after ingest and prepare, in `folder`, with the blocks that made it."""

    modality: Modality
    case: Case
    ingest: Any
    prepare: Any
    folder: Path

    @property
    def path(self) -> Path:
        """What prepare left."""
        return self.folder / "prepared"

    def bring_up_to_date(self) -> None:
        """Ingest and prepare, or check that nothing changed."""
        self.modality.ingest(self.ingest, self.folder / "corpus")
        self.modality.prepare(self.prepare, self.folder / "corpus", self.path)


def make_prepared(modality: Modality, case: Case, folder: Path) -> Prepared:
    """Write, ingest and prepare a case's data in `folder`."""
    source = {}
    if case.write_source is not None:
        (folder / "source").mkdir(parents=True)
        case.write_source(folder / "source")
        source = {"source": str(folder / "source")}
    fields = modality.recipe.model_fields
    ingest = parse(fields["ingest"].annotation, {**case.ingest, **source}, at=f"{modality.name}.ingest")
    prepare = parse(fields["prepare"].annotation, case.prepare, at=f"{modality.name}.prepare")
    prepared = Prepared(modality, case, ingest, prepare, folder)
    prepared.bring_up_to_date()
    return prepared
