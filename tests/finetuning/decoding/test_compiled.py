"""kenlm and flashlight-text where they are installed, and what is said where they are not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from d2v.errors import ConfigError, DataError
from d2v.finetuning.ctc_vocabulary import BLANK, CtcVocabulary
from d2v.finetuning.decoding.beam import BeamDecoder, BeamSettings
from d2v.finetuning.decoding.compiled import FlashlightDecoder, KenlmModel, load_language_model
from d2v.finetuning.decoding.lexicon import Lexicon
from d2v.models.kneser_ney import estimate
from d2v.models.ngram import NGramModel

SENTENCES = ["THE CAT SAT", "THE COT STOOD", "THE CAT RAN", "A CAT STOOD"]
VOCABULARY = CtcVocabulary.fairseq()


def heard(text: str, seed: int) -> Tensor:
    """Log probabilities (T, C) that say `text`, with some noise."""
    ids = VOCABULARY.encode(text)
    logits_TC = 1.5 * torch.randn(2 * len(ids), len(VOCABULARY), generator=torch.Generator().manual_seed(seed))
    logits_TC[torch.arange(0, 2 * len(ids), 2), torch.tensor(ids)] += 5.0
    logits_TC[1::2, BLANK] += 5.0
    return logits_TC.log_softmax(-1)


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    estimate(SENTENCES, 3).save_arpa(tmp_path / "model.arpa")
    return tmp_path / "model.arpa"


def test_kenlm_scores_as_the_arpa_reader(arpa: Path) -> None:
    pytest.importorskip("kenlm")
    ours, theirs = load_language_model(arpa), KenlmModel(arpa)
    for sentence in [*SENTENCES, "THE DOG SAT", ""]:
        states = [ours.start(), theirs.start()]
        for word in sentence.split():
            (a, states[0]), (b, states[1]) = ours.score(states[0], word), theirs.score(states[1], word)
            assert a == pytest.approx(b, abs=1e-5)
            assert ours.knows(word) == theirs.knows(word)
        assert ours.end(states[0]) == pytest.approx(theirs.end(states[1]), abs=1e-5)


def test_flashlight_writes_what_our_beam_writes(arpa: Path) -> None:
    pytest.importorskip("kenlm")
    pytest.importorskip("flashlight.lib.text")
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    settings = BeamSettings(lm_weight=0.8, word_bonus=0.5)
    theirs = FlashlightDecoder(VOCABULARY, words, settings, arpa)
    ours = BeamDecoder(VOCABULARY, settings, load_language_model(arpa), Lexicon(words, VOCABULARY))
    for seed, sentence in enumerate(SENTENCES * 3):
        log_p_BTC = heard(sentence, seed)[None]
        assert theirs.decode(log_p_BTC) == ours.decode(log_p_BTC) == [sentence]


def test_arpa_files_need_nothing_installed(arpa: Path) -> None:
    assert isinstance(load_language_model(arpa), NGramModel)


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("kenlm", "flashlight", "flashlight.lib", "flashlight.lib.text"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"flashlight.*pip install 'd2v\[decoding\]'"):
        FlashlightDecoder(VOCABULARY, ["CAT"])
    with pytest.raises(ConfigError, match=r"kenlm.*pip install 'd2v\[decoding\]'"):
        load_language_model(tmp_path / "model.bin")


def test_what_kenlm_cannot_read_is_named(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    with pytest.raises(DataError, match="KenLM cannot read"):
        load_language_model(tmp_path / "none.bin")
