"""Speech encoders: convolutions to 50 Hz, convolutional positions, and the transformers of data2vec 1.0 and 2.0.

Shape legend: B recordings, M masks, R rows, S samples, T frames, V visible frames, C channels, D width, H heads.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.modalities.speech.config import ConvLayer, SpeechEncoderConfig, SpeechTrainConfig
from d2v.models.alibi import alibi_slopes, beside_extra_tokens
from d2v.models.blocks import DoubledMlpBlock, PostNormBlock, VitBlock, bert_init
from d2v.models.encoder import Encoder, Stem
from d2v.models.masking import Masks, gather_tokens, is_padding
from d2v.models.ops import LayerNorm, LayerNormGelu, Linear, StridedConv1d, TokenConv1d, norm_gelu
from d2v.models.shards import count_matmul_parameters

NORM_EPS = 1e-5


class _ConvNormGelu(nn.Module):
    """Convolution, norm, GELU: (B, S, C) -> (B, S', C').

    Args:
        channels_in: C.
        layer: (C', kernel, stride).
        norm: over channels (`layer`), over time (`group`), or none.
        bias: whether C' biases are added to the convolution's output.
    """

    def __init__(self, channels_in: int, layer: ConvLayer, norm: Literal["layer", "group", "none"], bias: bool) -> None:
        super().__init__()
        channels, kernel, stride = layer
        self.conv = StridedConv1d(channels_in, channels, kernel, stride)
        nn.init.kaiming_normal_(self.conv.weight)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        if norm == "layer":
            self.norm: nn.Module = LayerNormGelu(channels, eps=NORM_EPS)
        else:
            self.norm = TimeNormGelu(channels) if norm == "group" else nn.GELU()

    def forward(self, x_BSC: Tensor) -> Tensor:
        x_BSC = self.conv(x_BSC)
        return self.norm(x_BSC if self.bias is None else x_BSC + self.bias)


class TimeNormGelu(nn.GroupNorm):
    """Each channel of a recording to zero mean and unit variance over time, then GELU: (B, S, C) -> (B, S, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, eps=NORM_EPS)

    def forward(self, x_BSC: Tensor) -> Tensor:
        return F.gelu(super().forward(x_BSC.transpose(1, 2)).transpose(1, 2))


@torch.no_grad()
def _pull_taps_together(convolution: nn.Conv1d, spread: float) -> None:
    """Leave `spread` of each tap's difference from the mean over taps."""
    mean = convolution.weight.mean(dim=-1, keepdim=True)
    convolution.weight.lerp_(mean.expand_as(convolution.weight), 1.0 - spread)


class ConvFeatures(nn.Module):
    """Waveform to frames: convolutions, LayerNorm, projection to the encoder's width.

    Args:
        layers: (channels, kernel, stride) of each convolution.
        width: D.
        tap_spread, norm, bias: see `SpeechEncoderConfig`, there the latter two are `stem_norm` and `stem_bias`.

    Attributes:
        extractor: the convolutions, all that fine-tuning with `frozen_local` leaves as it is (in fairseq
            `feature_grad_mult: 0`, which trains the norm and the projection behind them).
    """

    def __init__(
        self,
        layers: tuple[ConvLayer, ...],
        width: int,
        tap_spread: float = 1.0,
        norm: Literal["layer", "group"] = "layer",
        bias: bool = False,
    ) -> None:
        super().__init__()
        channels = [1, *(layer[0] for layer in layers)]
        convolutions = [
            _ConvNormGelu(before, layer, norm if norm == "layer" or number == 0 else "none", bias)
            for number, (before, layer) in enumerate(zip(channels, layers, strict=False))
        ]
        for convolution in convolutions[1:]:
            _pull_taps_together(convolution.conv, tap_spread)
        self.layers = nn.ModuleList(convolutions)
        self.norm = LayerNorm(channels[-1], eps=NORM_EPS)
        self.projection = Linear(channels[-1], width)

    @property
    def extractor(self) -> nn.Module:
        return self.layers

    def forward(self, waves_BS: Tensor) -> Tensor:
        """(B, S) at 16 kHz, each of zero mean and unit variance -> (B, T, D)."""
        x_BSC = waves_BS.unsqueeze(-1)
        for layer in self.layers:
            x_BSC = layer(x_BSC)
        return self.projection(self.norm(x_BSC))


class ConvPositions(nn.Module):
    """Positions as convolutions of the sequence: units of grouped convolution, LayerNorm without parameters, GELU. Some
    models have no LayerNorm there.

    Args:
        config: number, kernel and groups of the units.
    """

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        c = config
        self.convs = nn.ModuleList(
            TokenConv1d(c.width, c.width, c.position_kernel, c.position_groups) for _ in range(c.position_layers)
        )
        self.normed = c.position_norm

    def forward(self, x_RTD: Tensor, padding_RT1: Tensor | None) -> Tensor:
        """(R, T, D) -> (R, T, D). Each unit sees zeros at padding, as it does beyond the end of a sequence."""
        for conv in self.convs:
            if padding_RT1 is not None:
                x_RTD = x_RTD.masked_fill(padding_RT1, 0.0)
            y_RTD = conv(x_RTD)[:, : x_RTD.shape[1]]  # an even kernel gives one more
            x_RTD = norm_gelu(y_RTD, eps=NORM_EPS) if self.normed else F.gelu(y_RTD)
        return x_RTD


class _SpeechStem(Stem):
    """Frames from waveforms, and their convolutional positions."""

    local: ConvFeatures

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.local = ConvFeatures(config.convs, config.width, config.tap_spread, config.stem_norm, config.stem_bias)
        self.sees_padding = config.stem_norm == "group"
        self.rounds_lengths = not self.sees_padding
        self.positions = ConvPositions(config)

    def num_tokens(self, inputs: Tensor) -> int:
        """Frames of waveforms of so many samples."""
        return self.config.frames(inputs.shape[1])

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames that see no padding."""
        for _, kernel, stride in self.config.convs:
            lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
        return lengths.clamp(min=0)

    def _padding(self, local_BTD: Tensor, lengths: Tensor | None) -> Tensor | None:
        """(B, T, 1) bool, True at padding; None without padding."""
        return None if lengths is None else is_padding(lengths, local_BTD.shape[1]).unsqueeze(-1)

    def mask_vector(self) -> Tensor:
        """(1, 1, D) uniform in [0, 1)."""
        return torch.rand(1, 1, self.width)

    def local_flops(self, tokens: int) -> float:
        """Every convolution has as many outputs as frames times the strides after it."""
        channels = [1, *(layer[0] for layer in self.config.convs)]
        outputs, total = tokens, 2.0 * tokens * channels[-1] * self.width
        for before, (after, kernel, stride) in reversed(list(zip(channels, self.config.convs, strict=False))):
            total += 2.0 * outputs * before * after * kernel
            outputs *= stride
        return total

    def positions_flops(self, tokens: int) -> float:
        """The position convolutions."""
        return 2.0 * tokens * count_matmul_parameters(self.positions.parameters())


class AlibiStem(_SpeechStem):
    """data2vec 2.0: positions of the sequence with masked frames zeroed, and ALiBi with a learned scale a head."""

    slopes: Tensor

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__(config)
        self.alibi_scale = nn.Parameter(torch.ones(config.heads))
        self.register_buffer("slopes", alibi_slopes(config.heads), persistent=False)

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """Visible frames with their positions, and the (R, H, V, V) or (H, T, T) bias.

        The reference's positions see what the convolutions made of padding."""
        padding_BT1 = self._padding(local_BTD, lengths) if self.config.padding == "invariant" else None
        if padding_BT1 is not None:
            local_BTD = local_BTD.masked_fill(padding_BT1, 0.0)
        if masks is None:
            frames_T = torch.arange(local_BTD.shape[1], device=local_BTD.device)
            bias = beside_extra_tokens(self._alibi(frames_T), self.config.extra_tokens)
            return local_BTD + self.positions(local_BTD, padding_BT1), bias
        visible_idx = masks.visible()
        clones = visible_idx.shape[1]
        seen_RTD = local_BTD.repeat_interleave(clones, dim=0).masked_fill(masks.is_masked.unsqueeze(-1), 0.0)
        padding_RT1 = None if padding_BT1 is None else padding_BT1.repeat_interleave(clones, dim=0)
        visible_R1V = visible_idx.flatten(0, 1).unsqueeze(1)
        x_RVD = gather_tokens(seen_RTD + self.positions(seen_RTD, padding_RT1), visible_R1V)
        return x_RVD, beside_extra_tokens(self._alibi(visible_idx.flatten(0, 1)), self.config.extra_tokens)

    def _alibi(self, frames: Tensor) -> Tensor:
        """(..., V) frame numbers -> (..., H, V, V): minus distance times slope times scale."""
        distance = (frames.unsqueeze(-1) - frames.unsqueeze(-2)).abs().to(self.slopes.dtype)
        slopes_H11 = (self.slopes * self.alibi_scale.clamp(min=0.0))[:, None, None]
        return -distance.unsqueeze(-3) * slopes_H11


class ConvPositionStem(_SpeechStem):
    """data2vec 1.0: positions of the full sequence, in which masked frames are a learned vector."""

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """All frames with their positions; no attention bias. This encoder never drops tokens.

        Of the reference's positions only the first unit sees zeros at padding."""
        if masks is not None:
            raise ValueError("the data2vec1 encoder sees full sequences: use encoder.layout=data2vec2 to drop tokens")
        padding_BT1 = self._padding(local_BTD, lengths)
        if padding_BT1 is not None:
            local_BTD = local_BTD.masked_fill(padding_BT1, 0.0)
        return local_BTD + self.positions(local_BTD, padding_BT1 if self.config.padding == "invariant" else None), None


def build_encoder(recipe: SpeechTrainConfig) -> Encoder:
    """The recipe's encoder, initialised from torch's generator."""
    c = recipe.encoder
    kind = PostNormBlock if not c.pre_norm else DoubledMlpBlock if c.layout == "data2vec2" else VitBlock
    blocks = [
        kind(c.width, c.heads, c.mlp_ratio, c.norm_eps, c.dropout, c.attention_dropout)
        for _ in range(c.prenet_depth + c.depth)
    ]
    norm = LayerNorm(c.width, eps=c.norm_eps)
    stem = AlibiStem(c) if c.layout == "data2vec2" else ConvPositionStem(c)
    encoder = Encoder(
        stem,
        nn.ModuleList(blocks[c.prenet_depth :]),
        c.width,
        prenet=nn.ModuleList(blocks[: c.prenet_depth]),
        extra_tokens=c.extra_tokens,
        context_norm=None if c.pre_norm else norm,
        final_norm=norm if c.pre_norm else None,
        context_dropout=c.prenet_dropout if c.layout == "data2vec2" else c.dropout,
        layer_drop=(c.prenet_layer_drop, c.layer_drop),
    )
    encoder.apply(bert_init)
    stem.local.projection.reset_parameters()  # the reference leaves it at PyTorch's
    return encoder
