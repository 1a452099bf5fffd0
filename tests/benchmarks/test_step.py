"""`python -m benchmarks step`: its sizes are the reference's, parts of an update add up, comparisons are honest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks.document import Document, Row, compare, differences, machine
from benchmarks.peak import matmul_peak
from benchmarks.sections import PARTS, Sections
from benchmarks.sizes import Size, names_of, noise_batch, read_size
from benchmarks.suite import breakdown_table, speed_table, time_suite
from d2v.config import changed
from d2v.distributed.environment import DistEnv, own_device
from d2v.distributed.process_group import init_process_group
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.models.shards import count
from d2v.objectives.build import build_objective
from d2v.training.engine import open_engine
from d2v.training.states import trained
from d2v.training.step import train_step

CONF = Path(__file__).resolve().parents[2] / "conf"

MILLIONS = {
    "v2_image_32": 2.8,
    "v2_image_224s": 22.2,
    "v2_audio_4s": 8.1,
    "v2_text_128": 8.6,
    "v2_image_base": 88.2,
    "v2_audio_base": 93.8,
    "v2_text_base": 153.0,
    "v1_image_32": 2.7,
    "v1_image_224s": 21.7,
    "v1_audio_4s": 8.0,
    "v1_text_128": 5.6,
    "v1_image_base": 86.3,
    "v1_audio_base": 93.8,
    "v1_text_base": 126.4,
    "mae_224s": 23.6,
    "mae_base": 111.7,
}
"""Trained parameters of the reference at these sizes. Its short text still has rows for 512 positions."""


def test_the_sizes_are_the_references() -> None:
    assert names_of("all") == list(MILLIONS)
    for name in names_of("all"):
        size = read_size(name, CONF, "fp32")
        with torch.device("meta"):
            objective = build_objective(registry.get(size.modality), size.recipe)
        assert count(trained(objective).values()) / 1e6 == pytest.approx(MILLIONS[name], rel=0.02, abs=0.06), name


def test_small_ones_leave_the_papers_out() -> None:
    assert "v2_image_32" in names_of("small")
    assert not any(name.endswith("_base") for name in names_of("small"))
    with pytest.raises(ConfigError, match="no size v3"):
        read_size("v3", CONF, "fp32")
    with pytest.raises(ConfigError, match=r"no recipe .*--conf"):
        read_size("v2_image_32", CONF / "base", "fp32")


def _tiny() -> Size:
    size = read_size("v2_image_32", CONF, "fp32")
    smaller = {
        "encoder": {"width": 32, "depth": 2, "prenet_depth": 1, "heads": 2},
        "objective": {"decoder": {"width": 32, "layers": 2}, "targets": {"top_k_layers": 2}, "masks_per_sample": 2},
        "batch_size": 4,
    }
    return dataclasses.replace(size, recipe=changed(size.recipe, smaller, at="test"))


def test_the_parts_of_an_update_add_up_and_leave_nothing_behind() -> None:
    size = _tiny()
    with init_process_group(DistEnv(), 60) as group:
        objective = build_objective(registry.get("vision"), size.recipe).train()
        with open_engine(objective, size.recipe, group, "fp32") as engine:
            batch = noise_batch(size).to(group.env.device)
            train_step(size.recipe, objective, engine, 0, [batch])
            before = [dict(vars(one)) for one in (objective, objective.student, engine)]
            sections = Sections(objective, engine)
            with sections.timed():
                train_step(size.recipe, objective, engine, 2, [dataclasses.replace(batch, update=2)])
            assert [vars(one).keys() for one in (objective, objective.student, engine)] == [b.keys() for b in before]
            seen = dict(sections.seconds)
            train_step(size.recipe, objective, engine, 2, [dataclasses.replace(batch, update=2)])
            assert sections.seconds == seen
    assert set(seen) == set(PARTS)
    assert all(seconds > 0.0 for seconds in seen.values())


def test_a_peak_is_more_than_nothing() -> None:
    device = own_device()
    assert matmul_peak(device, torch.float32) > 1e9


UNITS = {"speed": "samples/s", "peak": "% of the peak", "ms": "ms"}


def _document(**medians: float) -> Document:
    rows = [
        Row(name, UNITS.get(name.partition("_")[0], "MB"), value, 0.9 * value, 1.1 * value)
        for name, value in medians.items()
    ]
    return Document("step", machine(), rows)


def test_a_ratio_above_one_is_better_and_one_within_the_spread_is_bracketed(tmp_path: Path) -> None:
    old = _document(speed_a=10.0, memory=100.0, speed_b=10.0, peak=30.0, ms=2.0, gone=1.0)
    old.write(tmp_path / "old.json")
    new = _document(speed_a=15.0, memory=50.0, speed_b=10.5, peak=60.0, ms=4.0, come=1.0)
    ratios = {row[0]: row[-1] for row in compare(Document.read(tmp_path / "old.json"), new).rows}
    assert ratios == {"speed_a": "1.50", "memory": "2.00", "speed_b": "(1.05)", "peak": "2.00", "ms": "0.50"}


def test_one_measurement_proves_nothing_and_another_machine_is_told() -> None:
    old, new = (Document("step", machine(), [Row.of("a", "ms", [ms])]) for ms in (2.0, 1.0))
    assert compare(old, new).rows[0][-1] == "(2.00)"
    assert differences(old, new) == []
    moved = dataclasses.replace(new, machine={**new.machine, "threads": 64})
    assert differences(old, moved) == [f"threads was {old.machine['threads']} and is 64"]


def test_documents_without_anything_in_common_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no metric in common"):
        compare(_document(speed_a=1.0), _document(speed_b=1.0))
    file = tmp_path / "x.json"
    for text in ("no json", "{}", '{"kind": "step", "machine": {}, "rows": [{"name": "a"}]}'):
        file.write_text(text)
        with pytest.raises(DataError, match=r"write one with --json"):
            Document.read(file)


def test_the_command_compares_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, speed in zip(files, (10.0, 20.0), strict=True):
        _document(speed=speed).write(file)
    monkeypatch.setattr("sys.argv", ["benchmarks", "compare", *map(str, files)])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code in (None, 0)
    assert capsys.readouterr().out.rstrip().endswith("| 2.00 |")


@pytest.mark.slow
def test_a_size_is_timed_in_a_process_of_its_own() -> None:
    document = time_suite(["v1_image_32"], ["fp32"], 1, 0.1, CONF)
    figures = {row.name: row.median for row in document.rows}
    ms = sum(figures[f"v1_image_32/fp32/part/{part}"] for part in PARTS)
    assert ms == pytest.approx(64e3 / figures["v1_image_32/fp32/speed"], rel=0.5)
    assert figures["v1_image_32/fp32/speed"] > 0.0
    assert 1.0 < figures["v1_image_32/fp32/of_matmul_peak"] < 100.0
    assert speed_table(document).rows[0][:2] == ("v1_image_32", "fp32")
    assert breakdown_table(document).rows[0][:2] == ("v1_image_32", "fp32")
