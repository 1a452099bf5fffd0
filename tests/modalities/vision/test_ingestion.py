"""A folder as people have them: good files, broken ones, twins. Every one of them is accounted for."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.modality import Vision
from tests.modalities.vision.test_reading import CONFIG, READ, REJECTED, encode, noise

FILES = {name: data for cases in (READ, REJECTED) for name, (data, *_) in cases.items() if isinstance(data, bytes)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every kind of file in one class folder, a twin of one picture in another class, and hostile links."""
    (tmp_path / "images" / "all kinds").mkdir(parents=True)
    (tmp_path / "images" / "twins").mkdir()
    for name, data in FILES.items():
        (tmp_path / "images" / "all kinds" / f"{name}.img").write_bytes(data)
    (tmp_path / "images" / "twins" / "a.png").write_bytes(encode(noise(7), "PNG"))
    (tmp_path / "images" / "twins" / "b.png").write_bytes(encode(noise(7), "PNG"))
    (tmp_path / "images" / "twins" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    return tmp_path / "images"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_is_kept_quarantined_with_its_reason_or_a_duplicate(folder: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"source": str(folder)})
    report = Vision().ingest(config, tmp_path / "corpus")
    kept = {row["key"] for row in pq.read_table(tmp_path / "corpus" / "manifest.parquet").to_pylist()}
    quarantine = {row["key"]: row["reason"] for row in rows(tmp_path / "corpus" / "quarantine.csv")}
    duplicates = rows(tmp_path / "corpus" / "duplicates.csv")

    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    assert kept | set(quarantine) | {row["key"] for row in duplicates} == there
    assert report.total == len(there) == report.kept + report.quarantined + report.duplicates
    good = {f"all kinds/{name}.img" for name in READ if name in FILES}
    assert kept == good | {"twins/a.png"}
    twin = {"key": "twins/b.png", "duplicate_of": "twins/a.png", "across_splits": "no", "contradiction": ""}
    assert duplicates == [twin]
    assert set(quarantine) == there - kept - {"twins/b.png"}
    assert all(len(reason) > 10 for reason in quarantine.values())
    assert "above max_pixels" in quarantine["all kinds/gigapixel.img"]
    assert "unreadable" in quarantine["twins/gone.png"]
    assert report.notes["CMYK to RGB"] == 2


def test_embedded_glyphs_are_the_same_every_time(tmp_path: Path) -> None:
    options = {"count": 60, "test_count": 20, "px": 16}
    first = Vision().ingest(VisionIngestConfig(source="glyphs", options=options), tmp_path / "a")
    second = Vision().ingest(VisionIngestConfig(source="glyphs", options=options), tmp_path / "b")
    assert first.fingerprint == second.fingerprint
    assert first.splits == {"train": 60, "test": 20}
