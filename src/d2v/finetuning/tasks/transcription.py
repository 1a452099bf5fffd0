"""What was said, letter by letter, by connectionist temporal classification (Graves et al. 2006).

Shape legend: B recordings, T frames, C symbols, L letters of the longest transcript.
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
from d2v.finetuning.ctc_vocabulary import BLANK, Alphabet, dropped_characters, frames_needed, normalised
from d2v.finetuning.decoding.greedy import GreedyDecoder
from d2v.finetuning.decoding.interface import Decoder
from d2v.finetuning.heads import TokenHead
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledPart
from d2v.models.encoder import Encoder
from d2v.progress import log

NO_LETTER = -1


@runtime_checkable
class Framed(Protocol):
    """A part that knows how many frames the encoder makes of its recordings."""

    @property
    def frames(self) -> np.ndarray:
        """(n,) of each recording."""
        ...


class Transcription(Task):
    """The letters of a transcript, with `<s>` as the blank, as in the reference.

    Args:
        config: the task's block of the recipe.
        alphabet: the letters.
        decoder: from frames to text; the best path unless another one is given.
    """

    def __init__(self, config: TranscriptionTask, alphabet: Alphabet, decoder: Decoder | None = None) -> None:
        self.config, self.alphabet, self.metrics = config, alphabet, config.metrics
        self.decoder = decoder or GreedyDecoder(alphabet)

    def usable(self, part: LabelledPart) -> np.ndarray:
        return np.array([row for row, text in enumerate(part.texts) if normalised(text or "")], dtype=np.int64)

    def announce(self, part: LabelledPart, rows: np.ndarray) -> None:
        """Say which transcripts no alignment can spell, and which letters are not learned.

        Raises:
            DataError: no recording is long enough for its transcript.
        """
        short = self.too_short(part, rows)
        if short == len(rows):
            raise DataError(
                f"None of the {short:,} training recordings has as many frames as its transcript has letters: give "
                "recordings of whole transcripts, or an encoder with more frames a second"
            )
        if short:
            log(
                f"finetune: {short:,} of {len(rows):,} recordings are too short for their transcripts and teach nothing"
            )
        unknown = self.alphabet.unknown_letters(self.references(part, rows))
        if unknown:
            log(f"finetune: letters that the alphabet lacks are learned as <unk> and never written: {_counts(unknown)}")
        dropped = dropped_characters(part.texts[row] or "" for row in rows)
        if dropped:
            log(f"finetune: characters of transcripts that only part words: {_counts(dropped)}")

    def too_short(self, part: LabelledPart, rows: np.ndarray) -> int:
        """How many recordings have fewer frames than CTC needs for their transcripts; 0 where frames are unknown."""
        if not isinstance(part, Framed):
            return 0
        needed = [frames_needed(self.alphabet.encode(text)) for text in self.references(part, rows)]
        return int((part.frames[rows] < np.array(needed)).sum())

    def make_head(self, encoder: Encoder) -> nn.Module:
        return TokenHead(encoder.width, len(self.alphabet), self.config.dropout)

    def targets(self, part: LabelledPart, rows: np.ndarray) -> Tensor:
        """(B, L) letters, filled up with -1."""
        letters = [torch.tensor(self.alphabet.encode(normalised(part.texts[row] or ""))) for row in rows]
        return pad_sequence(letters, batch_first=True, padding_value=NO_LETTER)

    def loss(self, outputs: Tensor, targets: Tensor, lengths: Tensor | None) -> Tensor:
        """Transcripts that their recording is too short for count as 0, as in the reference."""
        log_probs_TBC = outputs.log_softmax(dim=-1).transpose(0, 1)
        frames = torch.full((len(outputs),), outputs.shape[1], device=outputs.device) if lengths is None else lengths
        letters = (targets != NO_LETTER).sum(dim=1)
        with torch.backends.cudnn.flags(enabled=False):  # its CTC is not deterministic
            return F.ctc_loss(
                log_probs_TBC, targets.clamp_min(0), frames, letters, BLANK, reduction="sum", zero_infinity=True
            )

    def predict(self, outputs: Tensor, lengths: Tensor | None) -> Sequence[str]:
        return self.decoder.decode(outputs.log_softmax(dim=-1).cpu(), None if lengths is None else lengths.cpu())

    def references(self, part: LabelledPart, rows: np.ndarray) -> Sequence[str]:
        return [normalised(part.texts[row] or "") for row in rows]

    def describe(self) -> dict[str, Any]:
        return {"letters": list(self.alphabet.letters)}


def _counts(found: Counter[str]) -> str:
    """The most frequent with their numbers."""
    return ", ".join(f"{character} ({count:,})" for character, count in found.most_common(10))
