"""data2vec 1.0's fine-tuned image models: a relative position table in every block, and no norm after the last."""

from __future__ import annotations

import functools
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from d2v.interchange.encoder_export import export
from d2v.interchange.fairseq import import_fairseq
from d2v.interchange.huggingface import import_huggingface
from d2v.interchange.imported import load_head, save_imported
from d2v.model_folder import load_encoder
from d2v.models.encoder import Encoder
from tests.interchange import encoders
from tests.interchange.encoders import differences
from tests.interchange.parity import assert_close


def all_tokens(encoder: Encoder, images: Tensor) -> Tensor:
    """(B, 1 + T, D) with the CLS token in front."""
    with torch.no_grad():
        encoded = encoder.encode(encoder.stem(images))
    return torch.cat((encoded.extra, encoded.tokens), dim=1)


@pytest.mark.goldens
@pytest.mark.parametrize("name", ["hf_vision", "hf_vision_cls"])
def test_outputs_are_those_of_transformers(shared_goldens, tmp_path, name):
    imported = import_huggingface(shared_goldens / name)
    shared = name == "hf_vision"
    assert imported.recipe.encoder.relative_bias == ("shared" if shared else "per_block")
    assert not imported.recipe.encoder.final_norm
    save_imported(tmp_path / "encoder", imported, name)
    encoder, _ = load_encoder(tmp_path / "encoder")
    stored = np.load(shared_goldens / name / "io.npz")
    tokens = all_tokens(encoder, torch.from_numpy(stored["plain:in:pixel_values"]))
    assert_close(tokens, torch.from_numpy(stored["plain:out:hidden_states.3_f64"]))
    head = {"embeddings.mask_token"} if shared else {f"{n}.{p}" for n in HEAD for p in ("weight", "bias")}
    assert set(load_head(tmp_path / "encoder")) == head


HEAD = ("pooler.layernorm", "classifier")


@pytest.mark.goldens
@pytest.mark.parametrize("container", ["module", "model"])
def test_the_beit_repositorys_files(shared_goldens, tmp_path, container):
    """The weights of transformers' fine-tuned golden under the BEiT repository's names, as DeepSpeed saves them and as
    its own checkpoints do, are the same encoder."""
    expected = import_huggingface(shared_goldens / "hf_vision_cls")
    state = {beit_name(name): value for name, value in expected.encoder.items()}
    tables = {f"blocks.{i}.attn.relative_position_index": torch.zeros(17, 17) for i in range(3)}
    head = {"fc_norm.weight": torch.rand(32), "fc_norm.bias": torch.rand(32), "head.weight": torch.rand(5, 32)}
    torch.save({container: state | tables | head, "ds_version": "0.3"}, tmp_path / "mp_rank_00_model_states.pt")
    imported = import_fairseq(tmp_path / "mp_rank_00_model_states.pt")
    assert imported.encoder.keys() == expected.encoder.keys()
    assert all(torch.equal(value, imported.encoder[name]) for name, value in expected.encoder.items())
    assert set(imported.unused) == set(tables)
    assert imported.head.keys() == head.keys()
    sizes = ("image_px", "patch_px", "width", "depth", "heads", "mlp_ratio", "relative_bias", "final_norm")
    assert all(getattr(imported.recipe.encoder, size) == getattr(expected.recipe.encoder, size) for size in sizes)
    save_imported(tmp_path / "encoder", imported, "a test")


def beit_name(name: str) -> str:
    name = name.replace("extra_tokens", "cls_token").replace("stem.local.", "patch_embed.")
    return re.sub(r"\.relative_bias$", ".attn.relative_position_bias_table", name)


def save(folder):
    return encoders.save(folder, "vision", 1, relative_bias="per_block", final_norm=False)


def test_transformers_has_it_and_gives_it_back(tmp_path):
    transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")
    encoder = encoders.loaded(save(tmp_path / "ours"))
    export(tmp_path / "ours", tmp_path / "theirs", "hf")
    model, report = transformers.AutoModel.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert report["missing_keys"] | report["unexpected_keys"] == set()
    images, _ = encoders.inputs("vision")
    with torch.no_grad():
        assert differences(encoder, all_tokens(encoder, images), model.eval()(images).last_hidden_state, None) < 1e-5
    back = import_huggingface(tmp_path / "theirs")
    assert all(torch.equal(value, back.encoder[name]) for name, value in encoder.state_dict().items())


def test_timm_has_it_with_the_norm_of_its_head(tmp_path):
    beit = pytest.importorskip("timm.models.beit", reason="install the extra `interchange` to run this test")
    imported = encoders.build("vision", 1, relative_bias="per_block", final_norm=False)
    imported.head.update({"fc_norm.weight": torch.rand(32), "fc_norm.bias": torch.rand(32)})
    save_imported(tmp_path / "ours", imported, "a test")
    export(tmp_path / "ours", tmp_path / "out", "timm")
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    model = beit.Beit(**about["arguments"], norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6)).eval()
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"), strict=True)
    encoder, _ = load_encoder(tmp_path / "ours")
    images, _ = encoders.inputs("vision")
    with torch.no_grad():
        assert differences(encoder, all_tokens(encoder, images), model.forward_features(images), None) < 1e-5
        norm = torch.nn.functional.layer_norm(
            encoder.features(images), (32,), *(imported.head[f"fc_norm.{p}"] for p in ("weight", "bias")), eps=1e-6
        )
        assert differences(encoder, norm, model(images), None) < 1e-5
