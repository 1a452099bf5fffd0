"""transformers' folders, read without transformers, against outputs that its classes computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from d2v.errors import CheckpointError
from d2v.interchange.huggingface import ARCHITECTURES, import_huggingface
from d2v.interchange.huggingface_names import join_attention, renamed, split_attention
from d2v.interchange.imported import load_head, save_imported
from d2v.model_folder import load_encoder
from d2v.models.encoder import Encoder
from tests.interchange import encoders
from tests.interchange.parity import assert_close
from tests.interchange.test_fairseq_reading import Bomb

HEADS = {
    "hf_audio": set(),
    "hf_audio_ctc": {"lm_head.weight", "lm_head.bias"},
    "hf_text": {"pooler.dense.weight", "pooler.dense.bias"},
    "hf_text_mlm": {
        "lm_head.bias",
        "lm_head.dense.weight",
        "lm_head.dense.bias",
        "lm_head.layer_norm.weight",
        "lm_head.layer_norm.bias",
    },
    "hf_text_seqcls": {f"classifier.{layer}.{part}" for layer in ("dense", "out_proj") for part in ("weight", "bias")},
}


def read(folder: Path, tmp_path: Path) -> Encoder:
    save_imported(tmp_path / "encoder", import_huggingface(folder), folder.name)
    return load_encoder(tmp_path / "encoder")[0]


@pytest.mark.goldens
@pytest.mark.parametrize("name", HEADS)
def test_outputs_are_those_of_transformers(shared_goldens, tmp_path, name):
    encoder = read(shared_goldens / name, tmp_path)
    stored = np.load(shared_goldens / name / "io.npz")
    inputs = next(stored[key] for key in stored.files if key.startswith("plain:in:"))
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(inputs))
    assert_close(tokens, torch.from_numpy(stored["plain:out:hidden_states.3_f64"]))


@pytest.mark.goldens
@pytest.mark.parametrize(("name", "key"), [("hf_audio", "input_values"), ("hf_text", "input_ids")])
def test_padding_is_treated_as_transformers_does(shared_goldens, tmp_path, name, key):
    encoder = read(shared_goldens / name, tmp_path)
    stored = np.load(shared_goldens / name / "io.npz")
    lengths = torch.from_numpy(stored["padded:in:attention_mask"]).sum(dim=1)
    assert lengths[1] < lengths[0]
    with torch.no_grad():
        tokens = encoder(torch.from_numpy(stored[f"padded:in:{key}"]), lengths)
    reference = torch.from_numpy(stored["padded:out:last_hidden_state_f64"])
    for row, length in enumerate(encoder.token_lengths(lengths)):
        assert_close(tokens[row, :length], reference[row, :length])


@pytest.mark.goldens
@pytest.mark.parametrize("name", HEADS)
def test_what_is_no_encoder_is_kept_apart(shared_goldens, tmp_path, name):
    imported = import_huggingface(shared_goldens / name)
    assert set(imported.head) == HEADS[name]
    assert imported.unused == ()
    save_imported(tmp_path / "encoder", imported, name)
    kept = load_head(tmp_path / "encoder")
    stored = load_file(shared_goldens / name / "model.safetensors")
    assert set(kept) == HEADS[name]
    assert all(torch.equal(value, stored[key]) for key, value in kept.items())


@pytest.mark.goldens
def test_pickled_weights_are_the_same(shared_goldens, tmp_path):
    folder = shared_goldens / "hf_text"
    for file in ("config.json", "pytorch_model.bin"):
        shutil.copyfile(folder / file, tmp_path / file)
    pickled, safe = import_huggingface(tmp_path).encoder, import_huggingface(folder).encoder
    assert pickled.keys() == safe.keys()
    assert all(torch.equal(pickled[name], safe[name]) for name in safe)


@pytest.mark.goldens
def test_weights_in_several_files_are_read(shared_goldens, tmp_path):
    folder = shared_goldens / "hf_text"
    whole = load_file(folder / "model.safetensors")
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(whole)}
    for file in set(files.values()):
        save_file({name: value for name, value in whole.items() if files[name] == file}, tmp_path / file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    shutil.copyfile(folder / "config.json", tmp_path / "config.json")
    split, expected = import_huggingface(tmp_path).encoder, import_huggingface(folder).encoder
    assert split.keys() == expected.keys()
    assert all(torch.equal(split[name], expected[name]) for name in expected)


def test_code_in_pickled_weights_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "config.json").write_text('{"model_type": "data2vec-text"}')
    torch.save({"embeddings.LayerNorm.weight": Bomb(marker)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="refused"):
        import_huggingface(tmp_path)
    assert not marker.exists()


@pytest.mark.goldens
def test_class_names_come_with_a_classifier(shared_goldens):
    assert import_huggingface(shared_goldens / "hf_text_seqcls").about["class_names"] == [
        f"LABEL_{i}" for i in range(3)
    ]


@pytest.fixture
def changed(shared_goldens, tmp_path):
    """A writable copy of the tiny audio model: (folder, its weights, its settings)."""
    folder = tmp_path / "changed"
    folder.mkdir()
    source = shared_goldens / "hf_audio"
    return folder, load_file(source / "model.safetensors"), json.loads((source / "config.json").read_text())


def write(folder, weights, config):
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.goldens
def test_a_misfit_names_every_key(changed, tmp_path):
    folder, weights, config = changed
    del weights["encoder.layers.1.layer_norm.bias"]
    weights["encoder.layers.0.surprise.weight"] = torch.zeros(2)
    weights["encoder.layers.2.final_layer_norm.bias"] = torch.zeros(5)
    imported = import_huggingface(write(folder, weights, config))
    with pytest.raises(CheckpointError) as error:
        save_imported(tmp_path / "encoder", imported, "changed")
    for words in (
        "missing blocks.1.norm1.bias",
        "unexpected encoder.layers.0.surprise.weight",
        "blocks.2.norm2.bias is (5,)",
    ):
        assert words in str(error.value)
    assert not (tmp_path / "encoder").exists()


@pytest.mark.goldens
def test_a_part_of_fused_attention_that_is_missing_is_named(changed, tmp_path):
    folder, weights, config = changed
    del weights["encoder.layers.1.attention.k_proj.weight"]
    with pytest.raises(CheckpointError, match=r"missing blocks\.1\.attn\.qkv\.weight"):
        save_imported(tmp_path / "encoder", import_huggingface(write(folder, weights, config)), "changed")


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"model_type": "bert"}, "'bert'"),
        (
            {"conv_bias": True, "hidden_act": "relu"},
            "conv_bias=True, hidden_act='relu'|hidden_act='relu', conv_bias=True",
        ),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps=1e-12"),
        ({"add_adapter": True}, "add_adapter=True"),
    ],
)
def test_settings_without_a_counterpart_are_named(changed, setting, words):
    folder, weights, config = changed
    with pytest.raises(CheckpointError, match=words):
        import_huggingface(write(folder, weights, config | setting))


@pytest.mark.goldens
def test_tables_that_are_rebuilt_are_named(changed):
    folder, weights, config = changed
    weights["embeddings.position_ids"] = torch.zeros(1, 3)
    assert import_huggingface(write(folder, weights, config)).unused == ("embeddings.position_ids",)


def test_what_is_no_such_folder_is_said_so(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_huggingface(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "data2vec-text"}')
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors"):
        import_huggingface(tmp_path)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="no settings"):
        import_huggingface(tmp_path)


@pytest.mark.goldens
def test_an_encoder_is_not_written_over_another(shared_goldens, tmp_path):
    imported = import_huggingface(shared_goldens / "hf_text")
    save_imported(tmp_path, imported, "first")
    with pytest.raises(CheckpointError, match="already holds"):
        save_imported(tmp_path, imported, "second")


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=lambda one: one.kind)
def test_names_go_both_ways(architecture):
    """Every parameter of our data2vec 1.0 encoders has another name there, and comes back from it."""
    state = encoders.build(architecture.modality, 1).encoder
    apart = split_attention(state)
    theirs = {name: renamed(name, architecture.names, "theirs") for name in apart}
    assert None not in theirs.values()
    assert len(set(theirs.values())) == len(theirs)
    back = join_attention({renamed(new, architecture.names, "ours"): apart[name] for name, new in theirs.items()})
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
