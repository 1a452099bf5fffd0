"""The plainest decoder: the best path.

Shapes: B utterances, T frames, C symbols of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from d2v.finetuning.ctc_vocabulary import BLANK, BOUNDARY, CtcVocabulary
from d2v.finetuning.decoding.interface import Lengths, checked_lengths


class GreedyDecoder:
    """The likeliest symbol of every frame, repeats merged and blanks left out (Graves et al. 2006, section 3.2).

    Args:
        vocabulary: what the symbols mean. The specials are never written.

    Example:
        >>> vocabulary = CtcVocabulary(("A", "B"))
        >>> frames = torch.tensor([5, 5, 0, 5, 4, 6, 0])
        >>> GreedyDecoder(vocabulary).decode(torch.nn.functional.one_hot(frames, 7).float().log()[None])
        ['AA B']
    """

    def __init__(self, vocabulary: CtcVocabulary) -> None:
        self.vocabulary = vocabulary

    def decode(self, log_probs_BTC: Tensor, lengths: Lengths = None) -> list[str]:
        """Texts of utterances, see `Decoder`."""
        lengths = checked_lengths(log_probs_BTC, lengths, len(self.vocabulary))
        rows = zip(written(log_probs_BTC).argmax(dim=-1).cpu(), lengths, strict=True)
        return [self.vocabulary.decode(torch.unique_consecutive(best_T[:length]).tolist()) for best_T, length in rows]


def written(log_probs: Tensor) -> Tensor:
    """The log probabilities (..., C) with the specials ruled out, all but the blank."""
    ruled_out = torch.zeros_like(log_probs[..., BLANK + 1 : BOUNDARY])
    return torch.cat((log_probs[..., : BLANK + 1], ruled_out - torch.inf, log_probs[..., BOUNDARY:]), dim=-1)
