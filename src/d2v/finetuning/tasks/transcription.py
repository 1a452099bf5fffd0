"""Transcription, symbol by symbol, by connectionist temporal classification (Graves et al. 2006).

Shape legend: B recordings, T frames, C symbols, L symbols of the longest transcript.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from d2v.config import TranscriptionTask
from d2v.errors import DataError
from d2v.finetuning.ctc_vocabulary import BLANK, CtcVocabulary, dropped_characters, frames_needed, normalised
from d2v.finetuning.decoding.greedy import GreedyDecoder
from d2v.finetuning.decoding.interface import Decoder
from d2v.finetuning.heads import TokenHead
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledSplit
from d2v.models.encoder import Encoder
from d2v.progress import log

NO_SYMBOL = -1


@runtime_checkable
class Framed(Protocol):
    """A split that knows how many frames the encoder makes of its recordings."""

    @property
    def frames(self) -> np.ndarray:
        """(n,) of each recording."""
        ...


class Transcription(Task):
    """The symbols of a transcript, with `<s>` as the blank, as in the reference.

    Args:
        config: the task's block of the recipe.
        vocabulary: its symbols.
        decoder: from frames to text; the best path unless another one is given.
    """

    def __init__(self, config: TranscriptionTask, vocabulary: CtcVocabulary, decoder: Decoder | None = None) -> None:
        self.config, self.vocabulary, self.metrics = config, vocabulary, config.metrics
        self.decoder = decoder or GreedyDecoder(vocabulary)

    def usable(self, split: LabelledSplit) -> np.ndarray:
        return np.array([row for row, text in enumerate(split.texts) if normalised(text or "")], dtype=np.int64)

    def announce(self, split: LabelledSplit, rows: np.ndarray) -> None:
        """Log which transcripts no alignment can spell, and which characters are not learned.

        Raises:
            DataError: no recording is long enough for its transcript.
        """
        short = self.too_short(split, rows)
        if short == len(rows):
            raise DataError(
                f"None of the {short:,} training recordings has as many frames as its transcript has symbols: give "
                "recordings of whole transcripts, or an encoder with more frames a second"
            )
        if short:
            log(
                f"finetune: {short:,} of {len(rows):,} recordings are too short for their transcripts and teach nothing"
            )
        unknown = self.vocabulary.unknown_characters(self.references(split, rows))
        if unknown:
            log(
                "finetune: characters that the vocabulary lacks are learned as <unk> and never written: "
                f"{_counts(unknown)}"
            )
        dropped = dropped_characters(split.texts[row] or "" for row in rows)
        if dropped:
            log(f"finetune: characters of transcripts that only part words: {_counts(dropped)}")

    def too_short(self, split: LabelledSplit, rows: np.ndarray) -> int:
        """How many recordings have fewer frames than CTC needs for their transcripts; 0 where frames are unknown."""
        if not isinstance(split, Framed):
            return 0
        needed = [frames_needed(self.vocabulary.encode(text)) for text in self.references(split, rows)]
        return int((split.frames[rows] < np.array(needed)).sum())

    def make_head(self, encoder: Encoder) -> nn.Module:
        return TokenHead(encoder.width, len(self.vocabulary), self.config.dropout)

    def targets(self, split: LabelledSplit, rows: np.ndarray) -> Tensor:
        """(B, L) symbol ids, filled up with -1."""
        symbols = [torch.tensor(self.vocabulary.encode(normalised(split.texts[row] or ""))) for row in rows]
        return pad_sequence(symbols, batch_first=True, padding_value=NO_SYMBOL)

    def loss(self, outputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Tensor:
        """Transcripts that their recording is too short for count as 0, as in the reference."""
        log_probs_TBC = outputs.log_softmax(dim=-1).transpose(0, 1)
        frames = torch.full((len(outputs),), outputs.shape[1], device=outputs.device) if lengths is None else lengths
        symbols = (targets != NO_SYMBOL).sum(dim=1)
        with torch.backends.cudnn.flags(enabled=False):  # its CTC is not deterministic
            return F.ctc_loss(
                log_probs_TBC, targets.clamp_min(0), frames, symbols, BLANK, reduction="sum", zero_infinity=True
            )

    def predict(self, outputs: Tensor, lengths: Tensor | None) -> Sequence[str]:
        return self.decoder.decode(outputs.log_softmax(dim=-1).cpu(), None if lengths is None else lengths.cpu())

    def references(self, split: LabelledSplit, rows: np.ndarray) -> Sequence[str]:
        return [normalised(split.texts[row] or "") for row in rows]

    def describe(self) -> dict[str, Any]:
        return {"letters": list(self.vocabulary.characters)}


def _counts(found: Counter[str]) -> str:
    """The most frequent with their numbers."""
    return ", ".join(f"{character} ({count:,})" for character, count in found.most_common(10))
