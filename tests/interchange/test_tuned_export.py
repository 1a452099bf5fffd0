"""Fine-tuned models for other programs compute what they compute here."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from d2v.data.batch import Inputs
from d2v.errors import ConfigError
from d2v.finetuning.model import load_finetuned
from d2v.finetuning.tasks.classification import pooled_logits
from d2v.interchange.exporting import export_model
from d2v.interchange.importing import import_model
from d2v.modalities.text.tokenizer import train_tokenizer
from tests.interchange import encoders
from tests.interchange.encoders import differences
from tests.interchange.test_export import SHAPES

ROBERTA = {"pool": "first", "norm": False, "hidden": True}
LETTERS = {"letters": ["A", "B", "'"]}
CTC = {"name": "transcription"}
FINETUNED = {"relative_bias": "per_block", "final_norm": False}


def close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max() / ours.abs().max()) < tolerance


# ------------------------------------------------------------------------------------------ transformers


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")


def exported(tmp_path, *arguments, **options):
    encoders.save_finetuned(tmp_path / "ours", *arguments, **options)
    notes = export_model(tmp_path / "ours", tmp_path / "theirs", "hf")
    assert not any("pooler is new" in note for note in notes)
    return load_finetuned(tmp_path / "ours")


def in_transformers(kind, folder):
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert report["missing_keys"] | report["unexpected_keys"] == set()
    return model.eval()


def test_transformers_transcribes(transformers, tmp_path):
    ours = exported(tmp_path, "speech", 1, CTC, LETTERS, padding="reference")
    theirs = in_transformers(transformers.AutoModelForCTC, tmp_path / "theirs")
    assert type(theirs).__name__ == "Data2VecAudioForCTC"
    values, lengths = encoders.inputs("speech")
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        logits = theirs(values, attention_mask=mask).logits
    outputs, frames = ours.outputs(Inputs(values, lengths))
    for row, length in enumerate(frames.tolist()):
        close(outputs[row, :length], logits[row, :length])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    ids = [5, 5, 0, 5, 6, 4, 4, 0, 7]  # A A . A B | | . '
    assert tokenizer.decode(ids) == ours.task.vocabulary.decode([5, 5, 6, 4, 7]) == "AAB '"
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "theirs")
    assert type(processor).__name__ == "Wav2Vec2Processor"
    back = import_model(tmp_path / "theirs", tmp_path / "back")
    assert back.head.about == LETTERS
    assert all(torch.equal(value, back.head.state[name]) for name, value in ours.head.state_dict().items())


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_transformers_judges_texts(transformers, tmp_path, task):
    tokenizer = {"tokenizer": train_tokenizer(["to be or not to be"], 300).to_json()}
    ours = exported(tmp_path, "text", 1, {"name": task, "head": ROBERTA}, plain=tokenizer)
    theirs = in_transformers(transformers.AutoModelForSequenceClassification, tmp_path / "theirs")
    values, lengths = encoders.inputs("text")
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        logits = theirs(values, attention_mask=mask).logits
    outputs, _ = ours.outputs(Inputs(values, lengths))
    close(outputs if task == "classification" else 5.0 * outputs, logits)
    if task == "classification":
        assert theirs.config.id2label == {0: "a", 1: "b", 2: "c"}
    back = load_finetuned(import_model(tmp_path / "theirs", tmp_path / "back") and tmp_path / "back")
    np.testing.assert_allclose(back.predict(Inputs(values, lengths)), ours.predict(Inputs(values, lengths)), rtol=1e-4)


def test_transformers_judges_recordings(transformers, tmp_path):
    head = {"norm": False}
    ours = exported(tmp_path, "speech", 1, {"name": "classification", "head": head}, padding="reference")
    theirs = in_transformers(transformers.AutoModelForAudioClassification, tmp_path / "theirs")
    values, lengths = encoders.inputs("speech")
    mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        close(ours.outputs(Inputs(values, lengths))[0], theirs(values, attention_mask=mask).logits)


@pytest.mark.parametrize(
    ("head", "encoder"), [({}, FINETUNED), ({"pool": "first", "norm": False}, {}), ({}, {"final_norm": False})]
)
def test_transformers_judges_images(transformers, tmp_path, head, encoder):
    ours = exported(tmp_path, "vision", 1, {"name": "classification", "head": head}, **encoder)
    theirs = in_transformers(transformers.AutoModelForImageClassification, tmp_path / "theirs")
    images, _ = encoders.inputs("vision")
    with torch.no_grad():
        close(ours.outputs(Inputs(images))[0], theirs(images).logits)


@pytest.mark.parametrize(
    ("modality", "task", "encoder", "words"),
    [
        ("vision", {"name": "classification"}, {}, "head.pool=first.*this model head.pool=mean"),
        (
            "vision",
            {"name": "classification", "head": {"norm_eps": 1e-5}},
            FINETUNED,
            "one epsilon.*head.norm_eps=1e-06",
        ),
        ("text", {"name": "classification"}, {}, "head.hidden=True.*export to onnx"),
        ("speech", {"name": "multilabel"}, {}, "several classes over frames"),
    ],
)
def test_heads_that_transformers_lacks_are_refused(tmp_path, modality, task, encoder, words):
    encoders.save_finetuned(tmp_path / "ours", modality, 1, task, **encoder)
    with pytest.raises(ConfigError, match=words):
        export_model(tmp_path / "ours", tmp_path / "theirs", "hf")
    assert not (tmp_path / "theirs").exists()


def test_of_data2vec2_the_encoder_goes_and_it_is_said(tmp_path):
    encoders.save_finetuned(tmp_path / "ours", "vision", 2, {"name": "classification"})
    notes = export_model(tmp_path / "ours", tmp_path / "theirs", "hf")
    assert any("the head is left out" in note for note in notes)


# ------------------------------------------------------------------------------------------------ graphs

CASES = {
    "images": ("vision", 2, {"name": "classification"}, None),
    "attentive": ("vision", 1, {"name": "classification", "head": {"pool": "attention", "heads": 2}}, None),
    "sentences": ("text", 2, {"name": "classification", "head": ROBERTA}, None),
    "scores": ("text", 1, {"name": "regression", "head": ROBERTA}, {}),
    "letters": ("speech", 2, CTC, LETTERS),
    "sounds": ("speech", 1, {"name": "multilabel"}, None),
}


def expected(model, inputs):
    """What the graph of a model should give, by name."""
    outputs, lengths = model.outputs(inputs)
    name = type(model.task).__name__
    if name == "Transcription":
        frames = torch.full((len(outputs),), outputs.shape[1]) if lengths is None else lengths
        return {"log_probs": outputs.log_softmax(-1), "token_lengths": frames}
    if name == "Regression":
        return {"numbers": 5.0 * outputs[:, 0]}
    return {"logits": outputs if name == "Classification" else pooled_logits(outputs, lengths)}


def check(model, inputs, given):
    for name, ours in expected(model, inputs).items():
        theirs = torch.as_tensor(given[name])
        if name == "log_probs":
            assert differences(model.encoder, ours, theirs, inputs.lengths) < 1e-5
        else:
            close(ours, theirs, 1e-5 if ours.is_floating_point() else 1e-9)


def cases(*quick):
    marked = [
        pytest.param(*case, id=name, marks=() if name in quick else pytest.mark.slow) for name, case in CASES.items()
    ]
    return pytest.mark.parametrize(("modality", "version", "task", "about"), marked)


@cases("scores")
def test_graphs_take_any_number_of_items_and_positions(tmp_path, modality, version, task, about):
    encoders.save_finetuned(tmp_path / "ours", modality, version, task, about, depth=1)
    export_model(tmp_path / "ours", tmp_path / "out", "torch-export")
    graph, model = torch.export.load(tmp_path / "out" / "encoder.pt2").module(), load_finetuned(tmp_path / "ours")
    names = json.loads((tmp_path / "out" / "export.json").read_text())["outputs"]
    for items, positions in SHAPES:
        inputs = Inputs(*encoders.inputs(modality, items, positions))
        with torch.no_grad():
            given = graph(inputs.values) if inputs.lengths is None else graph(inputs.values, inputs.lengths)
        check(model, inputs, dict(zip(names, given, strict=True)))


@cases("attentive", "letters")
def test_onnx_takes_any_number_of_items_and_positions(tmp_path, modality, version, task, about):
    runtime = pytest.importorskip("onnxruntime", reason="install the extra `interchange` to run this test")
    pytest.importorskip("onnxscript", reason="install the extra `interchange` to run this test")
    encoders.save_finetuned(tmp_path / "ours", modality, version, task, about, depth=1)
    export_model(tmp_path / "ours", tmp_path / "out", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session, model = (
        runtime.InferenceSession(tmp_path / "out" / "encoder.onnx", options),
        load_finetuned(tmp_path / "ours"),
    )
    names = [value.name for value in session.get_outputs()]
    for items, positions in [(1, 1), *SHAPES]:
        values, given = encoders.inputs(modality, items, positions)
        for lengths in (None,) if given is None else (None, given):
            feed = {"inputs": values.numpy()} | ({} if lengths is None else {"lengths": lengths.numpy()})
            check(model, Inputs(values, lengths), dict(zip(names, session.run(names, feed), strict=True)))


# ------------------------------------------------------------------------------------------------ others


def test_timm_has_the_head_too(tmp_path):
    beit = pytest.importorskip("timm.models.beit", reason="install the extra `interchange` to run this test")
    encoders.save_finetuned(tmp_path / "ours", "vision", 1, {"name": "classification"}, **FINETUNED)
    export_model(tmp_path / "ours", tmp_path / "out", "timm")
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    model = beit.Beit(**about["arguments"], norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6)).eval()
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"), strict=True)
    images, _ = encoders.inputs("vision")
    with torch.no_grad():
        close(load_finetuned(tmp_path / "ours").outputs(Inputs(images))[0], model(images))


def test_plain_weights_are_a_model_folder_again(tmp_path):
    encoders.save_finetuned(tmp_path / "ours", "text", 2, {"name": "classification", "head": ROBERTA})
    export_model(tmp_path / "ours", tmp_path / "out", "safetensors")
    inputs = Inputs(*encoders.inputs("text"))
    ours, again = (load_finetuned(tmp_path / name).outputs(inputs)[0] for name in ("ours", "out"))
    assert torch.equal(ours, again)


def test_a_fine_tuned_model_has_no_teacher(tmp_path):
    encoders.save_finetuned(tmp_path / "ours", "text", 2, {"name": "classification"})
    with pytest.raises(ConfigError, match="leave --teacher out"):
        export_model(tmp_path / "ours", tmp_path / "out", "onnx", teacher=True)
