"""The search for the language model's weight and the word bonus on a split with known transcripts: the dev split, never
the one that is reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from d2v.finetuning.decoding.beam import BeamDecoder, BeamSettings
from d2v.finetuning.decoding.interface import Lengths
from d2v.finetuning.metrics import word_error_rate

LM_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5)
WORD_BONUSES = (-1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class Tuned:
    """The settings with the lowest word error rate, and that rate of every pair (lm_weight, word_bonus)."""

    settings: BeamSettings
    word_error_rates: dict[tuple[float, float], float]


def tuned(
    decoder: BeamDecoder,
    log_probs_BTC: Tensor,
    lengths: Lengths,
    references: Sequence[str],
    lm_weights: Sequence[float] = LM_WEIGHTS,
    word_bonuses: Sequence[float] = WORD_BONUSES,
) -> Tuned:
    """Decode a split with every pair of weight and bonus. Of equal pairs the first wins.

    Args:
        decoder: its language model, lexicon and other settings are kept.
        log_probs_BTC: what the CTC head says of the split.
        lengths: (B,) frames of each utterance.
        references: (B,) normalised transcripts.
    """
    rates: dict[tuple[float, float], float] = {}
    for weight in lm_weights:
        for bonus in word_bonuses:
            settings = dataclasses.replace(decoder.settings, lm_weight=weight, word_bonus=bonus)
            trial = BeamDecoder(decoder.vocabulary, settings, decoder.language_model, decoder.lexicon)
            rates[weight, bonus] = word_error_rate(trial.decode(log_probs_BTC, lengths), references)
    weight, bonus = min(rates, key=rates.__getitem__)
    return Tuned(dataclasses.replace(decoder.settings, lm_weight=weight, word_bonus=bonus), rates)
