"""Our encoders in transformers' own classes and in the modelling code that an export carries."""

from __future__ import annotations

import ast
import io
import json
from importlib import resources

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

import d2v
from d2v.errors import ConfigError
from d2v.interchange.fairseq import import_fairseq
from d2v.interchange.huggingface import import_huggingface
from d2v.interchange.huggingface_export import TEMPLATES, export_huggingface
from d2v.interchange.imported import save_imported
from d2v.modalities import registry
from d2v.modalities.text.tokenizer import train_tokenizer
from tests.interchange import encoders
from tests.interchange.encoders import differences, every

transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")

CLASSES = {
    ("vision", 1): "Data2VecVisionModel",
    ("speech", 1): "Data2VecAudioModel",
    ("text", 1): "Data2VecTextModel",
    ("vision", 2): "D2vVisionModel",
    ("speech", 2): "D2vSpeechModel",
    ("text", 2): "D2vTextModel",
}


@pytest.fixture(autouse=True)
def modules_in(tmp_path, monkeypatch):
    """What transformers copies of an export's code stays in the test's folder."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")


def in_transformers(folder, version):
    """(model, keys that its file lacks or has too many)."""
    model, report = transformers.AutoModel.from_pretrained(
        folder, trust_remote_code=version == 2, output_loading_info=True
    )
    return model.eval(), report["missing_keys"] | report["unexpected_keys"]


@every
def test_outputs_are_ours(tmp_path, modality, version):
    padding = {"padding": "reference"} if (modality, version) == ("speech", 1) else {}
    encoder = encoders.loaded(encoders.save(tmp_path / "ours", modality, version, **padding))
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    model, strange = in_transformers(tmp_path / "theirs", version)
    assert type(model).__name__ == CLASSES[modality, version]
    assert {key for key in strange if not key.startswith("pooler.")} == set()
    values, lengths = encoders.inputs(modality)
    full = values.masked_fill(values == 1, 5) if modality == "text" else values  # transformers knows padding by its id
    with torch.no_grad():
        encoded = encoder.encode(encoder.stem(full))
        whole = model(full).last_hidden_state
        assert differences(encoder, torch.cat((encoded.extra, encoded.tokens), dim=1), whole, None) < 1e-5
        if lengths is not None:
            mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
            padded = model(values, attention_mask=mask).last_hidden_state
            assert differences(encoder, encoder(values, lengths), padded, lengths) < 1e-5


@pytest.mark.parametrize("modality", registry.MODALITIES)
def test_the_carried_code_pools_and_keeps_states(tmp_path, modality):
    encoder = encoders.loaded(encoders.save(tmp_path / "ours", modality, 2))
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    model, _ = in_transformers(tmp_path / "theirs", 2)
    values, lengths = encoders.inputs(modality)
    masks = {} if lengths is None else {"attention_mask": (torch.arange(values.shape[1]) < lengths[:, None]).long()}
    with torch.no_grad():
        output = model(values, output_hidden_states=True, **masks)
        assert differences(encoder, encoder.features(values, lengths), output.pooler_output, None) < 1e-5
    assert len(output.hidden_states) == 1 + len(encoder.prenet) + len(encoder.blocks)
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)


def test_the_carried_code_needs_torch_and_transformers_alone():
    for file in TEMPLATES:
        tree = ast.parse((resources.files("d2v.interchange.templates") / file).read_text())
        nodes = list(ast.walk(tree))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
        assert {name.split(".")[0] for name in names} <= {"__future__", "math", "torch", "transformers", "typing"}


@every
def test_the_way_back_keeps_every_bit(tmp_path, modality, version):
    imported = encoders.build(modality, version)
    save_imported(tmp_path / "ours", imported, "a test")
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    back = import_huggingface(tmp_path / "theirs")
    assert back.recipe.encoder == imported.recipe.encoder
    assert back.encoder.keys() == imported.encoder.keys()
    assert all(torch.equal(value, imported.encoder[name]) for name, value in back.encoder.items())


@pytest.mark.goldens
@pytest.mark.parametrize("name", ["v1_audio", "v1_text", "v1_image", "v2_audio", "v2_text", "v2_image"])
def test_from_the_reference_to_transformers_and_back_keeps_every_bit(shared_goldens, tmp_path, name):
    imported = import_fairseq(shared_goldens / f"{name}.fairseq.pt")
    about = {"mean": [0.5] * 3, "std": [0.5] * 3} if imported.modality == "vision" else {}
    imported.about.update(about)
    save_imported(tmp_path / "ours", imported, name)
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    _, strange = in_transformers(tmp_path / "theirs", int(name[1]))
    assert {key for key in strange if not key.startswith("pooler.")} == set()
    back = import_huggingface(tmp_path / "theirs")
    assert back.encoder.keys() == imported.encoder.keys()
    assert all(torch.equal(value, imported.encoder[key]) for key, value in back.encoder.items())


def test_a_mask_vector_travels_with_its_encoder(tmp_path):
    imported = encoders.build("speech", 1)
    imported.head["mask_token"] = torch.randn(1, 1, 32)
    save_imported(tmp_path / "ours", imported, "a test")
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    model, strange = in_transformers(tmp_path / "theirs", 1)
    assert strange == set()
    assert torch.equal(model.masked_spec_embed.detach(), imported.head["mask_token"].flatten())
    assert torch.equal(import_huggingface(tmp_path / "theirs").head["masked_spec_embed"], model.masked_spec_embed)


def test_padding_that_transformers_treats_otherwise_is_said(tmp_path):
    encoders.save(tmp_path / "ours", "speech", 1)
    (note,) = export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    assert "encoder.padding=reference" in note
    assert import_huggingface(tmp_path / "theirs").recipe.encoder.padding == "invariant"


def test_an_epsilon_that_transformers_cannot_hold_is_refused(tmp_path):
    encoders.save(tmp_path / "ours", "speech", 1, norm_eps=1e-6)
    with pytest.raises(ConfigError, match=r"encoder\.norm_eps is 1e-06"):
        export_huggingface(tmp_path / "ours", tmp_path / "theirs")


# ------------------------------------------------------------------------------------------------ inputs


def test_images_are_fed_as_ours_are(tmp_path):
    encoders.save(tmp_path / "ours", "vision", 1)
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "theirs")
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    theirs = processor(list(images), return_tensors="pt")["pixel_values"]
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    torch.testing.assert_close(theirs, registry.get("vision").to_inputs(images, config).values, rtol=0, atol=1e-5)


def photographs():
    """A photograph in the forms that people have, by name."""
    flower = Image.fromarray(load_sample_image("flower.jpg"))
    file = io.BytesIO()
    flower.save(file, "JPEG")
    clear = flower.convert("RGBA")
    clear.putalpha(Image.fromarray(np.linspace(0, 255, 640).astype(np.uint8)[None].repeat(427, axis=0)))
    return {
        "JPEG": Image.open(io.BytesIO(file.getvalue())),
        "grey": flower.convert("L"),
        "palette": flower.convert("P"),
        "RGBA": clear,
        "small": flower.resize((20, 15)),
    }


@pytest.mark.parametrize("form", photographs())
@pytest.mark.parametrize("version", [1, 2])
def test_photographs_have_our_features_but_for_rounding(tmp_path, version, form):
    """transformers resizes to 8 bits, which differs by at most half a level of 255, save at sharp edges."""
    encoders.save(tmp_path / "ours", "vision", version, image_px=64, patch_px=16)
    (*_, note) = export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    assert "rounds resized images to 8 bits" in note
    picture = photographs()[form]
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "theirs")
    model, _ = in_transformers(tmp_path / "theirs", version)
    ours = d2v.load(tmp_path / "ours", device="cpu")
    with torch.no_grad():
        theirs = model(processor(picture, return_tensors="pt")["pixel_values"]).last_hidden_state[0, 1:].mean(dim=0)
    features = ours.encode(picture)
    assert np.abs(features - theirs.numpy()).max() < 0.005 * np.abs(features).max()
    exact = picture.resize((64, 64))
    inputs = processor(exact, return_tensors="pt")["pixel_values"]
    if form != "RGBA":  # transparency on white is rounded to 8 bits on both sides, but not by the same program
        torch.testing.assert_close(inputs, ours.to_inputs([exact]).values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [23, 25, 31, 32])
def test_images_of_another_side_are_refused(tmp_path, side):
    """Also those of which a convolution would cut the rest that is no patch."""
    encoders.save(tmp_path / "ours", "vision", 2)
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    model, _ = in_transformers(tmp_path / "theirs", 2)
    with pytest.raises(ValueError, match=f"images are 24 x {side} and this encoder takes 24 x 24: resize them"):
        model(torch.zeros(1, 3, 24, side))


def test_a_class_that_cuts_images_is_named(tmp_path):
    encoders.save(tmp_path / "ours", "vision", 1)
    notes = export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    assert any("cuts what is no whole patch: give it 24 x 24" in note for note in notes)


def test_texts_padded_on_either_side_are_as_without_padding(tmp_path):
    encoder = encoders.loaded(encoders.save(tmp_path / "ours", "text", 2))
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    model, _ = in_transformers(tmp_path / "theirs", 2)
    values, lengths = encoders.inputs("text")
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
    shifts = (values.shape[1] - lengths).tolist()
    left = torch.stack([row.roll(shift) for row, shift in zip(values, shifts, strict=True)])
    left_mask = torch.stack([row.roll(shift) for row, shift in zip(mask, shifts, strict=True)])
    with torch.no_grad():
        features = encoder.features(values, lengths)
        for ids, given in ((values, mask), (left, left_mask)):
            output = model(ids, attention_mask=given)
            assert differences(encoder, features, output.pooler_output, None) < 1e-5
        tokens = [row[-length:] for row, length in zip(output.last_hidden_state, lengths.tolist(), strict=True)]
        for row, length, found in zip(values, lengths.tolist(), tokens, strict=True):
            assert differences(encoder, encoder(row[None, :length])[0], found, None) < 1e-5


def test_recordings_padded_on_the_left_are_refused(tmp_path):
    encoders.save(tmp_path / "ours", "speech", 2)
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    model, _ = in_transformers(tmp_path / "theirs", 2)
    values, lengths = encoders.inputs("speech")
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long().flip(1)
    with pytest.raises(ValueError, match="pad with padding_side='right'"):
        model(values, attention_mask=mask)


@pytest.mark.parametrize("version", [1, 2])
def test_recordings_are_fed_as_ours_are(tmp_path, version):
    encoders.save(tmp_path / "ours", "speech", version)
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "theirs")
    generator = np.random.default_rng(0)
    waves = [generator.standard_normal(samples).astype(np.float32) * 0.5 for samples in (300, 200)]
    theirs = extractor(waves, sampling_rate=16_000, padding=True, return_tensors="pt")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    ours = registry.get("speech").to_inputs(waves, config)
    torch.testing.assert_close(theirs["input_values"], ours.values, rtol=0, atol=1e-4)  # 1e-7, not 1e-5, in the root
    assert torch.equal(theirs["attention_mask"].sum(dim=1).long(), ours.lengths)


@pytest.mark.parametrize("version", [1, 2])
def test_sentences_are_fed_as_ours_are(tmp_path, version):
    tokenizer = train_tokenizer(["to be or not to be, that is the question"] * 3, vocab_size=290)
    encoders.save(tmp_path / "ours", "text", version, about={"tokenizer": tokenizer.to_json()})
    export_huggingface(tmp_path / "ours", tmp_path / "theirs")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs", trust_remote_code=version == 2)
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    for texts in (["not to be", "that is the question, is it not"], [["to be", "or not"], ["that", "is the question"]]):
        encoded = theirs(texts, padding=True, return_tensors="pt")
        ours = registry.get("text").to_inputs(texts, config)
        assert torch.equal(encoded["input_ids"], ours.values)
        assert torch.equal(encoded["attention_mask"].sum(dim=1), ours.lengths)
    assert theirs.mask_token_id == tokenizer.mask_id
    assert theirs.model_max_length == 40
