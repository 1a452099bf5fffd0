"""Vision encoders: data2vec 2.0's post-norm ViT, BEiT's ViT of data2vec 1.0, and the first ViT.

Shape legend: B images, M masks per image, T patches, V visible, D width, H heads, p patch side, g grid side.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from d2v.errors import ConfigError
from d2v.modalities.vision.config import VisionEncoderConfig, VisionTrainConfig
from d2v.models.alibi import alibi_slopes, beside_extra_tokens, grid_distances
from d2v.models.blocks import DoubledMlpBlock, PostNormBlock, PreNormBlock, VitBlock, bert_init
from d2v.models.encoder import Encoder, Stem
from d2v.models.masking import Masks, Selected, gather_tokens
from d2v.models.ops import LayerNorm, linear

CHANNELS = 3


def sincos_positions(width: int, grid: int, columns: int | None = None) -> Tensor:
    """Fixed 2-D positions: (1, grid * columns, width), column before row, sines before cosines; None: a square.

    omega_i = 10000^(-i / (width / 4)); a patch at (row r, column c) gets
    [sin(c omega), cos(c omega), sin(r omega), cos(r omega)].
    """
    omega = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    columns = grid if columns is None else columns
    angles = torch.arange(max(grid, columns), dtype=torch.float64)[:, None] * omega
    axis = torch.cat((angles.sin(), angles.cos()), dim=1)
    of_columns = axis[None, :columns].expand(grid, -1, -1)
    of_rows = axis[:grid, None].expand(-1, columns, -1)
    return torch.cat((of_columns, of_rows), dim=-1).reshape(1, grid * columns, width).float()


class PatchEmbedding(nn.Module):
    """Non-overlapping patches through one linear map, kept in a convolution's weight layout (D, 3, p, p)."""

    def __init__(self, width: int, patch_px: int, channels: int = CHANNELS) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.proj = nn.Conv2d(channels, width, patch_px, patch_px)
        nn.init.xavier_uniform_(self.proj.weight.view(width, -1))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, T, D), row by row."""
        p = self.patch_px
        batch, channels, height, width = images_BCHW.shape
        patches = images_BCHW.view(batch, channels, height // p, p, width // p, p)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, (height // p) * (width // p), channels * p * p)
        return linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class _PatchStem(Stem):
    """Images to patches."""

    def __init__(self, config: VisionEncoderConfig) -> None:
        super().__init__()
        self.local: PatchEmbedding = PatchEmbedding(config.width, config.patch_px, config.channels)
        self.width = config.width
        self._patches = config.patches

    def num_tokens(self, inputs: Tensor) -> int:
        """Patches of an image."""
        return self._patches


class SincosStem(_PatchStem):
    """Patch embedding; fixed positions are added before anything is masked (data2vec 2.0). Some models of the reference
    have ALiBi over the grid, too, or in their place."""

    def __init__(self, config: VisionEncoderConfig) -> None:
        super().__init__(config)
        self.positions = self.alibi = None
        if config.fixed_positions:
            positions = sincos_positions(config.width, config.grid, config.columns)
            self.positions = nn.Parameter(positions, requires_grad=False)
        if config.alibi is not None:
            self.alibi = GridAlibi(config.heads, config.grid, config.alibi, config.extra_tokens)

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """Add positions and keep visible patches, with their (H, E+T, E+T) or (R, H, E+V, E+V) bias if there is one."""
        x_BTD = local_BTD if self.positions is None else local_BTD + self.positions
        visible = None if masks is None else masks.visible()
        bias = None if self.alibi is None else self.alibi(None if visible is None else visible.flatten(0, 1))
        return (x_BTD if visible is None else gather_tokens(x_BTD, visible)), bias


class GridAlibi(nn.Module):
    """ALiBi between the patches of an image: minus distance times slope times a learned scale of each head.

    Args:
        heads: H.
        grid: patches along a side.
        distance: between patches.
        extra_tokens: E, at no distance from any token.
    """

    negative_HTT: Tensor

    def __init__(self, heads: int, grid: int, distance: Literal["manhattan", "euclidean"], extra_tokens: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(heads))
        self.extra_tokens = extra_tokens
        slopes_H11 = alibi_slopes(heads)[:, None, None]
        self.register_buffer("negative_HTT", -slopes_H11 * grid_distances(grid, distance), persistent=False)

    def forward(self, patches_RV: Tensor | None) -> Tensor:
        """(H, E+T, E+T), or of some patches by number (R, H, E+V, E+V)."""
        bias = self.negative_HTT * self.scale.clamp(min=0.0)[:, None, None]
        if patches_RV is not None:
            bias = bias[:, patches_RV[:, :, None], patches_RV[:, None, :]].transpose(0, 1)
        return beside_extra_tokens(bias, self.extra_tokens)


class RelativeStem(_PatchStem):
    """Patch embedding with one relative position bias table for all blocks (BEiT), or none if each has its own.

    The table has (2g-1)^2 rows for patch pairs and three more: CLS to patch, patch to CLS, CLS to CLS.
    """

    index: Tensor

    def __init__(self, config: VisionEncoderConfig) -> None:
        super().__init__(config)
        shared = config.relative_bias == "shared"
        self.relative_bias = nn.Parameter(_relative_table(config)) if shared else None
        self.register_buffer("index", relative_index(config.grid), persistent=False)

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """All patches with the (H, 1+T, 1+T) bias; this encoder never drops tokens."""
        if masks is not None:
            raise ConfigError("the beit encoder sees full sequences: use encoder.layout=data2vec2 to drop tokens")
        return local_BTD, None if self.relative_bias is None else _laid_out(self.relative_bias[self.index])


class LearnedStem(_PatchStem):
    """Patch embedding with a learned position for each patch (ViT). The CLS token stands alone at its place, so it has
    none."""

    def __init__(self, config: VisionEncoderConfig) -> None:
        super().__init__(config)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, config.patches, config.width), std=0.02))

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """Add positions and keep visible patches; no attention bias."""
        x_BTD = local_BTD + self.positions
        return (x_BTD if masks is None else gather_tokens(x_BTD, masks.visible())), None


def _laid_out(bias_TTH: Tensor) -> Tensor:
    """(H, T, T), contiguous: attention adds strided values fourteen times more slowly."""
    return bias_TTH.permute(2, 0, 1).contiguous()


class RelativeBlock(PreNormBlock):
    """BEiT's block with a relative position bias table of its own, as in its fine-tuned models.

    Args:
        config: grid and heads of the table.
        sizes: of the block.
        layer_scale_init: as of every BEiT block.
    """

    index: Tensor

    def __init__(self, config: VisionEncoderConfig, *sizes: Any, layer_scale_init: float | None) -> None:
        super().__init__(*sizes, layer_scale_init=layer_scale_init)
        self.relative_bias = nn.Parameter(_relative_table(config))
        self.register_buffer("index", relative_index(config.grid), persistent=False)

    def forward(
        self, x_BTD: Tensor, bias: Tensor | None = None, selected: Selected | None = None
    ) -> tuple[Tensor, Tensor]:
        return super().forward(x_BTD, _laid_out(self.relative_bias[self.index]), selected)


def _relative_table(config: VisionEncoderConfig) -> Tensor:
    return torch.zeros((2 * config.grid - 1) ** 2 + 3, config.heads)


def relative_index(grid: int) -> Tensor:
    """(1+T, 1+T) rows of the relative position table for a CLS token and `grid` x `grid` patches."""
    axis = torch.arange(grid)
    row, column = (a.flatten() for a in torch.meshgrid(axis, axis, indexing="ij"))
    side = 2 * grid - 1
    patch = (row[:, None] - row[None] + grid - 1) * side + (column[:, None] - column[None] + grid - 1)
    index = torch.empty(grid * grid + 1, grid * grid + 1, dtype=torch.long)
    index[1:, 1:] = patch
    index[0, :], index[:, 0], index[0, 0] = side**2, side**2 + 1, side**2 + 2
    return index


def build_encoder(recipe: VisionTrainConfig) -> Encoder:
    """The recipe's encoder, initialised from torch's generator."""
    build = {"data2vec2": _build_data2vec2, "beit": _build_beit, "vit": _build_vit}
    return build[recipe.encoder.layout](recipe.encoder)


def _drop_path_rates(config: VisionEncoderConfig) -> list[float]:
    """A linear ramp over prenet and trunk together (the reference restarts it at the trunk)."""
    blocks = config.prenet_depth + config.depth
    return [config.drop_path * i / max(blocks - 1, 1) for i in range(blocks)]


def _build_data2vec2(config: VisionEncoderConfig) -> Encoder:
    c = config
    kind = DoubledMlpBlock if c.pre_norm else PostNormBlock
    blocks = [
        kind(c.width, c.heads, c.mlp_ratio, c.norm_eps, c.dropout, c.attention_dropout, rate)
        for rate in _drop_path_rates(c)
    ]
    norm = LayerNorm(c.width, eps=c.norm_eps)
    encoder = Encoder(
        SincosStem(c),
        nn.ModuleList(blocks[c.prenet_depth :]),
        c.width,
        prenet=nn.ModuleList(blocks[: c.prenet_depth]),
        extra_tokens=c.extra_tokens,
        context_norm=None if c.pre_norm else norm,
        final_norm=norm if c.pre_norm else None,
    )
    return encoder.apply(bert_init)


def _build_beit(config: VisionEncoderConfig) -> Encoder:
    c = config
    build = functools.partial(RelativeBlock, c) if c.relative_bias == "per_block" else PreNormBlock
    blocks = [
        build(
            c.width,
            c.heads,
            c.mlp_ratio,
            c.norm_eps,
            c.dropout,
            c.attention_dropout,
            rate,
            layer_scale_init=c.layer_scale_init,
        )
        for rate in _drop_path_rates(c)
    ]
    stem, final_norm = RelativeStem(c), LayerNorm(c.width, eps=c.norm_eps) if c.final_norm else None
    encoder = Encoder(stem, nn.ModuleList(blocks), c.width, extra_tokens=1, final_norm=final_norm).apply(bert_init)
    with torch.no_grad():
        for tensor in (encoder.extra_tokens, stem.local.proj.weight):
            if tensor is not None:
                nn.init.trunc_normal_(tensor, std=0.02)
        for depth, block in enumerate(blocks, start=1):
            block.attn.proj.weight.div_(math.sqrt(2.0 * depth))
            block.mlp.fc2.weight.div_(math.sqrt(2.0 * depth))
    return encoder


def _build_vit(config: VisionEncoderConfig) -> Encoder:
    c = config
    blocks = nn.ModuleList(
        VitBlock(c.width, c.heads, c.mlp_ratio, c.norm_eps, c.dropout, c.attention_dropout, rate)
        for rate in _drop_path_rates(c)
    )
    norm = LayerNorm(c.width, eps=c.norm_eps) if c.final_norm else None
    encoder = Encoder(LearnedStem(c), blocks, c.width, extra_tokens=1, final_norm=norm).apply(bert_init)
    if encoder.extra_tokens is not None:
        nn.init.trunc_normal_(encoder.extra_tokens, std=0.02)
    return encoder
