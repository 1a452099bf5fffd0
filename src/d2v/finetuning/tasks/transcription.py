"""What was said, letter by letter, by connectionist temporal classification (Graves et al. 2006).

Shape legend: B recordings, T frames, C symbols, L letters of the longest transcript.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from d2v.config import TranscriptionTask
from d2v.finetuning.decoding.greedy import GreedyDecoder
from d2v.finetuning.decoding.interface import Decoder
from d2v.finetuning.heads import TokenHead
from d2v.finetuning.letters import BLANK, Alphabet, normalised
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledPart
from d2v.models.encoder import Encoder

NO_LETTER = -1


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
