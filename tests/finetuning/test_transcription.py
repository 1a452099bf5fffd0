"""Transcripts by CTC: the loss, what cannot be learned, a training that learns to spell, and its metrics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from d2v.config import DistributedConfig, TranscriptionTask
from d2v.data.batch import Batch, SampleKeys
from d2v.distributed.launch import launch
from d2v.errors import DataError
from d2v.finetuning import metrics
from d2v.finetuning.ctc_vocabulary import BLANK, UNKNOWN, CtcVocabulary
from d2v.finetuning.data import chosen_rows, labelled_splits
from d2v.finetuning.decoding.language import LANGUAGE_MODEL, Heard, search_decoder
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.finetune import Setting
from d2v.finetuning.model import load_finetuned
from d2v.finetuning.objective import FineTuning
from d2v.finetuning.predictions import predict
from d2v.finetuning.tasks.transcription import Transcription
from d2v.models.ngram import load_arpa
from d2v.tracker import NullTracker
from d2v.training.schedule import learning_rate
from tests.checkpoints import stored
from tests.distributed.trainings import furthest
from tests.finetuning.spelling import SPEECH, Tuning, finetune_recipe, prepare_spelling, train_recipe

ABC = CtcVocabulary(("A", "B", "C"))
TASK = Transcription(TranscriptionTask(name="transcription"), ABC)
SPELLS = {
    "task": {"name": "transcription", "decoding": {"decoder": "beam", "width": 10}},
    "optimizer": {"lr": 8e-3, "weight_decay": 0.0, "clip_norm": 1.0},
    "schedule": {"warmup_updates": 20},
    "batch_size": 16,
    "max_updates": 220,
    "log_every_updates": 20,
    "checkpoint": {"every_updates": 1000},
    "dev_share": 0.1,
}


class Texts:
    """A part that is known by its transcripts and frames only."""

    scores = None
    seconds = None

    def __init__(self, texts: Sequence[str | None], frames: Sequence[int]) -> None:
        self.texts, self.frames = texts, np.array(frames)
        self.labels = np.full(len(texts), -1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_spelling(tmp_path_factory.mktemp("spelling"))


@pytest.fixture(scope="module")
def speller(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """A finished training that has learned to spell."""
    return Tuning(prepared, tmp_path_factory.mktemp("speller") / "run", SPELLS).run()


# ---------------------------------------------------------------------------------------------- the loss


def log_likelihood(log_probs_TC: np.ndarray, letters: Sequence[int]) -> float:
    """ln p of a text: the sum over all paths that spell it, one after the other (Graves et al. 2006, equation 3)."""

    def spelled(path: Sequence[int]) -> list[int]:
        return [symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK]

    used, frames = sorted({BLANK, *letters}), np.arange(len(log_probs_TC))
    paths = (path for path in itertools.product(used, repeat=len(frames)) if spelled(path) == list(letters))
    return float(np.logaddexp.reduce([log_probs_TC[frames, path].sum() for path in paths]))


def test_the_loss_is_the_sum_over_all_alignments_of_recordings_side_by_side() -> None:
    split = Texts(["AB", "A", "CC"], [6, 3, 7])
    outputs = torch.randn(3, 7, len(ABC), generator=torch.Generator().manual_seed(0))
    targets, lengths = TASK.targets(split, np.arange(3)), torch.tensor([6, 3, 7])
    assert targets.tolist() == [[5, 6, 4], [5, 4, -1], [7, 7, 4]]
    by_hand = 0.0
    for row, length in enumerate(lengths.tolist()):
        letters = [letter for letter in targets[row].tolist() if letter >= 0]
        by_hand -= log_likelihood(outputs[row, :length].double().log_softmax(-1).numpy(), letters)
    assert TASK.loss(outputs, targets, lengths).item() == pytest.approx(by_hand, rel=1e-5)
    assert TASK.units(targets).item() == 3


def test_padding_changes_neither_loss_nor_gradient() -> None:
    split = Texts(["AB CA", "B"], [20, 9])
    outputs = torch.randn(2, 20, len(ABC), generator=torch.Generator().manual_seed(1))
    targets, lengths = TASK.targets(split, np.arange(2)), torch.tensor([20, 9])
    other = outputs.clone()
    other[1, 9:] = 50.0
    for one in (outputs, other):
        one.requires_grad_()
    losses = [TASK.loss(one, targets, lengths) for one in (outputs, other)]
    assert losses[0].item() == losses[1].item()
    gradients = [torch.autograd.grad(loss, one)[0] for loss, one in zip(losses, (outputs, other), strict=True)]
    assert torch.equal(gradients[0][1, :9], gradients[1][1, :9])
    assert gradients[1][1, 9:].abs().max() == 0.0
    alone = TASK.loss(outputs[1:, :9], TASK.targets(split, np.array([1])), None)
    assert losses[0].item() == pytest.approx(alone.item() + TASK.loss(outputs[:1], targets[:1], None).item(), rel=1e-6)


def test_a_recording_that_is_too_short_counts_as_nothing() -> None:
    """AAB needs A, blank, A, B, |: five frames."""
    split = Texts(["AAB", "C"], [4, 4])
    outputs = torch.randn(2, 4, len(ABC), generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss = TASK.loss(outputs, TASK.targets(split, np.arange(2)), torch.tensor([4, 4]))
    assert math.isfinite(loss.item())
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad[0].abs().max() == 0.0
    assert outputs.grad[1].abs().max() > 0.0
    assert (TASK.too_short(split, np.arange(2)), TASK.too_short(Texts(["AAB"], [5]), np.arange(1))) == (1, 0)


def test_what_cannot_be_learned_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    TASK.announce(Texts(["AAB", "C", "A Zebra, Z"], [4, 4, 40]), np.arange(3))
    said = capsys.readouterr().err
    assert "1 of 3 recordings are too short for their transcripts and teach nothing" in said
    assert "never written: Z (2), E (1), R (1)" in said
    assert "only part words: , (1)" in said
    with pytest.raises(DataError, match="None of the 2 training recordings"):
        TASK.announce(Texts(["AAB", "ABC"], [4, 3]), np.arange(2))


def test_unknown_letters_are_learned_as_unk_and_never_written() -> None:
    split = Texts(["AZ"], [9])
    assert TASK.targets(split, np.array([0])).tolist() == [[5, UNKNOWN, 4]]
    assert TASK.references(split, np.array([0])) == ["AZ"]
    outputs = torch.full((1, 3, len(ABC)), -9.0)
    outputs[0, [0, 1, 2], [5, UNKNOWN, 4]] = 9.0
    assert "Z" not in TASK.predict(outputs, None)[0]


def test_rows_without_a_transcript_are_not_used() -> None:
    assert TASK.usable(Texts(["A", None, "", " - ", "b"], [9] * 5)).tolist() == [0, 4]


# ------------------------------------------------------------------------------------------- what is hidden


def test_hidden_spans_lie_within_recordings_and_depend_on_sample_and_update(prepared: Path) -> None:
    mask = {"time_ratio": 0.4, "time_span": 3, "channel_ratio": 0.3, "channel_span": 4}
    setting = Setting(SPEECH, finetune_recipe(mask=mask), train_recipe(), prepared, None)
    objective = setting.build()
    assert isinstance(objective, FineTuning)
    data = setting.open_data()

    def hidden(update: int, rows: Sequence[int]) -> tuple[Batch, Any]:
        batch = data.batch(SampleKeys(update, np.array(rows), np.zeros(len(rows), np.int64)), setting.config)
        return batch, objective.draw_masks(batch, 0, "cpu")

    batch, first = hidden(0, range(8))
    frames = objective.student.token_lengths(batch.lengths)
    assert frames is not None
    assert len(set(frames.tolist())) > 1
    for row, length in enumerate(frames.tolist()):
        assert not first.tokens_BT[row, length:].any()
        assert 0.1 < first.tokens_BT[row, :length].float().mean() < 0.6
    assert 0.05 < first.channels_BD.float().mean() < 0.5
    assert first.count.item() == 8
    assert torch.equal(hidden(0, range(8))[1].tokens_BT, first.tokens_BT)
    assert not torch.equal(hidden(1, range(8))[1].tokens_BT, first.tokens_BT)
    with_hidden = objective.train()(batch, first).loss_sum.item()
    assert with_hidden != objective(batch, replace(first, tokens_BT=None, channels_BD=None)).loss_sum.item()


# ---------------------------------------------------------------------------------------------- trainings


def test_it_learns_to_spell_and_its_metrics_are_those_of_its_texts(speller: Tuning, tmp_path: Path) -> None:
    measured = evaluate_finetuned(SPEECH, speller.recipe(), speller.prepared, speller.out, tmp_path, NullTracker())
    assert measured["eval/cer"] < 0.3
    assert measured["eval/wer_lm"] < measured["eval/wer"]
    assert (measured["eval/items"], measured["eval/too_short_items"]) == (40, 0)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    for suffix in ("", "_lm"):
        texts, right = list(table[f"predicted{suffix}"]), list(table["right"])
        assert measured[f"eval/wer{suffix}"] == metrics.word_error_rate(texts, right)
        assert measured[f"eval/cer{suffix}"] == metrics.character_error_rate(texts, right)
        assert measured[f"eval/wer{suffix}_low"] <= measured[f"eval/wer{suffix}"] <= measured[f"eval/wer{suffix}_high"]
    model, splits = load_finetuned(speller.out / "model"), splits_of(speller)
    rows = model.task.usable(splits["test"])
    assert predict(model, splits["test"], rows, 7) == list(table["predicted"])
    assert model.predict(splits["test"].inputs(rows[:5])) == list(table["predicted"][:5])
    assert "Metrics that end with _lm are of a beam search" in (tmp_path / "report.md").read_text()
    words = set(load_arpa(tmp_path / LANGUAGE_MODEL).words) - {"<s>", "</s>", "<unk>"}
    train = splits["train"]
    assert words == {word for row in range(len(train.texts)) for word in (train.texts[row] or "").split()}
    assert len(splits["dev"].texts) == 40
    assert len(train.texts) == 360


def splits_of(tuning: Tuning) -> Any:
    return labelled_splits(SPEECH, SPEECH.open(tuning.prepared), tuning.recipe(), train_recipe(), {})


def test_greedy_metrics_need_no_language_model(speller: Tuning, tmp_path: Path) -> None:
    recipe = finetune_recipe(**{**SPELLS, "task": {"name": "transcription"}})
    measured = evaluate_finetuned(SPEECH, recipe, speller.prepared, speller.out, tmp_path, NullTracker())
    assert "eval/wer" in measured
    assert not {"eval/wer_lm", "eval/lm_weight"} & measured.keys()
    assert not (tmp_path / LANGUAGE_MODEL).exists()


def small(prepared: Path, out: Path, **changes: Any) -> Tuning:
    """Six updates with all that can make a step random."""
    noise = {"encoder": {"dropout": 0.1}, "mask": {"time_ratio": 0.3, "time_span": 3, "replacement": "noise"}}
    return Tuning(prepared, out, {**noise, **changes})


def test_an_interrupted_tuning_ends_with_the_same_bits(prepared: Path, tmp_path: Path) -> None:
    whole = small(prepared, tmp_path / "whole").run()
    again = small(prepared, tmp_path / "again").run()
    assert furthest(whole.result(), again.result())[0] == 0.0
    parted = Tuning(prepared, tmp_path / "parted", whole.changes, stop_after=3)
    parted.run()
    assert not (parted.out / "model").exists()
    resumed = Tuning(prepared, tmp_path / "parted", whole.changes).run()
    assert furthest(whole.result(), resumed.result())[0] == 0.0
    files = [(tuning.out / "model" / "encoder.safetensors").read_bytes() for tuning in (whole, resumed)]
    assert files[0] == files[1]


def test_a_frozen_start_trains_the_head_alone(prepared: Path, tmp_path: Path) -> None:
    schedule = {"name": "tri_stage", "phases": [0.5, 0.25, 0.25], "init_scale": 0.1, "final_scale": 0.05}
    tuning = small(prepared, tmp_path, frozen_updates=2, max_updates=4, schedule=schedule).run()
    fresh = Setting(SPEECH, tuning.recipe(), train_recipe(), prepared, None).build()
    frozen = weights_at(tuning, 2)
    for name, start in fresh.state_dict().items():
        moved = not torch.equal(frozen[name], start)
        assert moved == name.startswith("head."), name
    assert any(
        not torch.equal(weights_at(tuning, 4)[n], t) for n, t in frozen.items() if n.startswith("student.blocks")
    )
    rates = [learning_rate(tuning.recipe().schedule, 1.0, update, 4) for update in range(5)]
    assert rates == pytest.approx([0.1, 0.55, 1.0, 1.0, 0.05])


def test_frozen_convolutions_leave_their_projection_to_train(prepared: Path, tmp_path: Path) -> None:
    """As fairseq's `feature_grad_mult: 0`, which trains `layer_norm` and `post_extract_proj`."""
    tuning = small(prepared, tmp_path, frozen_local=True, max_updates=2).run()
    fresh = Setting(SPEECH, tuning.recipe(), train_recipe(), prepared, None).build()
    trained, starts = weights_at(tuning, 2), fresh.state_dict()
    local = {name for name in starts if name.startswith("student.stem.local.")}
    behind = {f"student.stem.local.{module}.{kind}" for module in ("norm", "projection") for kind in ("weight", "bias")}
    assert {name for name in local if name in trained and not torch.equal(trained[name], starts[name])} == behind
    assert local - behind


def weights_at(tuning: Tuning, update: int) -> dict[str, Tensor]:
    """Weights of a checkpoint."""
    found = stored(tuning.out / f"checkpoints/update-{update:08d}")
    return {name.removeprefix("trained/"): tensor for name, tensor in found.items() if name.startswith("trained/")}


def run_here(tuning: Tuning) -> None:
    """As one rank."""
    tuning.run()


@pytest.mark.slow
def test_two_ranks_end_with_the_bits_of_one(prepared: Path, tmp_path: Path) -> None:
    one = small(prepared, tmp_path / "one", accumulation_steps=2, encoder={}).run()
    two = one.into(tmp_path / "two", accumulation_steps=1, distributed={"ranks": 2})
    launch(DistributedConfig(ranks=2, timeout_s=60), tmp_path / "logs", run_here, tuning=two)
    assert furthest(one.result(), two.result())[0] == 0.0


def test_fewer_minutes_of_labels_are_a_part_of_more(prepared: Path) -> None:
    splits = labelled_splits(SPEECH, SPEECH.open(prepared), finetune_recipe(), train_recipe(), {})
    train, task = splits["train"], Transcription(TranscriptionTask(name="transcription"), ABC)
    chosen = {}
    for minutes in (0.2, 0.5, 1.0, 60.0):
        chosen[minutes] = chosen_rows(train, task, finetune_recipe(labels={"minutes": minutes}))
        assert train.seconds is not None
        assert train.seconds[chosen[minutes]].sum() <= 60 * minutes
    assert set(chosen[0.2]) < set(chosen[0.5]) < set(chosen[1.0]) < set(chosen[60.0])
    assert len(chosen[60.0]) == 400
    assert train.seconds[chosen[1.0]].sum() > 58.0


# ------------------------------------------------------------------------------------------ the decoder


def sure(text: str, heard: dict[int, str] | None = None) -> Tensor:
    """(T, C) log probabilities of a text, each letter followed by a blank; some letters are heard as others."""
    ids = ABC.encode(text)
    logits_TC = torch.zeros(2 * len(ids), len(ABC))
    for place, letter in enumerate(ids):
        logits_TC[2 * place, letter] = logits_TC[2 * place + 1, BLANK] = 8.0
    for place, other in (heard or {}).items():
        logits_TC[2 * place, ABC.symbols.index(other)] = 8.2
    return logits_TC.log_softmax(-1)


def test_the_decoder_follows_the_recipe(tmp_path: Path) -> None:
    blurred = sure("CAB AC", {1: "C"})[None]
    decoding = TranscriptionTask.model_validate(
        {"name": "transcription", "decoding": {"decoder": "beam", "lm_weight": 2.0, "lm_order": 2}}
    ).decoding
    decoder, settings = search_decoder(decoding, ABC, ["CAB AC", "BA CAB"], tmp_path, None)
    assert (settings.lm_weight, settings.word_bonus) == (2.0, 0.0)
    assert decoder.decode(blurred) == ["CAB AC"]
    assert load_arpa(tmp_path / LANGUAGE_MODEL).order == 2
    from_file = decoding.model_copy(update={"language_model": str(tmp_path / LANGUAGE_MODEL)})
    decoder, _ = search_decoder(from_file, ABC, ["AC"], tmp_path / "none", None)
    assert decoder.decode(blurred) == ["CAB AC"]
    assert not (tmp_path / "none").exists()


def test_a_closed_vocabulary_writes_known_words_only(tmp_path: Path) -> None:
    decoding = {"decoder": "beam", "lm_weight": 0.0, "closed_vocabulary": True}
    config = TranscriptionTask.model_validate({"name": "transcription", "decoding": decoding}).decoding
    decoder, _ = search_decoder(config, ABC, ["CAB AC"], tmp_path, None)
    assert decoder.decode(sure("CAA AC")[None]) == ["CAB AC"]


def test_its_weight_suits_recordings_kept_out_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dev = Heard(sure("CAB AC", {1: "C"})[None], [12], ["CAB AC"])
    config = TranscriptionTask.model_validate({"name": "transcription", "decoding": {"decoder": "beam"}}).decoding
    config = config.model_copy(update={"lm_weight": 0.0, "unknown_score": 0.0})
    _, settings = search_decoder(config, ABC, ["CAB AC", "CAB BA"], tmp_path, dev)
    assert settings.lm_weight > 0.0
    assert "the lowest word error rate, 0.0%, on 1 recordings kept out of training" in capsys.readouterr().err
