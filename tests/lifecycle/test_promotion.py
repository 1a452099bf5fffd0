"""Promotion through the registry: the same weights, a leak, other classes, and what a served model answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from d2v.config import parse
from d2v.errors import CheckpointError
from d2v.finetuning.model import FinetunedModel
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.lifecycle.gate import Check, Decision, Verdict
from d2v.lifecycle.lineage import register_encoder_of
from d2v.lifecycle.measure import in_terms_of
from d2v.lifecycle.promotion import PromotionInputs, Unfinished, decide_encoder, promote
from d2v.lifecycle.retraining import Plan
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionRecipe
from d2v.statistics import Interval
from d2v.tracker import NullTracker
from d2v.tracking import versions
from tests.lifecycle.retrainings import CLASSES, RECIPE, add_pictures, picture, retrain_once

VISION = registry.get("vision")


@pytest.fixture
def promotion(client: MlflowClient, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """One retraining's champions; the call promotes again and gives decision.json."""
    source = tmp_path / "source"
    add_pictures(source, "train", 16, 0)
    add_pictures(source, "test", 60, 0)
    with mlflow.start_run():
        retrain_once(source, tmp_path)
    recipe = parse(VisionRecipe, RECIPE | {"ingest": {"source": str(source)}})

    def again() -> dict[str, Any]:
        held_out = Plan.of(recipe).held_out(VISION, tmp_path / "prepared")
        VISION.ingest(recipe.ingest, tmp_path / "corpus")
        VISION.prepare(recipe.prepare, tmp_path / "corpus", tmp_path / "prepared")
        promote(PromotionInputs(held_out, tmp_path / "corpus"), tmp_path / "promotion", NullTracker())
        return cast(dict[str, Any], json.loads((tmp_path / "promotion" / "decision.json").read_text()))

    return again


def test_what_a_champion_is_and_what_it_says(promotion: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    decisions = promotion()
    assert {one["outcome"] for one in decisions.values()} == {"nothing"}
    assert "champion's weights" in decisions["d2v-vision"]["why"]
    check_registered()
    check_leak(promotion, tmp_path)


def check_registered() -> None:
    for name, digest in (("d2v-vision", "encoder_sha256"), ("d2v-vision-tuned", "model_sha256")):
        champion = versions.find(name, "champion")
        facts = {digest, "data_fingerprint", "corpus_fingerprint", "recipe_digest", "git_commit", "run_id"}
        assert facts <= champion.tags.keys()
        card = MlflowClient().get_model_version(name, str(champion.number)).description
        assert all(word in card for word in ("Data", "Quality", "Limits", "licence", champion.tags["data_fingerprint"]))
        assert len(card) <= 5000
    images = pd.DataFrame({"image": [png(picture(kind, 5)) for kind in CLASSES]})
    answers = mlflow.pyfunc.load_model("models:/d2v-vision-tuned@champion").predict(images)
    assert set(answers) <= set(CLASSES)
    assert len(answers) == 4


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def check_leak(promotion: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    """The challenger was trained on what is now held out."""
    MlflowClient().delete_registered_model_alias("d2v-vision", "champion")
    source = tmp_path / "source"
    moved = next((source / "train" / CLASSES[0]).iterdir())
    moved.rename(source / "test" / CLASSES[0] / f"from-{moved.name}")
    decision = promotion()["d2v-vision"]
    assert decision["outcome"] == "kept"
    leak = decision["checks"][0]
    assert (leak["challenger"], leak["passed"]) == ("1", False)
    assert versions.find("d2v-vision", "champion") is None
    report = (tmp_path / "promotion" / "report.md").read_text()
    assert "| held-out items that it was trained on | 1 |" in report
    assert (tmp_path / "promotion" / "report.html").is_file()


class Registry:
    """Versions 1 (champion) and 2 (challenger) of an encoder, and what is done to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aliases = {"champion": 1, "challenger": 2}
        self.tags: dict[int, dict[str, str]] = {1: {"encoder_sha256": "a"}, 2: {"encoder_sha256": "b"}}
        self.fails_at: str | None = None
        for name in ("find", "set_alias", "set_tag", "version_number"):
            monkeypatch.setattr(versions, name, getattr(self, name))
        monkeypatch.setattr(versions, "fetch", lambda version, into: version)
        judged = Verdict("promoted", "promoted: better", ())
        monkeypatch.setattr("d2v.lifecycle.promotion.judge", lambda *arguments: judged)
        monkeypatch.setattr("d2v.lifecycle.promotion._measure", self.measure)

    def find(self, name: str, alias: str) -> versions.Version | None:
        number = self.aliases.get(alias)
        return versions.Version(name, number, dict(self.tags[number])) if number else None

    def version_number(self, name: str, number: int) -> versions.Version:
        return versions.Version(name, number, dict(self.tags[number]))

    def measure(self, *arguments: Any) -> tuple[Any, Any]:
        return None, None

    def set_alias(self, version: versions.Version, alias: str) -> None:
        self._change(alias)
        self.aliases[alias] = version.number

    def set_tag(self, version: versions.Version, key: str, text: str) -> None:
        self._change("tag")
        self.tags[version.number][key] = text

    def _change(self, what: str) -> None:
        if what == self.fails_at:
            raise ConnectionError(what)


CONTEST = cast(Any, SimpleNamespace(held_out=SimpleNamespace(modality=VISION, promote=None)))


@pytest.mark.parametrize("fails_at", ["previous", "champion", "tag"])
def test_an_interrupted_promotion_is_done_again_as_a_whole(monkeypatch: pytest.MonkeyPatch, fails_at: str) -> None:
    found = Registry(monkeypatch)
    found.fails_at = fails_at
    with pytest.raises(ConnectionError):
        decide_encoder(CONTEST)
    assert "promotion" not in found.tags[2], "a judged challenger is not looked at again"
    found.fails_at = None
    decide_encoder(CONTEST)
    assert found.aliases == {"champion": 2, "previous": 1, "challenger": 2}
    assert found.tags[2]["promotion"].startswith("promoted")


def test_a_champion_that_came_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Registry(monkeypatch)
    found.tags[3] = {"encoder_sha256": "c"}

    def measure(*arguments: Any) -> tuple[Any, Any]:
        found.aliases["champion"] = 3
        return None, None

    monkeypatch.setattr("d2v.lifecycle.promotion._measure", measure)
    with pytest.raises(CheckpointError, match="promote again"):
        decide_encoder(CONTEST)
    assert found.aliases == {"champion": 3, "challenger": 2}


def test_without_a_challenger_the_error_says_how_to_get_one(client: MlflowClient, tmp_path: Path) -> None:
    recipe = parse(VisionRecipe, RECIPE | {"ingest": {"source": "nowhere"}})
    promotion = PromotionInputs(Plan.of(recipe).held_out(VISION, tmp_path), tmp_path)
    with pytest.raises(CheckpointError, match="kedro run --pipeline=pretrain_vision"):
        promote(promotion, tmp_path, NullTracker())


def tuned(task: Classification | Multilabel) -> FinetunedModel:
    return cast(FinetunedModel, SimpleNamespace(task=task))


def test_predictions_are_read_by_the_names_of_classes() -> None:
    config = SimpleNamespace(metrics=())
    model = tuned(Classification(cast(Any, config), ("cat", "dog", "gone")))
    assert in_terms_of(("bird", "cat", "dog"), model, np.array([0, 1, 2])).tolist() == [1, 2, 5]
    several = tuned(Multilabel(cast(Any, config), ("dog", "cat")))
    scores = in_terms_of(("cat", "dog", "new"), several, np.array([[0.5, -1.0]]))
    assert scores.tolist() == [[-1.0, 0.5, -1.0]]


def test_an_encoder_of_other_data_is_registered_without_a_lineage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may be measured on any data, but what it was trained on is then not what lies there."""
    (tmp_path / "result.json").write_text('{"recipe": {}, "data_fingerprint": "of-then+start"}')
    (tmp_path / "model_card.md").write_text("card")
    (tmp_path / "metrics.json").write_text("{}")
    modality = cast(Any, SimpleNamespace(name="vision", open=lambda folder: SimpleNamespace(fingerprint="of-now")))
    noted = []
    monkeypatch.setattr(
        "d2v.lifecycle.lineage.registry.register_encoder", lambda *arguments, notes: noted.append(notes) or "1"
    )
    register_encoder_of(modality, tmp_path, tmp_path, tmp_path, tmp_path)
    assert noted[0].lineage is None


@pytest.mark.parametrize("fails_at", ["previous", "champion", "tag"])
def test_an_interrupted_promotion_ends_in_what_it_had_decided(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails_at: str
) -> None:
    found = Registry(monkeypatch)
    found.fails_at = fails_at
    with pytest.raises(ConnectionError):
        decide_encoder(CONTEST, Unfinished(tmp_path / "unfinished.json"))
    found.fails_at = None
    measured: list[str] = []
    monkeypatch.setattr("d2v.lifecycle.promotion._measure", lambda name, *_: measured.append(name))
    decision = decide_encoder(CONTEST, Unfinished(tmp_path / "unfinished.json"))
    assert (decision.outcome, decision.why, measured) == ("promoted", "promoted: better", [])
    assert found.aliases == {"champion": 2, "challenger": 2, "previous": 1}
    assert found.tags[2]["promotion"] == "promoted: better"


def test_a_decision_about_another_challenger_is_not_taken_up(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "unfinished.json")
    kept.keep(Decision("d2v-vision", "kept", "why", 2, 1, (Check("a", "1", "2", "3", True),), Interval(1.0, 0.0, 2.0)))
    again = Unfinished(tmp_path / "unfinished.json")
    assert again.about(versions.Version("d2v-vision", 2)) == kept.about(versions.Version("d2v-vision", 2))
    assert again.about(versions.Version("d2v-vision", 3)) is None
    again.end()
    assert Unfinished(tmp_path / "unfinished.json").about(versions.Version("d2v-vision", 2)) is None
