"""wav2vec 2.0 (Baevski et al. 2020, "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations").

Shape legend: B samples, T frames, N most masked frames of a sample (rows with fewer are filled up), K distractors,
C channels of local features, D width, F width of what is compared, G groups, V entries of a codebook.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import TrainConfig, Wav2Vec2Config
from d2v.data.batch import Batch
from d2v.data.random import STREAM_DISTRACTOR, STREAM_GUMBEL, fold_in, integers, uniform
from d2v.modalities.base import Frames, Modality
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected, is_padding, rounded_up
from d2v.models.ops import Dropout
from d2v.models.quantizer import GumbelQuantizer, Quantized, perplexity
from d2v.models.shards import count_matmul_parameters
from d2v.models.targets import mean_std
from d2v.objectives.base import DrawMasks, LossOutput, Pretraining, mean_masked, ragged_masks


class Wav2Vec2(Pretraining):
    """Replace masked frames by a learned vector, encode the full sequence, and find at each of them its own quantised
    features among those of others.

    Args:
        config: the objective's block of the recipe.
        student: the encoder to train.
        longest: T of the longest sequence.
        frames: makes local features.
        draw: keys (B,), T, lengths (B,) or None -> is_masked (B, T); rows may differ in their counts.
        seed: of noise and distractors.
    """

    needs = "frames"

    def __init__(
        self, config: Wav2Vec2Config, student: Encoder, longest: int, frames: Frames, draw: DrawMasks, seed: int = 0
    ) -> None:
        super().__init__(student, longest)
        self.config, self.frames, self._draw, self._seed = config, frames, draw, seed
        self.mask_token = nn.Parameter(student.stem.mask_vector())
        self.quantizer = GumbelQuantizer(frames.channels, config.quantizer)
        self.target_projection = nn.Linear(config.quantizer.width, config.projection_width)
        self.context_projection = nn.Linear(student.width, config.projection_width)
        self.dropout = Dropout(config.feature_dropout)

    @classmethod
    def build(cls, config: Wav2Vec2Config, student: Encoder, modality: Modality, recipe: TrainConfig) -> Wav2Vec2:
        """With the masks and the local features of the modality."""
        frames, draw = cls.supply(modality, recipe), partial(modality.draw_masks, recipe)
        return cls(config, student, modality.max_tokens(recipe), frames, draw, recipe.seed)

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """One mask per sample."""
        return ragged_masks(self.student, self._draw, batch, seed, device)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """Contrastive loss, diversity loss and feature penalty (section 3.2), summed over masked frames."""
        c, lengths = self.config, self.student.token_lengths(batch.lengths)
        local = self.frames.make(self.student, batch.inputs, c.feature_gradient)
        frame_BN, is_masked_BN = masked_frames(masks.is_masked)
        context_BND = self.context(self.dropout(local.projected_BTD), masks, lengths, frame_BN)
        quantized = self.quantise(batch, _take(self.dropout(local.normal_BTC), frame_BN), frame_BN)
        context_BNF = self.context_projection(context_BND)
        target_BNF = self.target_projection(quantized.vectors)
        logits = self.logits(context_BNF, target_BNF, quantized.codes, self.distractors(batch, frame_BN, is_masked_BN))

        at_masked = is_masked_BN.flatten().nonzero().squeeze(1)
        logits, codes, scores, context, target = (
            x.flatten(0, 1)[at_masked] for x in (logits, quantized.codes, quantized.scores, context_BNF, target_BNF)
        )
        contrastive = (logits.logsumexp(dim=-1) - logits[:, 0]).sum()
        diversity = _diversity(scores)
        penalty = feature_penalty(local.raw_BTC, masks.is_masked, lengths)
        statistics = {
            "contrastive_loss": contrastive.detach() / masks.count,
            "diversity_loss": diversity.detach(),
            "feature_penalty": penalty.detach() / masks.count,
            "code_perplexity": perplexity(F.one_hot(codes, c.quantizer.entries).float().mean(dim=0)),
            "accuracy": (logits.argmax(dim=-1) == 0).float().mean(),
            "target_std": mean_std(target.detach()),
            "pred_std": mean_std(context.detach()),
        }
        loss = contrastive + c.diversity_weight * masks.count * diversity + c.penalty_weight * penalty
        return LossOutput(loss, statistics)

    def context(self, local_BTD: Tensor, masks: Masks, lengths: Tensor | None, frame_BN: Tensor) -> Tensor:
        """(B, N, D) what the encoder makes at these frames of local features that it sees only where they are not
        masked."""
        masked_BTD = torch.where(masks.is_masked.unsqueeze(-1), self.mask_token.to(local_BTD.dtype), local_BTD)
        features, _ = self.student.encode_some(masked_BTD, Selected.at(frame_BN, local_BTD.shape[1]), lengths)
        return features.unflatten(0, frame_BN.shape)

    def quantise(self, batch: Batch, normal_BNC: Tensor, frame_BN: Tensor) -> Quantized:
        """Codebook entries for frames; in training with noise, a function of (seed, update, sample id, frame)."""
        noise = None
        if self.training:
            keys_BN = fold_in(self._seed, STREAM_GUMBEL, batch.update, batch.sample_ids[:, None], frame_BN)
            groups, entries = self.config.quantizer.groups, self.config.quantizer.entries
            noise = uniform(keys_BN.flatten(), groups * entries).view(*keys_BN.shape, groups, entries)
        return self.quantizer(normal_BNC, noise, self.quantizer.temperature(batch.update))

    def distractors(self, batch: Batch, frame_BN: Tensor, is_masked_BN: Tensor) -> Tensor:
        """(B, N, K) indices among its sample's masked frames that a frame is compared with: any but its own, with
        replacement (section 3.2). A frame that is alone gets itself, which `logits` leaves out."""
        keys_BN = fold_in(self._seed, STREAM_DISTRACTOR, batch.update, batch.sample_ids[:, None], frame_BN)
        keys_BNK = fold_in(keys_BN.unsqueeze(-1), torch.arange(self.config.distractors, device=keys_BN.device))
        count_B11 = is_masked_BN.sum(dim=1)[:, None, None]
        own_N1 = torch.arange(frame_BN.shape[1], device=frame_BN.device)[:, None]
        steps_BNK = 1 + integers(keys_BNK, (count_B11 - 1).clamp(min=1))
        return (own_N1 + steps_BNK).remainder(count_B11)

    def logits(self, context_BNF: Tensor, target_BNF: Tensor, codes_BNG: Tensor, distractors_BNK: Tensor) -> Tensor:
        """(B, N, 1 + K) cosine similarities over the temperature, the frame's own target first; minus infinity for
        distractors with the same codes.

        All pairs of a sample's masked frames are multiplied once, which takes less memory than K gathered targets for
        each of them."""
        wide = torch.promote_types(context_BNF.dtype, torch.float32)
        context_BNF, target_BNF = F.normalize(context_BNF.to(wide), dim=-1), F.normalize(target_BNF.to(wide), dim=-1)
        similarity_BNN = context_BNF @ target_BNF.transpose(1, 2) / self.config.temperature
        number_G = self.config.quantizer.entries ** torch.arange(codes_BNG.shape[-1], device=codes_BNG.device)
        code_BN = (codes_BNG * number_G).sum(dim=-1)
        code_BNK = code_BN[:, None].expand(-1, code_BN.shape[1], -1).gather(2, distractors_BNK)
        others_BNK = similarity_BNN.gather(2, distractors_BNK)
        others_BNK = others_BNK.masked_fill(code_BNK == code_BN.unsqueeze(-1), -torch.inf)
        return torch.cat((similarity_BNN.diagonal(dim1=1, dim2=2).unsqueeze(-1), others_BNK), dim=-1)

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Student on all T frames; its last block's projection and MLP, quantiser and projections on masked ones.
        Backward counted as two forwards, no teacher."""
        stem, masked = self.student.stem, mean_masked(self._draw, tokens)
        heads = (self.target_projection, self.context_projection, self.quantizer.scores)
        parts = {
            "stem": 3.0 * stem.local_flops(tokens),
            "teacher": 0.0,
            "student": 3.0 * (self.student.flops(tokens, masked) + stem.positions_flops(tokens)),
            "decoder": 3.0 * 2.0 * masked * count_matmul_parameters(p for head in heads for p in head.parameters()),
        }
        return parts | {"total": sum(parts.values())}


def masked_frames(is_masked: Tensor) -> tuple[Tensor, Tensor]:
    """(B, N) numbers of each row's masked frames, ascending, then others; (B, N) bool, True at masked ones. N is what a
    row masks at most, rounded up."""
    count_B = is_masked.sum(dim=1)
    most = min(rounded_up(int(count_B.max())), is_masked.shape[1])
    frame_BN = torch.argsort((~is_masked).to(torch.uint8), dim=1, stable=True)[:, :most]
    return frame_BN, ~is_padding(count_B, most)


def _take(x_BTD: Tensor, frame_BN: Tensor) -> Tensor:
    """(B, N, D) some frames of each row."""
    return x_BTD.gather(1, frame_BN.unsqueeze(-1).expand(-1, -1, x_BTD.shape[-1]))


def _diversity(scores: Tensor) -> Tensor:
    """(frames, G, V) -> () how far from alike the codebooks' entries are used: (GV - perplexity) / GV, of the mean
    softmax over the masked frames of this part of the batch (section 3.2, as in fairseq)."""
    shares_GV = scores.softmax(dim=-1).mean(dim=0)
    return 1.0 - perplexity(shares_GV) / shares_GV.numel()


def feature_penalty(raw_BTC: Tensor, is_masked: Tensor, lengths: Tensor | None) -> Tensor:
    """() mean square of each sample's features, times its masked frames: so parts of a batch add up to the whole."""
    square_BT = raw_BTC.to(torch.promote_types(raw_BTC.dtype, torch.float32)).square().mean(dim=-1)
    if lengths is None:
        return (square_BT.mean(dim=1) * is_masked.sum(dim=1)).sum()
    real_BT = ~is_padding(lengths, square_BT.shape[1])
    return ((square_BT * real_BT).sum(dim=1) / lengths * is_masked.sum(dim=1)).sum()
