"""Whatever is done to a file, ingest ends with counts that add up, or with an error that says what to do."""

import collections
import random
import tempfile
import zlib
from pathlib import Path

import pytest

from d2v.data.ingest import IngestReport, ingest
from d2v.data.sources.source import Item, Source
from d2v.errors import DataError
from d2v.modalities import registry
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.text.config import TextIngestConfig
from d2v.modalities.vision.config import VisionIngestConfig
from tests.fuzzing.files import CONTAINERS, ITEMS
from tests.fuzzing.mutants import mutants

CONFIGS = {
    "vision": lambda source: VisionIngestConfig(source=source, max_pixels=100_000, max_item_bytes=2**20),
    "speech": lambda source: SpeechIngestConfig(source=source, max_seconds=60.0, max_item_bytes=2**20),
    "text": lambda source: TextIngestConfig(source=source, max_item_bytes=2**16, document="line"),
}
FILES = [(modality, form) for modality, forms in ITEMS.items() for form in forms]
ARCHIVES = [(modality, name) for modality, names in CONTAINERS.items() for name in names]
LARGE = 10_000
"""Mutants of a modality in the slow run, at least."""


def add_up(report: IngestReport) -> bool:
    return report.total == report.kept + report.quarantined + report.duplicates


def ingest_items(modality: str, form: str, count: int, folder: Path) -> IngestReport:
    make, one = ITEMS[modality][form], registry.get(modality)
    files = [make(n) for n in range(3)]
    damaged = mutants(files, count, seed=zlib.crc32(form.encode()))
    items = [Item(str(n), data) for n, data in enumerate([*files, *damaged])]
    source = Source(form, form, len(items), lambda start: iter(items[start:]))
    return ingest(
        source, one.reader(CONFIGS[modality]("")), one.facts, folder / form, {}, 2**24, 0.1, one.texts, in_workers=True
    )


def ingest_containers(modality: str, name: str, count: int) -> collections.Counter[str]:
    """How often what happened."""
    make, one, found = CONTAINERS[modality][name], registry.get(modality), collections.Counter[str]()
    damaged = mutants([make(n) for n in range(3)], count, seed=zlib.crc32((modality + name).encode()))
    for data in [make(0), *damaged]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            try:
                report = one.ingest(CONFIGS[modality](str(path)), Path(folder) / "corpus")
            except DataError:
                found["refused"] += 1
                continue
            assert add_up(report), (data, report)
            found["ingested"] += 1
    return found


@pytest.mark.parametrize(("modality", "form"), FILES)
def test_damaged_files(tmp_path: Path, modality: str, form: str) -> None:
    report = ingest_items(modality, form, 24, tmp_path)
    assert report.total == 27
    assert report.kept >= 3
    assert add_up(report)


@pytest.mark.parametrize(("modality", "name"), ARCHIVES)
def test_damaged_containers(modality: str, name: str) -> None:
    found = ingest_containers(modality, name, 10)
    assert found.total() == 11
    assert found["ingested"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "form"), FILES)
def test_many_damaged_files(tmp_path: Path, modality: str, form: str) -> None:
    count = LARGE // len(ITEMS[modality]) + 1
    report = ingest_items(modality, form, count, tmp_path)
    assert report.total == count + 3
    assert add_up(report)


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "name"), ARCHIVES)
def test_many_damaged_containers(modality: str, name: str) -> None:
    count = LARGE // len(CONTAINERS[modality]) + 1 if modality == "text" else 200
    assert ingest_containers(modality, name, count).total() == count + 1


def test_mutants_are_the_same_for_a_seed_and_differ_from_their_files() -> None:
    files = [random.Random(n).randbytes(400) for n in range(3)]
    made = list(mutants(files, 50, seed=1))
    assert made == list(mutants(files, 50, seed=1))
    assert made != list(mutants(files, 50, seed=2))
    assert sum(one in files for one in made) < 10
