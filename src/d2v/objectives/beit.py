"""BEiT (Bao et al. 2021, "BEiT: BERT Pre-Training of Image Transformers").

Shape legend: B samples, T tokens, D width, N masked tokens of all samples, K codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import BeitConfig, TrainConfig
from d2v.data.batch import Batch
from d2v.modalities.base import Codes, Modality, PreparedData
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.quantizer import perplexity, shares
from d2v.objectives.base import DrawMasks, LossOutput
from d2v.objectives.masked_prediction import MaskedPrediction


class Beit(MaskedPrediction):
    """Replace masked tokens by a learned vector, encode the full sequence, name the codes of masked tokens.

    Args:
        student: the encoder to train.
        longest: T of the longest sequence.
        codes: what gives tokens their codes.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T); rows may differ in their counts.

    Attributes:
        tokenizer: gives codes; frozen, and random before `take_from`.
    """

    needs = "codes"

    def __init__(self, student: Encoder, longest: int, codes: Codes, draw: DrawMasks) -> None:
        super().__init__(student, longest, draw)
        self.codes, self.tokenizer = codes, codes.build()
        self.head = nn.Linear(student.width, codes.number)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def build(cls, config: BeitConfig, student: Encoder, modality: Modality, recipe: TrainConfig) -> Beit:
        """With the masks of the modality, and the sizes of its tokenizer."""
        draw, codes = partial(modality.draw_masks, recipe), cls.supply(modality, recipe)
        return cls(student, modality.max_tokens(recipe), codes, draw)

    def take_from(self, data: PreparedData) -> None:
        """The tokenizer that prepare trained."""
        self.tokenizer.load_state_dict(self.codes.weights(data))

    def heads(self) -> Iterable[nn.Parameter]:
        """A linear layer."""
        return self.head.parameters()

    def target_flops(self, tokens: int) -> float:
        """Of the tokenizer."""
        return self.codes.flops(tokens)

    @torch.no_grad()
    def targets(self, inputs: Tensor) -> Tensor:
        """(B, T) codes of whole inputs, never computed in less than float32."""
        with torch.autocast(inputs.device.type, enabled=False):
            codes_BT: Tensor = self.tokenizer(inputs)
        return codes_BT

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """The cross-entropy of codes at masked tokens (section 2.3)."""
        logits_NK, codes_N = self._at_masked(batch, masks)
        loss = F.cross_entropy(logits_NK, codes_N, reduction="sum")
        named_N = logits_NK.detach().argmax(dim=-1)
        statistics = {
            "code_loss": loss.detach() / masks.count,
            "accuracy": (named_N == codes_N).float().mean(),
            "code_perplexity": perplexity(shares(codes_N, self.codes.number)),
            "named_perplexity": perplexity(shares(named_N, self.codes.number)),
        }
        return LossOutput(loss, statistics)

    @torch.no_grad()
    def token_losses(self, batch: Batch, masks: Masks) -> Tensor:
        """The cross-entropy of every masked token's code."""
        return F.cross_entropy(*self._at_masked(batch, masks), reduction="none")

    def _at_masked(self, batch: Batch, masks: Masks) -> tuple[Tensor, Tensor]:
        """(N, K) logits in at least float32 and (N,) codes at all masked tokens."""
        return self.head_and_targets(self.head, self.targets(batch.inputs), batch, masks)
