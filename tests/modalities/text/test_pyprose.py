"""The corpus of prose out of installed packages."""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib.metadata import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from d2v.data.prepared import Corpus
from d2v.errors import DataError
from d2v.modalities.text import pyprose
from d2v.modalities.text.acceptability import split_sentences
from d2v.modalities.text.duplicates import NearDuplicates
from d2v.modalities.text.modality import Text
from d2v.modalities.text.prose import is_prose
from d2v.modalities.text.pyprose import HELD_OUT, pyprose_source
from d2v.reporting.model_card import write_model_card
from pipelines.recipes import parse_all
from tests.test_recipes import load

ROOT = Path(__file__).resolve().parents[3]
LICENCES = {name: licence for licence, names in pyprose.LICENCES.items() for name in names.split()}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus of three small packages and one that is not there."""
    monkeypatch.setattr(pyprose, "LICENCES", {"MIT": "filelock no-such-package pluggy", "BSD-3-Clause": "click"})
    monkeypatch.setattr(pyprose, "HELD_OUT", {"click": "test"})


@pytest.mark.usefixtures("few")
def test_a_package_is_in_one_split_and_everything_is_prose() -> None:
    source = pyprose_source()
    items = list(source.items(0))
    assert {(item.group, item.split) for item in items} == {
        ("click", "test"),
        ("filelock", "train"),
        ("pluggy", "train"),
    }
    assert all(item.key.startswith(f"{item.group}/") for item in items)
    assert len({item.key for item in items}) == len(items)
    assert "click/click/core.py" in {item.key for item in items}
    paragraphs = [paragraph for item in items for paragraph in item.data.decode().split("\n\n")]
    assert sum(map(len, paragraphs)) > 150_000
    assert all(is_prose(sentence) for paragraph in paragraphs for sentence in split_sentences(paragraph))
    again = NearDuplicates()
    assert all(again.is_new(paragraph) for paragraph in paragraphs)
    assert [item.data for item in source.items(40)] == [item.data for item in items[40:]]
    assert source.remarks() == ["packages of pyprose that are not installed: no-such-package"]


@pytest.mark.usefixtures("few")
def test_other_versions_are_another_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    source = pyprose_source()
    assert pyprose_source().fingerprint == source.fingerprint
    monkeypatch.setattr(pyprose, "_find", lambda name: SimpleNamespace(version="0.0") if name == "click" else None)
    click = pyprose_source().fingerprint
    monkeypatch.setattr(pyprose, "_find", lambda name: SimpleNamespace(version="0.1") if name == "click" else None)
    assert pyprose_source().fingerprint != click
    assert click != source.fingerprint


def test_without_any_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyprose, "LICENCES", {"MIT": "no-such-package"})
    with pytest.raises(DataError, match=r"set text\.ingest\.source"):
        pyprose_source()


@pytest.mark.usefixtures("few")
def test_licences_go_to_the_model_card(tmp_path: Path) -> None:
    recipe = parse_all(load("pyprose")["parameters"])["text"]
    Text().ingest(recipe.ingest, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert set(corpus.splits) == {"train", "test"}
    small = recipe.prepare.model_copy(update={"vocab_size": 400, "probe_train_items": 20, "probe_test_items": 20})
    about = Text().prepare(small, tmp_path / "corpus", tmp_path / "prepared")
    licence = f"BSD-3-Clause: click {metadata('click')['Version']}; MIT: filelock {metadata('filelock')['Version']}"
    assert str(about["licence"]).startswith(licence)
    ranks = {"probe/rank": 2.0, "probe/rank_random": 1.0}
    card = write_model_card(tmp_path / "card.md", "text", recipe.train, about, ranks, {}, "bag of words")
    assert licence in card.read_text()


def test_packages_are_locked_and_their_licences_what_they_say() -> None:
    locked = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert set(LICENCES) <= locked
    assert set(HELD_OUT) <= set(LICENCES)
    said = {name: metadata(name).json.get("license_expression") for name in LICENCES if pyprose._find(name)}
    known = {name: expression for name, expression in said.items() if expression}
    assert len(known) > 30
    assert known == {name: LICENCES[name] for name in known}


@pytest.mark.slow
def test_the_whole_corpus() -> None:
    digests = []
    for _ in range(2):
        characters: Counter[str] = Counter()
        digest = hashlib.sha256()
        for item in pyprose_source().items(0):
            characters[str(item.split)] += len(item.data)
            digest.update(item.key.encode() + item.data)
        digests.append(digest.hexdigest())
    total = characters.total()
    assert total > 20_000_000
    assert all(0.04 < characters[split] / total < 0.07 for split in ("val", "test"))
    assert digests[0] == digests[1]
