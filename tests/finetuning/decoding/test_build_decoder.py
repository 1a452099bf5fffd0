"""Decoders by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from d2v.errors import ConfigError
from d2v.finetuning.ctc_vocabulary import CtcVocabulary
from d2v.finetuning.decoding.beam import BeamDecoder, BeamSettings
from d2v.finetuning.decoding.build_decoder import build_decoder
from d2v.finetuning.decoding.greedy import GreedyDecoder
from d2v.models.kneser_ney import estimate

AB = CtcVocabulary(("A", "B"))


def test_decoders_are_built_with_what_they_use(tmp_path: Path) -> None:
    estimate(["A B", "AB"], 2).save_arpa(tmp_path / "model.arpa.gz")
    assert isinstance(build_decoder("greedy", AB), GreedyDecoder)
    beam = build_decoder("beam", AB, BeamSettings(width=7), tmp_path / "model.arpa.gz", ["A", "AB"])
    assert isinstance(beam, BeamDecoder)
    assert beam.settings.width == 7
    assert beam.language_model is not None
    assert beam.lexicon is not None
    assert beam.lexicon.words == 2
    log_probs_BTC = torch.nn.functional.one_hot(torch.tensor([[5, 6, 4, 5]]), 7).mul(9.0).log_softmax(-1)
    assert beam.decode(log_probs_BTC) == ["AB A"]


def test_impossible_combinations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set the decoder to beam"):
        build_decoder("greedy", AB, words=["A"])
    with pytest.raises(ConfigError, match="take the decoder beam"):
        build_decoder("flashlight", AB, language_model=tmp_path / "model.arpa")
