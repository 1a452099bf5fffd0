"""Configuration of data2vec 2.0 encoders exported from d2v."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class D2vConfig(PretrainedConfig):
    """Sizes and settings of an encoder.

    Args:
        encoder: the encoder's settings under d2v's names: width, depth, prenet_depth, heads, mlp_ratio, norm_eps,
            dropout, attention_dropout; and of images image_px and patch_px, of speech convs, position_layers,
            position_kernel, position_groups and padding, of text vocab_size, max_tokens and embedding_dropout.
    """

    def __init__(self, encoder: dict[str, Any] | None = None, **others: Any) -> None:
        self.encoder = dict(encoder or {})
        self.hidden_size = self.encoder.get("width")
        self.num_attention_heads = self.encoder.get("heads")
        self.num_hidden_layers = self.encoder.get("prenet_depth", 0) + self.encoder.get("depth", 0)
        super().__init__(**others)


# One class for each modality: transformers finds a model by the class of its configuration.


class D2vVisionConfig(D2vConfig):
    """Of an image encoder."""

    model_type = "d2v-vision"


class D2vSpeechConfig(D2vConfig):
    """Of a speech encoder."""

    model_type = "d2v-speech"


class D2vTextConfig(D2vConfig):
    """Of a text encoder."""

    model_type = "d2v-text"
