"""The interfaces of decoders and language models.

Shapes: B utterances, T frames, C symbols of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from d2v.errors import CollapseError, DataError

Lengths = Tensor | Sequence[int] | None


class Decoder(Protocol):
    """Turns outputs of a CTC head into text."""

    def decode(self, log_probs_BTC: Tensor, lengths: Lengths = None) -> list[str]:
        """Texts of utterances.

        Args:
            log_probs_BTC: natural log probabilities of the symbols at each frame.
            lengths: (B,) frames of each utterance; None for all T.
        """
        ...


class WordModel(Protocol):
    """A model of word sequences, read from left to right. Its states are opaque; log probabilities are natural."""

    def start(self) -> Any:
        """The state at the start of a sentence."""
        ...

    def score(self, state: Any, word: str) -> tuple[float, Any]:
        """ln p(word | state) and the state after it; an unknown word scores as `<unk>`."""
        ...

    def end(self, state: Any) -> float:
        """ln p(end of the sentence | state)."""
        ...

    def knows(self, word: str) -> bool:
        """Whether the word is in the vocabulary."""
        ...


def checked_lengths(log_probs_BTC: Tensor, lengths: Lengths, symbols: int) -> list[int]:
    """Frames of each utterance.

    Raises:
        DataError: log probabilities and vocabulary or lengths do not belong together.
        CollapseError: a log probability is not a number.
    """
    if log_probs_BTC.ndim != 3 or log_probs_BTC.shape[2] != symbols:
        raise DataError(
            f"The model gives outputs of shape {tuple(log_probs_BTC.shape)} and the vocabulary has {symbols} symbols: "
            "decode with the vocabulary that was saved with the model"
        )
    utterances, frames, _ = log_probs_BTC.shape
    found = [frames] * utterances if lengths is None else [int(length) for length in lengths]
    if len(found) != utterances or any(not 0 <= length <= frames for length in found):
        raise DataError(
            f"Lengths {found} do not fit {utterances} utterances of up to {frames} frames: give the lengths after the "
            "encoder's convolutions, one for each utterance"
        )
    broken = [row for row, length in enumerate(found) if bool(log_probs_BTC[row, :length].isnan().any())]
    if broken:
        raise CollapseError(
            f"The model's outputs for utterances {broken} are not numbers, so there is nothing to decode: go back to "
            "an earlier checkpoint and continue with a lower optimizer.lr or with precision: fp32"
        )
    return found
