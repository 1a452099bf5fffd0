"""Encoders that the reference's settings can express beside the published ones.

The goldens hold the pre-norm block and the biases of two-dimensional ALiBi by themselves. Whole encoders are compared
with the reference's way written out below over these parts, and speech of wav2vec 2.0's kind with transformers.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d2v.config import parse
from d2v.data.batch import Batch, Inputs
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.interchange.fairseq import import_fairseq
from d2v.interchange.huggingface_export import export_huggingface
from d2v.interchange.importing import import_model
from d2v.interchange.load import load
from d2v.modalities import registry
from d2v.modalities.vision.encoder import GridAlibi, sincos_positions
from d2v.model_folder import load_encoder
from d2v.models.alibi import alibi_slopes, beside_extra_tokens, grid_distances
from d2v.models.blocks import DoubledMlpBlock
from d2v.objectives.build import build_objective
from tests.interchange import encoders
from tests.interchange.parity import assert_close

# ---------------------------------------------------------------------------------- parts, by goldens


@pytest.mark.goldens
def test_the_pre_norm_block_is_the_references(shared_goldens):
    golden = np.load(shared_goldens / "decoders.npz")
    prefix = "block_preln:p:"
    weights = {name.removeprefix(prefix): torch.from_numpy(golden[name]) for name in golden if name.startswith(prefix)}
    block = DoubledMlpBlock(16, 4, 4.0, 1e-5)
    block.load_state_dict(weights)
    block.double()
    padding = torch.from_numpy(golden["block_preln:pad"]).bool()
    bias = torch.from_numpy(golden["block_preln:bias"]).masked_fill(padding[:, None, None], -torch.inf)
    x, ffn = block(torch.from_numpy(golden["block_preln:in"]), bias)
    np.testing.assert_allclose(x.detach(), golden["block_preln:out"], atol=1e-10)
    np.testing.assert_allclose(ffn.detach(), golden["block_preln:target"], atol=1e-10)


@pytest.mark.goldens
@pytest.mark.parametrize("distance", ["manhattan", "euclidean"])
def test_the_bias_between_patches_is_the_references(shared_goldens, distance):
    golden = np.load(shared_goldens / "alibi.npz")
    alibi = GridAlibi(6, 4, distance, extra_tokens=0)
    np.testing.assert_allclose(alibi(None).detach(), golden[f"alibi2d_{distance}_h6_t16"], rtol=1e-6)


def test_the_bias_of_visible_patches_is_a_part_of_the_whole():
    alibi = GridAlibi(4, 3, "euclidean", extra_tokens=2)
    alibi.scale.data = torch.tensor([1.0, 0.5, -1.0, 2.0])  # below 0 there is none
    whole, patches = alibi(None), torch.tensor([[0, 4, 8], [1, 2, 6]])
    kept = torch.cat((torch.tensor([[0, 1], [0, 1]]), patches + 2), dim=1)
    for row, numbers in enumerate(kept):
        assert torch.equal(alibi(patches)[row], whole[:, numbers][:, :, numbers])
    assert not whole[:, :2].any()
    assert not whole[:, :, :2].any()
    assert not whole[2].any()


# ------------------------------------------------------------------------- whole encoders of data2vec 2.0


def attention(block: dict[str, Tensor], x: Tensor, heads: int, bias: Tensor | None) -> Tensor:
    rows, tokens, width = x.shape
    qkv = F.linear(x, block["attn.qkv.weight"], block["attn.qkv.bias"])
    q, k, v = qkv.reshape(rows, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    logits = (q * (width // heads) ** -0.5) @ k.transpose(-2, -1)
    mixed = ((logits if bias is None else logits + bias).softmax(-1) @ v).transpose(1, 2).reshape(rows, tokens, width)
    return F.linear(mixed, block["attn.proj.weight"], block["attn.proj.bias"])


def run_block(
    block: dict[str, Tensor], x: Tensor, heads: int, bias: Tensor | None, pre_norm: bool, eps: float
) -> Tensor:
    def norm(number: int, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], block[f"norm{number}.weight"], block[f"norm{number}.bias"], eps)

    def mlp(x: Tensor) -> Tensor:
        hidden = F.gelu(F.linear(x, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
        return F.linear(hidden, block["mlp.fc2.weight"], block["mlp.fc2.bias"])

    if pre_norm:
        x = x + attention(block, norm(1, x), heads, bias)
        inner = mlp(norm(2, x))
        return inner + inner
    x = norm(1, x + attention(block, x, heads, bias))
    return norm(2, x + mlp(x))


def blocks_of(model: dict[str, Tensor], prefix: str) -> list[dict[str, Tensor]]:
    numbers = sorted({int(name[len(prefix) :].split(".")[0]) for name in model if name.startswith(prefix)})
    return [
        {name[len(f"{prefix}{n}.") :]: value for name, value in model.items() if name.startswith(f"{prefix}{n}.")}
        for n in numbers
    ]


def reference_images(model: dict[str, Tensor], config: dict[str, Any], images: Tensor) -> Tensor:
    """`extract_features` of the reference's image model, in float64."""
    model = {name: value.double() for name, value in model.items() if isinstance(value, Tensor)}
    at, image = "modality_encoders.IMAGE.", config["modalities"]["image"]
    first = f"{at}local_encoder.0." if f"{at}local_encoder.0.proj.weight" in model else f"{at}local_encoder."
    weight = model[f"{first}proj.weight"]
    x = (
        F.conv2d(images.double(), weight, model[f"{first}proj.bias"], stride=weight.shape[-1])
        .flatten(2)
        .transpose(1, 2)
    )
    if first.endswith("0."):
        x = F.linear(x, model[f"{at}local_encoder.1.weight"], model[f"{at}local_encoder.1.bias"])
    if image["fixed_positions"]:
        x = x + model[f"{at}fixed_positional_encoder.positions"]
    extra, bias = image["num_extra_tokens"], None
    if image["use_alibi_encoder"]:
        grid = int(x.shape[1] ** 0.5)
        distances = -grid_distances(grid, image["alibi_distance"]).double()
        bias = distances * alibi_slopes(config["num_heads"]).double()[:, None, None]
        bias = beside_extra_tokens(bias * model[f"{at}alibi_scale"].clamp(min=0)[0, 0], extra)
    if extra:
        x = torch.cat((model[f"{at}extra_tokens"].expand(len(x), -1, -1), x), dim=1)
    pre_norm, eps = config["layer_norm_first"], config["norm_eps"]
    if not pre_norm:
        norm = f"{at}context_encoder.norm."
        x = F.layer_norm(x, x.shape[-1:], model[f"{norm}weight"], model[f"{norm}bias"], eps)
    for block in blocks_of(model, f"{at}context_encoder.blocks.") + blocks_of(model, "blocks."):
        x = run_block(block, x, config["num_heads"], bias, pre_norm, eps)
    if pre_norm:
        x = F.layer_norm(x, x.shape[-1:], model["norm.weight"], model["norm.bias"], eps)
    return x[:, extra:]


Changed = tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]
"""(weights beside those of the golden, None for one that goes; settings of the model; of its images)."""


def transformer_decoder(width: int) -> dict[str, Tensor]:
    names = {
        "input_proj.weight": (16, width),
        "input_proj.bias": (16,),
        "proj.weight": (width, 16),
        "proj.bias": (width,),
    }
    names |= {"encoder.blocks.0.norm1.weight": (16,), "encoder.blocks.0.attn.qkv.weight": (48, 16)}
    return {f"modality_encoders.IMAGE.decoder.{name}": torch.randn(size) for name, size in names.items()}


IMAGE = "modality_encoders.IMAGE."
NORM = {"norm.weight": torch.rand(32) + 0.5, "norm.bias": torch.randn(32)}
WITHOUT_CONTEXT: dict[str, Any] = {f"{IMAGE}context_encoder.norm.{part}": None for part in ("weight", "bias")}
SCALES = {f"{IMAGE}alibi_scale": torch.tensor([0.5, 1.5, -0.2, 1.0]).view(1, 1, 4, 1, 1)}
VARIANTS: dict[str, Changed] = {
    "as published": ({}, {}, {}),
    "pre-norm, extra tokens, reconstruction loss": (
        {
            **NORM,
            **WITHOUT_CONTEXT,
            f"{IMAGE}extra_tokens": torch.randn(1, 4, 32),
            "recon_proj.weight": torch.randn(32, 32),
            "recon_proj.bias": torch.randn(32),
        },
        {"layer_norm_first": True, "recon_loss": 1.0},
        {"num_extra_tokens": 4},
    ),
    "2-D ALiBi, transformer decoder": (
        {**SCALES, **transformer_decoder(32)},
        {},
        {
            "use_alibi_encoder": True,
            "learned_alibi_scale": True,
            "learned_alibi_scale_per_head": True,
            "alibi_distance": "manhattan",
            "transformer_decoder": True,
        },
    ),
    "one euclidean ALiBi scale, no positions": (
        {f"{IMAGE}alibi_scale": torch.full((1, 1, 1, 1, 1), 0.7), f"{IMAGE}fixed_positional_encoder.positions": None},
        {},
        {"use_alibi_encoder": True, "alibi_distance": "euclidean", "fixed_positions": False},
    ),
    "pre-norm with 2-D ALiBi": (
        {**NORM, **WITHOUT_CONTEXT, **SCALES},
        {"layer_norm_first": True},
        {"use_alibi_encoder": True, "alibi_distance": "euclidean"},
    ),
    "no extra token": ({f"{IMAGE}extra_tokens": None}, {}, {"num_extra_tokens": 0}),
    "spectrograms": (
        {
            f"{IMAGE}local_encoder.proj.weight": torch.randn(32, 1, 4, 4) / 4,
            f"{IMAGE}fixed_positional_encoder.positions": sincos_positions(32, 12, 32),
        },
        {},
        {"in_chans": 1, "target_length": 48},
    ),
    "patches of another width": (
        {
            f"{IMAGE}local_encoder.proj.weight": None,
            f"{IMAGE}local_encoder.proj.bias": None,
            f"{IMAGE}local_encoder.0.proj.weight": torch.randn(24, 3, 4, 4) / 8,
            f"{IMAGE}local_encoder.0.proj.bias": torch.randn(24),
            f"{IMAGE}local_encoder.1.weight": torch.randn(32, 24) / 5,
            f"{IMAGE}local_encoder.1.bias": torch.randn(32),
        },
        {},
        {"embed_dim": 24},
    ),
}


NOT_IN_WEIGHTS = ("one euclidean ALiBi scale, no positions", "pre-norm with 2-D ALiBi")
"""Variants of which no weight tells the distance of ALiBi."""


def variant(goldens: Path, tmp_path: Path, changed: Changed, name: str = "v2_image", part: str = "image") -> Path:
    """A golden's file with other weights and settings; its teacher is the student."""
    weights, model_settings, settings = changed
    content = torch.load(goldens / f"{name}.fairseq.pt", weights_only=True)
    del content["model"]["_ema"]
    if any(".decoder.encoder." in weight for weight in weights):
        content["model"] = {key: value for key, value in content["model"].items() if ".decoder." not in key}
    for weight, value in weights.items():
        if value is None:
            del content["model"][weight]
        else:
            content["model"][weight] = value
    content["cfg"] = copy.deepcopy(content["cfg"])
    content["cfg"]["model"] |= model_settings
    content["cfg"]["model"]["modalities"][part] |= settings
    torch.save(content, tmp_path / "variant.pt")
    return tmp_path / "variant.pt"


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("name", "says"),
    [(name, True) for name in VARIANTS] + [(name, False) for name in VARIANTS if name not in NOT_IN_WEIGHTS],
)
def test_variants_of_image_encoders(shared_goldens, tmp_path, name, says):
    """With their settings, and without them as far as the weights tell."""
    file = variant(shared_goldens, tmp_path, VARIANTS[name])
    content = torch.load(file, weights_only=True)
    shape = (1, 48, 128) if name == "spectrograms" else (3, 32, 32)
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = reference_images(content["model"], content["cfg"]["model"], images)
    if not says:
        content["cfg"] = {"model": {"num_heads": 4}}
        torch.save(content, file)
    import_model(file, tmp_path / "model")
    encoder = load_encoder(tmp_path / "model")[0]
    with torch.no_grad():
        assert_close(encoder(images), expected)


@pytest.mark.goldens
def test_what_has_no_place_in_an_encoder_is_kept_or_named(shared_goldens, tmp_path):
    name = "pre-norm, extra tokens, reconstruction loss"
    found = import_fairseq(variant(shared_goldens, tmp_path, VARIANTS[name]))
    assert {"recon_proj.weight", "recon_proj.bias"} <= set(found.unused)
    found = import_fairseq(variant(shared_goldens, tmp_path, VARIANTS["2-D ALiBi, transformer decoder"]))
    assert {"decoder.input_proj.weight", "decoder.encoder.blocks.0.attn.qkv.weight"} <= set(found.head)


@pytest.mark.goldens
@pytest.mark.parametrize(
    "name", [name for name in VARIANTS if name not in ("as published", "patches of another width")]
)
def test_variants_are_not_exported_as_what_they_are_not(shared_goldens, tmp_path, name):
    import_model(variant(shared_goldens, tmp_path, VARIANTS[name]), tmp_path / "model")
    with pytest.raises(ConfigError, match="export to onnx or torch-export"):
        export_huggingface(tmp_path / "model", tmp_path / "theirs")


REFUSED: list[tuple[str, str, Changed, str]] = [
    ("v2_image", "image", ({}, {"norm_affine": False}, {}), "norm_affine=False"),
    ("v2_image", "image", ({}, {"layer_norm_first": True}, {}), "layer_norm_first=True, and its weights lack"),
    ("v2_image", "image", (NORM, {}, {}), "layer_norm_first=False, and its weights hold"),
    ("v2_image", "image", (SCALES, {}, {"use_alibi_encoder": True, "alibi_dims": 1}), "alibi_dims=1"),
    ("v2_image", "image", (SCALES, {}, {"use_alibi_encoder": True, "learned_alibi": True}), "learned_alibi=True"),
    ("v2_image", "image", (SCALES, {}, {"use_alibi_encoder": True, "num_alibi_heads": 2}), "num_alibi_heads=2"),
    (
        "v2_image",
        "image",
        ({f"{IMAGE}alibi_scale": torch.arange(16.0).view(4, 1, 4, 1, 1)}, {}, {"use_alibi_encoder": True}),
        "learned_alibi_scale_per_layer=True",
    ),
    (
        "v2_image",
        "image",
        (
            {
                f"{IMAGE}local_encoder.proj.weight": torch.randn(32, 1, 4, 4),
                f"{IMAGE}fixed_positional_encoder.positions": torch.randn(1, 40, 32),
            },
            {},
            {},
        ),
        "no spectrograms of 128 bands",
    ),
    (
        "v2_image",
        "image",
        ({f"{IMAGE}fixed_positional_encoder.positions": torch.randn(1, 32, 32)}, {}, {}),
        "32 patches, which make no square",
    ),
    ("v2_audio", "audio", ({}, {}, {"conv_pos_pre_ln": True}), "conv_pos_pre_ln=True"),
    ("v2_text", "text", ({}, {}, {"learned_pos": False}), "learned_pos=False"),
    ("v2_text", "text", ({}, {}, {"no_scale_embedding": False}), "no_scale_embedding=False"),
    ("v2_text", "text", ({}, {}, {"layernorm_embedding": False}), "layernorm_embedding=False"),
    ("v2_text", "text", ({}, {}, {"no_token_positional_embeddings": True}), "no_token_positional_embeddings=True"),
    ("v2_text", "text", ({}, {}, {"prenet_depth": 2}), "prenet_depth=2"),
    ("v2_text", "text", ({}, {}, {"num_extra_tokens": 1}), "num_extra_tokens=1"),
    ("v2_text", "text", ({}, {}, {"use_alibi_encoder": True}), "use_alibi_encoder=True"),
]


@pytest.mark.goldens
@pytest.mark.parametrize(("name", "part", "changed", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_options_that_cannot_be_read_are_named(shared_goldens, tmp_path, name, part, changed, words):
    with pytest.raises(CheckpointError, match=words):
        import_fairseq(variant(shared_goldens, tmp_path, changed, name, part))


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("name", "at", "option", "value"),
    [
        ("v1_audio", (), "activation_fn", "relu"),
        ("v1_audio", (), "layer_type", "conformer"),
        ("v1_audio", (), "pos_enc_type", "rope"),
        ("v1_audio", (), "adp_num", 2),
        ("v1_text", ("transformer",), "activation_fn", "relu"),
        ("v1_text", ("transformer",), "no_scale_embedding", False),
        ("v1_text", ("transformer", "encoder"), "learned_pos", False),
    ],
)
def test_options_of_data2vec_1_that_cannot_be_read_are_named(shared_goldens, tmp_path, name, at, option, value):
    content = torch.load(shared_goldens / f"{name}.fairseq.pt", weights_only=True)
    settings = content["cfg"]["model"]
    for key in at:
        settings = settings[key]
    settings[option] = value
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=f"{option}={value!r}"):
        import_fairseq(tmp_path / "other.pt")


@pytest.mark.goldens
def test_an_encoder_of_spectrograms_is_fed_with_spectrograms(shared_goldens, tmp_path):
    """As EAT: its features come from what its authors' programs make of recordings."""
    file = variant(shared_goldens, tmp_path, VARIANTS["spectrograms"])
    model = load(file)
    assert any("spectrograms" in note for note in import_model(file, tmp_path / "model").source.notes)
    spectrograms = torch.randn(2, 1, 48, 128)
    assert np.stack(model.features(Inputs(spectrograms))).shape == (2, 32)
    with pytest.raises(DataError, match=r"1 channel\(s\) of 48 x 128 values.*Model\.features"):
        model.encode(np.zeros((40, 40, 3), np.uint8))


# -------------------------------------------------------------------------------------------- speech


def wav2vec_folder(norm: str, pre_norm: bool, kernel: int, bias: bool) -> tuple[Any, dict[str, Tensor], dict[str, Any]]:
    """(a Wav2Vec2Model of transformers, its weights as data2vec 1.0's speech model of the reference has them, its
    settings)."""
    transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=(16, 16, 16),
        conv_kernel=(10, 3, 2), conv_stride=(5, 2, 2), num_feat_extract_layers=3, num_conv_pos_embeddings=kernel,
        num_conv_pos_embedding_groups=4, feat_extract_norm=norm, do_stable_layer_norm=pre_norm, conv_bias=bias,
    )  # fmt: skip
    theirs = transformers.Wav2Vec2Model(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    inner = "1." if norm == "layer" else ""
    names = (
        ("feature_extractor.conv_layers.{}.conv.", "feature_extractor.conv_layers.{}.0."),
        ("feature_extractor.conv_layers.{}.layer_norm.", f"feature_extractor.conv_layers.{{}}.2.{inner}"),
        ("feature_projection.layer_norm.", "layer_norm."),
        ("feature_projection.projection.", "post_extract_proj."),
        ("encoder.pos_conv_embed.conv.parametrizations.weight.original0", "encoder.pos_conv.0.weight_g"),
        ("encoder.pos_conv_embed.conv.parametrizations.weight.original1", "encoder.pos_conv.0.weight_v"),
        ("encoder.pos_conv_embed.conv.", "encoder.pos_conv.0."),
        ("attention.", "self_attn."),
        ("feed_forward.intermediate_dense.", "fc1."),
        ("feed_forward.output_dense.", "fc2."),
    )
    renamed = {}
    for name, value in theirs.state_dict().items():
        new = name.replace("masked_spec_embed", "mask_emb")
        if new.startswith("encoder.layers.") and ".layer_norm." in new:
            new = new.replace(".layer_norm.", ".self_attn_layer_norm.")
        for their, reference in names:
            for layer in range(3):
                new = new.replace(their.replace("{}", str(layer)), reference.replace("{}", str(layer)))
        renamed[new] = value
    settings = {
        "encoder_attention_heads": 4,
        "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] + [(16, 2, 2)]",
        "layer_norm_first": pre_norm,
        "extractor_mode": "layer_norm" if norm == "layer" else "default",
        "conv_bias": bias,
        "pos_conv_depth": 1,
    }
    return theirs, renamed, settings


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("kernel", [8, 5])
def test_speech_of_wav2vec_2s_kind(tmp_path, norm, pre_norm, kernel):
    """Group norm, weight-normed positions, biases and pre-norm blocks, against transformers' Wav2Vec2Model."""
    theirs, weights, settings = wav2vec_folder(norm, pre_norm, kernel, bias=norm == "layer")
    cfg = {"model": settings, "task": {"normalize": False, "sample_rate": 16000}}
    torch.save({"model": weights, "cfg": cfg}, tmp_path / "speech.pt")
    import_model(tmp_path / "speech.pt", tmp_path / "model")
    encoder, about = load_encoder(tmp_path / "model")
    assert about["recipe"]["encoder"]["pre_norm"] is pre_norm
    waves = 0.3 * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close(encoder(waves), theirs(waves).last_hidden_state)
    with pytest.raises(ConfigError, match="export to onnx or torch-export"):
        export_huggingface(tmp_path / "model", tmp_path / "theirs")


def test_a_recordings_features_do_not_depend_on_those_beside_it_under_group_norm(tmp_path):
    _, weights, settings = wav2vec_folder("group", False, 8, bias=False)
    torch.save({"model": weights, "cfg": {"model": settings}}, tmp_path / "speech.pt")
    model = load(tmp_path / "speech.pt")
    long, short = (np.random.default_rng(0).standard_normal(size).astype("f4") for size in (2000, 1000))
    assert_close(torch.from_numpy(model.encode([long, short])[1]), torch.from_numpy(model.encode(short)))


@pytest.mark.goldens
def test_speech_with_extra_tokens(shared_goldens, tmp_path):
    """As emotion2vec has: they stand before the frames, at no distance from any, and are not returned."""
    tokens = torch.randn(1, 10, 32, generator=torch.Generator().manual_seed(0))
    changed: Changed = ({"modality_encoders.AUDIO.extra_tokens": tokens}, {}, {"num_extra_tokens": 10})
    file = variant(shared_goldens, tmp_path, changed, "v2_audio", "audio")
    content = torch.load(file, weights_only=True)
    import_model(file, tmp_path / "model")
    encoder = load_encoder(tmp_path / "model")[0].double()
    waves = torch.randn(2, 4000, generator=torch.Generator().manual_seed(1)).double()
    local, _ = encoder.stem.add_positions(encoder.stem(waves), None, None)
    model = {name: value.double() for name, value in content["model"].items() if isinstance(value, Tensor)}
    frames = torch.arange(local.shape[1]).double()
    scale = model["modality_encoders.AUDIO.alibi_scale"].clamp(min=0)[0, 0]
    bias = -(frames[:, None] - frames).abs() * alibi_slopes(4).double()[:, None, None] * scale
    x = torch.cat((tokens.double().expand(2, -1, -1), local), dim=1)
    norm = "modality_encoders.AUDIO.context_encoder.norm."
    x = F.layer_norm(x, (32,), model[f"{norm}weight"], model[f"{norm}bias"], 1e-5)
    for block in blocks_of(model, "modality_encoders.AUDIO.context_encoder.blocks.") + blocks_of(model, "blocks."):
        x = run_block(block, x, 4, beside_extra_tokens(bias, 10), False, 1e-5)
    with torch.no_grad():
        assert_close(encoder(waves), x[:, 10:], 1e-9)
        lengths = torch.tensor([4000, 3000])
        assert_close(
            encoder(waves, lengths)[1, : int(encoder.token_lengths(lengths)[1])], encoder(waves[1:, :3000])[0], 1e-9
        )


@pytest.mark.goldens
def test_speech_without_alibi_has_scales_of_zero(shared_goldens, tmp_path):
    changed: Changed = ({"modality_encoders.AUDIO.alibi_scale": None}, {}, {"use_alibi_encoder": False})
    import_model(variant(shared_goldens, tmp_path, changed, "v2_audio", "audio"), tmp_path / "model")
    assert not load_encoder(tmp_path / "model")[0].stem.alibi_scale.any()


@pytest.mark.goldens
def test_an_emotion_model_classifies_the_mean_of_its_frames(shared_goldens, tmp_path):
    content = torch.load(shared_goldens / "v2_audio.fairseq.pt", weights_only=True)
    weights = {f"d2v_model.{name}": value for name, value in content["model"].items() if isinstance(value, Tensor)}
    weights = {name: value for name, value in weights.items() if ".decoder." not in name}
    weights["d2v_model.modality_encoders.AUDIO.extra_tokens"] = torch.randn(1, 10, 32)
    weights |= {"proj.weight": torch.randn(9, 32), "proj.bias": torch.randn(9)}
    torch.save({"model": weights, "cfg": content["cfg"]}, tmp_path / "emotions.pt")
    model = load(tmp_path / "emotions.pt")
    wave = np.random.default_rng(0).standard_normal(4000).astype("f4")
    expected = F.linear(torch.from_numpy(model.encode(wave)), weights["proj.weight"], weights["proj.bias"])
    assert_close(torch.from_numpy(model.outputs(wave)), expected)
    assert model.predict(wave) == str(int(expected.argmax()))


# ---------------------------------------------------------------------------------------------- text


@pytest.mark.goldens
@pytest.mark.parametrize("name", ["v1_text", "v2_text"])
def test_padded_text_has_the_features_it_has_alone(shared_goldens, tmp_path, name):
    """data2vec 1.0's golden is padded itself, and `hf_text` too; 2.0's is not, but masked keys take no part."""
    import_model(shared_goldens / f"{name}.fairseq.pt", tmp_path / "model")
    encoder = load_encoder(tmp_path / "model")[0].double()
    golden = np.load(shared_goldens / f"{name}.npz")
    ids = torch.from_numpy(golden["target_tokens" if name == "v1_text" else "source"])[:2].clone()
    lengths = torch.tensor([ids.shape[1], ids.shape[1] - 5])
    ids[1, int(lengths[1]) :] = 1
    with torch.no_grad():
        assert_close(encoder(ids, lengths)[1, : int(lengths[1])], encoder(ids[1:, : int(lengths[1])])[0], 1e-9)


@pytest.mark.goldens
@pytest.mark.parametrize(("name", "prefix"), [("v1_text", "encoder.sentence_encoder.layer_norm"), ("v2_text", "norm")])
def test_pre_norm_text(shared_goldens, tmp_path, name, prefix):
    content = torch.load(shared_goldens / f"{name}.fairseq.pt", weights_only=True)
    ema = next(key for key in content["model"] if key.endswith("_ema"))
    del content["model"][ema]
    content["model"] |= {f"{prefix}.weight": torch.rand(32) + 0.5, f"{prefix}.bias": torch.randn(32)}
    settings = content["cfg"]["model"]
    block = settings if name == "v2_text" else settings["transformer"]["encoder"]
    block["layer_norm_first" if name == "v2_text" else "normalize_before"] = True
    torch.save(content, tmp_path / "text.pt")
    import_model(tmp_path / "text.pt", tmp_path / "model")
    encoder = load_encoder(tmp_path / "model")[0].double()
    ids = torch.randint(4, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x, _ = encoder.stem.add_positions(encoder.stem(ids), None, None)
        for number, ours in enumerate(encoder.blocks):
            block = dict(ours.state_dict())
            if name == "v2_text":
                x = run_block(block, x, 4, None, True, 1e-5)
            else:
                y = F.layer_norm(x, (32,), block["norm1.weight"], block["norm1.bias"], 1e-5)
                x = x + attention(block, y, 4, None)
                y = F.layer_norm(x, (32,), block["norm2.weight"], block["norm2.bias"], 1e-5)
                y = F.gelu(F.linear(y, block["mlp.fc1.weight"], block["mlp.fc1.bias"]))
                x = x + F.linear(y, block["mlp.fc2.weight"], block["mlp.fc2.bias"])
            assert number < 4
        weight, bias = (content["model"][f"{prefix}.{part}"].double() for part in ("weight", "bias"))
        assert_close(encoder(ids), F.layer_norm(x, (32,), weight, bias, 1e-5), 1e-9)


# -------------------------------------------------------------------------------------- in recipes


TRAINED: list[tuple[str, int, dict[str, Any]]] = [
    ("vision", 2, {"pre_norm": True, "extra_tokens": 3, "alibi": "euclidean", "fixed_positions": False}),
    ("speech", 2, {"pre_norm": True, "extra_tokens": 2}),
    ("speech", 1, {"pre_norm": True, "stem_norm": "group", "stem_bias": True, "position_norm": False}),
    ("text", 2, {"pre_norm": True}),
    ("text", 1, {"pre_norm": True}),
]


@pytest.mark.parametrize(("modality", "version", "settings"), TRAINED)
def test_variants_can_be_trained_on(modality, version, settings):
    recipe = parse(registry.get(modality).train_config, encoders.recipe(modality, version, **settings))
    objective = build_objective(registry.get(modality), recipe).train()
    values, lengths = encoders.inputs(modality)
    ids = torch.arange(len(values))
    batch = Batch(values, ids, torch.zeros_like(ids), update=0, lengths=lengths)
    masks = objective.draw_masks(batch, seed=0, device="cpu")
    (objective(batch, masks).loss_sum / masks.count).backward()
    missing = [name for name, p in objective.student.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(bool(p.grad.isfinite().all()) for p in objective.student.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("modality", "settings", "words"),
    [
        ("vision", {"layout": "beit", "pre_norm": True}, "are data2vec2's"),
        ("vision", {"layout": "beit", "channels": 1}, "are data2vec2's"),
        ("vision", {"image_width_px": 30}, "image_width_px 30 is not a multiple of patch_px 8"),
        ("vision", {"image_width_px": 48, "alibi": "manhattan"}, "alibi is for square images"),
        ("speech", {"layout": "data2vec1", "extra_tokens": 2}, "data2vec1 has no extra tokens"),
    ],
)
def test_settings_that_do_not_go_together_are_named(modality, settings, words):
    version = 2 if settings.get("layout") is None else 1
    with pytest.raises(ConfigError, match=words):
        parse(registry.get(modality).train_config, encoders.recipe(modality, version, **settings))


@pytest.mark.parametrize("settings", [{"channels": 1}, {"image_width_px": 48}])
def test_images_of_other_forms_are_not_for_recipes(settings):
    train = encoders.recipe("vision", 2, **settings)
    with pytest.raises(ConfigError, match="images here are squares with 3 channels"):
        parse(registry.recipe_type("vision"), {"ingest": {"source": "glyphs"}, "train": train})
