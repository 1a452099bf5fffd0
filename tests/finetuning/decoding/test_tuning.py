"""Tuning finds the weight that a split needs."""

from __future__ import annotations

import torch

from d2v.finetuning.ctc_vocabulary import BLANK, CtcVocabulary
from d2v.finetuning.decoding.beam import BeamDecoder, BeamSettings
from d2v.finetuning.decoding.tuning import tuned
from d2v.models.kneser_ney import estimate


def test_the_weight_with_the_fewest_errors_wins() -> None:
    """O is heard a little better than the A that the language model expects: weight 0 leaves it wrong."""
    vocabulary = CtcVocabulary.fairseq()
    ids = vocabulary.encode("THE CAT SAT")
    logits_TC = torch.zeros(2 * len(ids), len(vocabulary))
    for place, letter in enumerate(ids):
        logits_TC[2 * place, letter] = logits_TC[2 * place + 1, BLANK] = 8.0
    logits_TC[2 * ids.index(vocabulary.symbols.index("A")), vocabulary.symbols.index("O")] = 8.1
    model = estimate(["THE CAT SAT", "THE COT STOOD", "THE CAT RAN"], order=2)
    decoder = BeamDecoder(vocabulary, BeamSettings(width=20), model)
    found = tuned(decoder, logits_TC.log_softmax(-1)[None], [len(logits_TC)], ["THE CAT SAT"], (0.0, 1.0), (0.0, 0.5))
    assert (found.settings.lm_weight, found.settings.word_bonus, found.settings.width) == (1.0, 0.0, 20)
    assert found.word_error_rates == {(0.0, 0.0): 1 / 3, (0.0, 0.5): 1 / 3, (1.0, 0.0): 0.0, (1.0, 0.5): 0.0}
