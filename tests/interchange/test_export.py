"""Graphs and plain weights for other programs compute what our encoders compute."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from safetensors.torch import load_file

from d2v.errors import ConfigError
from d2v.interchange import encoder_export as export_module
from d2v.interchange.encoder_export import LENGTHS, NAMES, export
from d2v.models import blocks
from tests.interchange import encoders
from tests.interchange.encoders import ALL, differences


def each(*quick):
    """All encoders; those that are not `quick` in the slow tests, for tracing takes seconds."""
    marks = {encoder: () if encoder in quick else pytest.mark.slow for encoder in ALL}
    return pytest.mark.parametrize(
        ("modality", "version"), [pytest.param(*encoder, marks=mark) for encoder, mark in marks.items()]
    )


SHAPES = [(1, 5), (3, 23), (7, 39)]
"""(items, positions) that no graph was traced with."""


@each(("text", 2))
def test_a_graph_takes_any_number_of_items_and_positions(tmp_path, modality, version):
    encoder = encoders.loaded(encoders.save(tmp_path / "ours", modality, version, depth=1))
    before = blocks.PLAIN_ATTENTION_TOKENS
    export(tmp_path / "ours", tmp_path / "out", "torch-export")
    assert before == blocks.PLAIN_ATTENTION_TOKENS
    graph = torch.export.load(tmp_path / "out" / "encoder.pt2").module()
    for items, positions in SHAPES:
        values, lengths = encoders.inputs(modality, items, positions)
        with torch.no_grad():
            tokens, features = graph(values) if lengths is None else graph(values, lengths)
            assert differences(encoder, encoder(values, lengths), tokens, lengths) < 1e-5
            assert differences(encoder, encoder.features(values, lengths), features, None) < 1e-5


@each(("vision", 1), ("speech", 2))
def test_onnx_takes_any_number_of_items_and_positions(tmp_path, modality, version):
    runtime = pytest.importorskip("onnxruntime", reason="install the extra `interchange` to run this test")
    pytest.importorskip("onnxscript", reason="install the extra `interchange` to run this test")
    encoder = encoders.loaded(encoders.save(tmp_path / "ours", modality, version, depth=1))
    notes = export(tmp_path / "ours", tmp_path / "out", "onnx")
    assert notes == (() if modality == "vision" else (LENGTHS,))
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(tmp_path / "out" / "encoder.onnx", options)
    assert [value.name for value in session.get_inputs()] == ["inputs"]
    for items, positions in [(1, 1), *SHAPES]:
        values, given = encoders.inputs(modality, items, positions)
        for lengths in (None,) if given is None else (None, given):
            feed = {"inputs": values.numpy()} | ({} if lengths is None else {"lengths": lengths.numpy()})
            tokens, features = (torch.from_numpy(output) for output in session.run(["tokens", "features"], feed))
            with torch.no_grad():
                assert differences(encoder, encoder(values, lengths), tokens, lengths) < 1e-5
                assert differences(encoder, encoder.features(values, lengths), features, None) < 1e-5


def test_timm_has_the_image_encoder_of_data2vec1(tmp_path):
    beit = pytest.importorskip("timm.models.beit", reason="install the extra `interchange` to run this test")
    encoder = encoders.loaded(encoders.save(tmp_path / "ours", "vision", 1, norm_eps=1e-3))
    (note,) = export(tmp_path / "ours", tmp_path / "out", "timm")
    assert "eps=0.001" in note
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    norm = functools.partial(torch.nn.LayerNorm, eps=about["norm_eps"])
    model = beit.Beit(**about["arguments"], norm_layer=norm).eval()
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"), strict=True)
    values, _ = encoders.inputs("vision")
    with torch.no_grad():
        encoded = encoder.encode(encoder.stem(values))
        ours = torch.cat((encoded.extra, encoded.tokens), dim=1)
        assert differences(encoder, ours, model.forward_features(values), None) < 1e-5


@pytest.mark.parametrize(("modality", "version"), [("vision", 2), ("text", 1)])
def test_timm_has_no_other(tmp_path, modality, version):
    encoders.save(tmp_path / "ours", modality, version)
    with pytest.raises(ConfigError, match=r"norm\(x \+ branch\(x\)\).*export to hf or onnx"):
        export(tmp_path / "ours", tmp_path / "out", "timm")
    assert not (tmp_path / "out").exists()


def test_plain_weights_are_the_students(tmp_path):
    encoder = encoders.loaded(encoders.save(tmp_path / "ours", "text", 2))
    export(tmp_path / "ours", tmp_path / "out", "safetensors")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"config.json", "encoder.safetensors", "export.json"}
    again = encoders.loaded(tmp_path / "out")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in encoder.state_dict().items())


def test_unknown_formats_and_used_folders_are_refused(tmp_path):
    encoders.save(tmp_path / "ours", "text", 2)
    with pytest.raises(ConfigError, match=f"give one of {', '.join(NAMES)}"):
        export(tmp_path / "ours", tmp_path / "out", "gguf")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for form in ("hf", "safetensors"):
        with pytest.raises(ConfigError, match="is not empty: give a new folder"):
            export(tmp_path / "ours", tmp_path / "full", form)


def test_packages_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "find_spec", lambda name: None)
    encoders.save(tmp_path / "ours", "text", 2)
    with pytest.raises(ConfigError, match=r"onnx and onnxscript: install d2v\[interchange\]"):
        export(tmp_path / "ours", tmp_path / "out", "onnx")
