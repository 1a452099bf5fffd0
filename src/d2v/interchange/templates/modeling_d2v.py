"""data2vec 2.0 encoders for images, speech and text: "Efficient Self-supervised Learning with Contextualized Target
Representations for Vision, Speech and Language" (Baevski et al. 2022), as exported from d2v.

Shape legend: B items, T tokens, E extra tokens, D width, H heads, S samples, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_d2v import D2vConfig, D2vSpeechConfig, D2vTextConfig, D2vVisionConfig

PAD = 1
"""Id of padding in text; positions count from the row after it."""
STEM_EPS = 1e-5
"""Of the norms of speech before the transformer."""


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for q, k and v."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        self.heads, self.dropout = settings["heads"], settings.get("attention_dropout", 0.0)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BTD: Tensor, bias: Tensor | None) -> Tensor:
        batch, tokens, width = x_BTD.shape
        q, k, v = self.qkv(x_BTD).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype), dropout)
        return self.proj(y.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """fc1, GELU, fc2."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A post-norm transformer block: each norm comes after its residual sum."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        self.norm1 = nn.LayerNorm(width, eps=settings["norm_eps"])
        self.attn = Attention(settings)
        self.norm2 = nn.LayerNorm(width, eps=settings["norm_eps"])
        self.mlp = Mlp(width, int(width * settings["mlp_ratio"]))
        self.dropout = nn.Dropout(settings.get("dropout", 0.0))

    def forward(self, x_BTD: Tensor, bias: Tensor | None) -> Tensor:
        x_BTD = self.norm1(x_BTD + self.dropout(self.attn(x_BTD, bias)))
        return self.norm2(x_BTD + self.dropout(self.mlp(x_BTD)))


def is_padding(lengths: Tensor, tokens: int) -> Tensor:
    """(B,) lengths -> (B, tokens) bool, True at padding."""
    return torch.arange(tokens, device=lengths.device) >= lengths[:, None]


Embedded = tuple[Tensor, Tensor | None, Tensor | None]
"""((B, T, D) tokens, bias of attention or None, (B, T) True at padding or None)."""


class PatchStem(nn.Module):
    """Images (B, 3, height, width) to patches with fixed positions."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width, patch = settings["width"], settings["patch_px"]
        self.side = settings["image_px"]
        self.local = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.positions = nn.Parameter(torch.zeros(1, (settings["image_px"] // patch) ** 2, width), requires_grad=False)

    def forward(self, images: Tensor, attention_mask: Tensor | None) -> Embedded:
        if images.shape[-2:] != (self.side, self.side):
            height, width = images.shape[-2:]
            raise ValueError(
                f"images are {height} x {width} and this encoder takes {self.side} x {self.side}: resize them, as the "
                "image processor of this folder does"
            )
        return self.local["proj"](images).flatten(2).transpose(1, 2) + self.positions, None, None


class ConvUnit(nn.Module):
    """Convolution, LayerNorm over channels, GELU."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel, stride, bias=False)
        self.norm = nn.LayerNorm(channels, eps=STEM_EPS)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(x_BCS).transpose(1, 2))).transpose(1, 2)


class ConvFeatures(nn.Module):
    """Waveforms (B, S) to frames (B, T, D)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        convs = settings["convs"]
        before = [1, *(channels for channels, _, _ in convs)]
        self.layers = nn.ModuleList(ConvUnit(c, *conv) for c, conv in zip(before[:-1], convs, strict=True))
        self.norm = nn.LayerNorm(before[-1], eps=STEM_EPS)
        self.projection = nn.Linear(before[-1], settings["width"])

    def forward(self, waves_BS: Tensor) -> Tensor:
        x_BCS = waves_BS.unsqueeze(1)
        for layer in self.layers:
            x_BCS = layer(x_BCS)
        return self.projection(self.norm(x_BCS.transpose(1, 2)))


class ConvPositions(nn.Module):
    """Positions as convolutions of the sequence; the parameters' names are d2v's."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        width, kernel, groups = settings["width"], settings["position_kernel"], settings["position_groups"]
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
            for _ in range(settings["position_layers"])
        )

    def forward(self, x_BTD: Tensor, padding_BT1: Tensor | None) -> Tensor:
        for conv in self.convs:
            if padding_BT1 is not None:
                x_BTD = x_BTD.masked_fill(padding_BT1, 0.0)
            x_BTD = conv(x_BTD.transpose(1, 2)).transpose(1, 2)
            x_BTD = F.gelu(F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=STEM_EPS))
        return x_BTD


class SpeechStem(nn.Module):
    """Waveforms (B, S) to frames with convolutional positions, and ALiBi's bias with a learned scale for each head."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        self.local = ConvFeatures(settings)
        self.positions = ConvPositions(settings)
        self.alibi_scale = nn.Parameter(torch.ones(settings["heads"]))

    def forward(self, waves_BS: Tensor, attention_mask: Tensor | None) -> Embedded:
        x_BTD = self.local(waves_BS)
        padding_BT = None if attention_mask is None else self._padding(attention_mask != 0, x_BTD.shape[1])
        padding_BT1 = None
        if padding_BT is not None and self.settings.get("padding", "invariant") == "invariant":
            padding_BT1 = padding_BT.unsqueeze(-1)
            x_BTD = x_BTD.masked_fill(padding_BT1, 0.0)
        return x_BTD + self.positions(x_BTD, padding_BT1), self._alibi(x_BTD.shape[1]), padding_BT

    def _padding(self, given_BS: Tensor, frames: int) -> Tensor:
        """Of frames, from the samples that are given."""
        if not torch.compiler.is_compiling() and bool((given_BS[:, 1:] & ~given_BS[:, :-1]).any()):
            raise ValueError(
                "padding comes before samples, and frames cannot begin there: pad with padding_side='right'"
            )
        return is_padding(self._frames(given_BS.long().sum(dim=1)), frames)

    def _frames(self, samples: Tensor) -> Tensor:
        for _, kernel, stride in self.settings["convs"]:
            samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
        return samples.clamp(min=0)

    def _alibi(self, tokens: int) -> Tensor:
        """(H, T, T) minus distance times slope times scale (Press et al. 2022)."""
        heads, device = self.settings["heads"], self.alibi_scale.device
        power = 2 ** math.floor(math.log2(heads))
        slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
        slopes += [2.0 ** (-8.0 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
        frames = torch.arange(tokens, device=device)
        distance_TT = (frames[:, None] - frames[None]).abs().float()
        scale_H = torch.tensor(slopes[:heads], device=device) * self.alibi_scale.float().clamp(min=0.0)
        return -distance_TT * scale_H[:, None, None]


class Placing(nn.Module):
    """Learned positions, LayerNorm, dropout."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.positions = nn.Embedding(settings["max_tokens"] + PAD + 1, settings["width"], padding_idx=PAD)
        self.norm = nn.LayerNorm(settings["width"], eps=settings["norm_eps"])
        self.dropout = nn.Dropout(settings.get("embedding_dropout", 0.0))

    def forward(self, words_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        """Positions count tokens, wherever padding stands."""
        first = PAD + 1
        if padding_BT is None:
            positions = self.positions.weight[first : first + words_BTD.shape[1]]
        else:
            positions = self.positions((~padding_BT).long().cumsum(dim=1).masked_fill(padding_BT, 0) + PAD)
        return self.dropout(self.norm(words_BTD + positions))


class TextStem(nn.Module):
    """Token ids (B, T) to vectors."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        words = nn.Embedding(settings["vocab_size"], settings["width"], padding_idx=PAD)
        self.local = nn.ModuleDict({"words": words, "placing": Placing(settings)})

    def forward(self, ids_BT: Tensor, attention_mask: Tensor | None) -> Embedded:
        padding_BT = None if attention_mask is None else attention_mask == 0
        return self.local["placing"](self.local["words"](ids_BT), padding_BT), None, padding_BT


class D2vPreTrainedModel(PreTrainedModel):
    """Shared by the three models: context norm, prenet and trunk.

    `last_hidden_state` is (B, E + T, D) with the extra (CLS) token of images in front; `pooler_output` is the mean of
    the tokens that are neither extra nor padding.
    """

    config_class = D2vConfig
    base_model_prefix = "d2v"
    _supports_sdpa = True
    _no_split_modules = ["Block"]  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: D2vConfig, stem: type[nn.Module], extra_tokens: int, context_norm: bool) -> None:
        super().__init__(config)
        settings = config.encoder
        width = settings["width"]
        self.stem: Any = stem(settings)
        self.extra_tokens = nn.Parameter(torch.zeros(1, extra_tokens, width)) if extra_tokens else None
        self.context_norm = nn.LayerNorm(width, eps=settings["norm_eps"]) if context_norm else None
        self.prenet = nn.ModuleList(Block(settings) for _ in range(settings.get("prenet_depth", 0)))
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings["depth"]))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """BERT's initialisation, for models that are built from a configuration alone."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def encode(
        self, inputs: Tensor, attention_mask: Tensor | None, output_hidden_states: bool | None
    ) -> BaseModelOutputWithPooling:
        """All that comes after the inputs. `attention_mask` is 1 where there is no padding."""
        x, bias, padding_BT = self.stem(inputs, attention_mask)
        extra = 0
        if self.extra_tokens is not None:
            extra = self.extra_tokens.shape[1]
            x = torch.cat((self.extra_tokens.expand(x.shape[0], -1, -1), x), dim=1)
        if padding_BT is not None:
            bias = torch.zeros(1, 1, 1, x.shape[1], device=x.device) if bias is None else bias
            bias = bias.masked_fill(padding_BT[:, None, None], -torch.inf)
        if self.context_norm is not None:
            x = self.context_norm(x)
        states = [x]
        for block in (*self.prenet, *self.blocks):
            x = block(x, bias)
            states.append(x)
        return BaseModelOutputWithPooling(
            x, self._mean(x[:, extra:], padding_BT), tuple(states) if self._wants(output_hidden_states) else None
        )

    def _wants(self, output_hidden_states: bool | None) -> bool:
        return self.config.output_hidden_states if output_hidden_states is None else output_hidden_states

    @staticmethod
    def _mean(x_BTD: Tensor, padding_BT: Tensor | None) -> Tensor:
        """(B, D) the mean of tokens that are not padding."""
        if padding_BT is None:
            return x_BTD.mean(dim=1)
        tokens_B1 = (~padding_BT).sum(dim=1, keepdim=True)
        return x_BTD.masked_fill(padding_BT.unsqueeze(-1), 0.0).sum(dim=1) / tokens_B1


class D2vVisionModel(D2vPreTrainedModel):
    """Images (B, 3, height, width), normalised as preprocessor_config.json says."""

    config_class = D2vVisionConfig
    main_input_name = "pixel_values"

    def __init__(self, config: D2vVisionConfig) -> None:
        super().__init__(config, PatchStem, extra_tokens=1, context_norm=True)

    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None, **others: Any
    ) -> BaseModelOutputWithPooling:
        return self.encode(pixel_values, None, output_hidden_states)


class D2vSpeechModel(D2vPreTrainedModel):
    """Waveforms (B, samples) at 16 kHz of zero mean and unit variance; `attention_mask` is 1 at samples, and 0 at the
    padding after them."""

    config_class = D2vSpeechConfig
    main_input_name = "input_values"

    def __init__(self, config: D2vSpeechConfig) -> None:
        super().__init__(config, SpeechStem, extra_tokens=0, context_norm=True)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPooling:
        return self.encode(input_values, attention_mask, output_hidden_states)


class D2vTextModel(D2vPreTrainedModel):
    """Token ids (B, T); `attention_mask` is 0 at padding, which may stand on either side."""

    config_class = D2vTextConfig
    main_input_name = "input_ids"

    def __init__(self, config: D2vTextConfig) -> None:
        super().__init__(config, TextStem, extra_tokens=0, context_norm=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **others: Any,
    ) -> BaseModelOutputWithPooling:
        return self.encode(input_ids, attention_mask, output_hidden_states)
