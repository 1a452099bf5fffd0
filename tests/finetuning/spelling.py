"""Recordings that spell: every letter is a tone of its own, words are parted by silence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from d2v.config import parse
from d2v.errors import Interrupted
from d2v.finetuning.finetune import finetune
from d2v.modalities import registry
from d2v.modalities.speech.config import SpeechFinetuneConfig, SpeechTrainConfig
from d2v.tracker import NullTracker
from tests.checkpoints import stored
from tests.distributed.trainings import StopsItself
from tests.modalities.contract.case import RUN
from tests.modalities.speech.contract_case import CASE

RATE_HZ = 16_000
LETTERS_HZ = {"A": 300.0, "B": 800.0, "C": 2000.0}
LETTER_S, GAP_S = 0.08, 0.06
ENCODER = {
    "layout": "data2vec1",
    "convs": [[16, 40, 20], [32, 8, 4], [32, 4, 4]],  # 50 frames a second
    "width": 32,
    "depth": 2,
    "heads": 2,
    "position_layers": 1,
    "position_kernel": 5,
    "position_groups": 4,
}
WORDS = ("AB", "BA", "CAB", "AC", "BC")
SPEECH = registry.get("speech")


def spoken(text: str, random: np.random.Generator) -> np.ndarray:
    """(n,) float32 of a text: tones, silence between words, noise."""
    parts = [np.zeros(int(GAP_S * RATE_HZ))]
    for word in text.split():
        for letter in word:
            time_s = np.arange(int(LETTER_S * random.uniform(0.9, 1.1) * RATE_HZ)) / RATE_HZ
            tone = np.sin(2 * np.pi * LETTERS_HZ[letter] * time_s + random.uniform(0, 6)) * np.hanning(len(time_s))
            parts.append(tone)
        parts.append(np.zeros(int(GAP_S * RATE_HZ)))
    wave = np.concatenate(parts)
    return (0.3 * wave + 0.01 * random.standard_normal(len(wave))).astype(np.float32)


def write_spelling(folder: Path, train: int = 400, test: int = 40) -> None:
    """Recordings of one to three words with manifest.tsv; the class is the number of words."""
    rows = ["path\tsplit\tlabel\ttranscript\tspeaker"]
    for number in range(train + test):
        random = np.random.default_rng(number)
        text = " ".join(random.choice(WORDS, random.integers(1, 4)))
        soundfile.write(folder / f"{number}.wav", spoken(text, random), RATE_HZ)
        names = ",".join(sorted(set(text) - {" "}))
        rows.append(f"{number}.wav\t{'train' if number < train else 'test'}\t{len(text.split())}\t{text}\t{names}")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")


def prepare_spelling(folder: Path) -> Path:
    """The prepared folder of such recordings."""
    (folder / "source").mkdir(parents=True)
    write_spelling(folder / "source")
    fields = SPEECH.recipe.model_fields
    ingest = parse(fields["ingest"].annotation, {"source": str(folder / "source")})
    prepare = parse(fields["prepare"].annotation, {"min_seconds": 0.15, "probe_max_seconds": 1.0})
    SPEECH.ingest(ingest, folder / "corpus")
    SPEECH.prepare(prepare, folder / "corpus", folder / "prepared")
    return folder / "prepared"


def train_recipe() -> SpeechTrainConfig:
    """The train block that encoders are built from."""
    recipe: SpeechTrainConfig = parse(SPEECH.train_config, {**RUN, **CASE.recipes["data2vec1"], "encoder": ENCODER})
    return recipe


def finetune_recipe(**changes: Any) -> SpeechFinetuneConfig:
    """A finetune block: a few updates of transcription, of random weights."""
    run = {
        "optimizer": {"lr": 3e-3, "weight_decay": 0.0, "clip_norm": None},
        "batch_size": 8,
        "max_updates": 6,
        "precision": "fp32",
        "log_every_updates": 1,
        "checkpoint": {"every_updates": 2},
        "encoder": {"dropout": 0.0, "attention_dropout": 0.0},
        "bootstrap_resamples": 100,
    }
    return parse(SpeechFinetuneConfig, {"task": {"name": "transcription"}, **run, **changes})


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning of random weights.

    Attributes:
        prepared: what prepare left.
        out: run folder.
        changes: of the finetune block.
        stop_after: it gets a SIGTERM after so many updates.
    """

    prepared: Path
    out: Path
    changes: dict[str, Any] = field(default_factory=dict)
    stop_after: int | None = None

    def recipe(self) -> SpeechFinetuneConfig:
        """Its finetune block."""
        return finetune_recipe(**self.changes)

    def run(self) -> Tuning:
        """Tune, or go on tuning."""
        try:
            tracker = StopsItself(self.stop_after)
            finetune(SPEECH, self.recipe(), train_recipe(), self.prepared, None, self.out, tracker)
        except Interrupted:
            if self.stop_after is None:
                raise
        return self

    def into(self, out: Path, **changes: Any) -> Tuning:
        """The same with other settings, in another folder."""
        return replace(self, out=out, changes={**self.changes, **changes})

    def result(self) -> dict[str, Any]:
        """What the last checkpoint holds."""
        return stored(self.out / f"checkpoints/update-{self.recipe().max_updates:08d}")


__all__ = ["NullTracker", "Tuning", "finetune_recipe", "prepare_spelling", "spoken", "train_recipe"]
