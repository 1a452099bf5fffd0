"""Fine-tuned models from elsewhere become fine-tuned models here, with the outputs that they had there.

transformers' numbers are stored in the goldens. The reference's heads are written out below as its code has them, over
encoders that the parity tests check.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.finetuning.ctc_vocabulary import FAIRSEQ_CHARACTERS
from d2v.finetuning.model import FinetunedModel, load_finetuned
from d2v.interchange.imported import load_head
from d2v.interchange.importing import ImportedModel, import_model
from d2v.interchange.labels import NEVER, in_our_order, read_names, symbols_of
from d2v.interchange.load import load
from tests.interchange.parity import assert_close
from tests.interchange.test_finetuned import NORM, linear, named, pretrained

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIH"]
"""As transformers has them: the blank is called `<pad>`."""


def saved(
    goldens: Path, folder: Path, name: str, head: dict[str, Tensor], settings: dict[str, Any] | None = None
) -> Path:
    """A fine-tuned file of the reference: the golden `name` with a head."""
    model, config = pretrained(goldens, name)
    prefix, key = {
        "v1_audio": ("w2v_encoder.w2v_model" if "w2v_encoder.proj.weight" in head else "d2v_model", "w2v_args"),
        "v2_audio": ("w2v_encoder.w2v_model", "w2v_args"),
        "v2_image": ("model", "pretrained_model_args"),
        "v2_text": ("model", "pretrained_model_args"),
        "v1_text": ("", ""),
    }[name]
    if prefix:
        content = {"model": named(prefix, model) | head, "cfg": {"model": {key: config, **(settings or {})}}}
    else:
        content = {"model": model | head, "cfg": {**config, "model": config["model"] | (settings or {})}}
    torch.save(content, folder / "finetuned.pt")
    return folder / "finetuned.pt"


def opened(source: Path, folder: Path, **options: Any) -> tuple[FinetunedModel, ImportedModel]:
    imported = import_model(source, folder / "model", **options)
    return load_finetuned(folder / "model"), imported


def tokens_of(model: FinetunedModel, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        return model.encoder(inputs.values, inputs.lengths)


def waves() -> Inputs:
    return Inputs(torch.randn(2, 4000, generator=torch.Generator().manual_seed(1)), torch.tensor([4000, 3000]))


# ------------------------------------------------------------------------------------------ transformers


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("name", "inputs", "task"),
    [("hf_text_seqcls", "input_ids", "classification"), ("hf_vision_cls", "pixel_values", "classification")],
)
def test_transformers_classifiers(shared_goldens, tmp_path, name, inputs, task):
    model, imported = opened(shared_goldens / name, tmp_path)
    assert imported.head.task["name"] == task
    stored = np.load(shared_goldens / name / "io.npz")
    outputs, _ = model.outputs(Inputs(torch.from_numpy(stored[f"plain:in:{inputs}"])))
    assert_close(outputs, torch.from_numpy(stored["plain:out:logits_f64"]))
    assert model.task.class_names == tuple(f"LABEL_{i}" for i in range(outputs.shape[1]))
    if "padded:out:logits_f64" in stored.files:
        lengths = torch.from_numpy(stored["padded:in:attention_mask"]).sum(dim=1)
        outputs, _ = model.outputs(Inputs(torch.from_numpy(stored[f"padded:in:{inputs}"]), lengths))
        assert_close(outputs, torch.from_numpy(stored["padded:out:logits_f64"]))


@pytest.fixture
def their_ctc(shared_goldens, tmp_path):
    """transformers' CTC golden, which has no letters, with some whose ids are mixed up."""
    folder = tmp_path / "theirs"
    shutil.copytree(shared_goldens / "hf_audio_ctc", folder)
    mixed = [LETTERS[i] for i in (0, 7, 8, 1, 4, 9, 2, 5, 3, 6, 10, 11)]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(mixed)}))
    return folder, mixed, np.load(folder / "io.npz")


@pytest.mark.goldens
def test_transformers_ctc_in_the_order_of_our_vocabulary(their_ctc, tmp_path):
    folder, mixed, stored = their_ctc
    model, _ = opened(folder, tmp_path)
    ours = ["<pad>", "<s>", *model.task.vocabulary.symbols[2:]]
    order = [mixed.index(name) for name in ours]
    for part in ("plain", "padded"):
        lengths = None
        if part == "padded":
            lengths = torch.from_numpy(stored["padded:in:attention_mask"]).sum(dim=1)
        outputs, frames = model.outputs(Inputs(torch.from_numpy(stored[f"{part}:in:input_values"]), lengths))
        expected = torch.from_numpy(stored[f"{part}:out:logits_f64"])[..., order]
        for row in range(2):
            length = outputs.shape[1] if frames is None else int(frames[row])
            assert_close(outputs[row, :length], expected[row, :length])
    assert load_head(tmp_path / "model") == {}


@pytest.mark.goldens
def test_without_letters_a_ctc_head_stays_as_it_is(shared_goldens, tmp_path):
    imported = import_model(shared_goldens / "hf_audio_ctc", tmp_path / "model")
    assert imported.head is None
    assert any("give --labels dict.ltr.txt or vocab.json" in note for note in imported.source.notes)
    assert set(load_head(tmp_path / "model")) == {"lm_head.weight", "lm_head.bias"}


def test_transformers_audio_classifier(tmp_path):
    transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")
    torch.manual_seed(0)
    config = transformers.Data2VecAudioConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, conv_dim=(16, 16),
        conv_kernel=(10, 3), conv_stride=(5, 2), num_conv_pos_embedding_groups=4, classifier_proj_size=8, num_labels=3,
        id2label={0: "yes", 1: "no", 2: "stop"},
    )  # fmt: skip
    theirs = transformers.Data2VecAudioForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    model, imported = opened(tmp_path / "theirs", tmp_path)
    inputs = waves()
    mask = (torch.arange(4000) < inputs.lengths[:, None]).long()
    with torch.no_grad():
        expected = theirs(inputs.values * mask, attention_mask=mask).logits
    outputs, _ = model.outputs(Inputs(inputs.values * mask, inputs.lengths))
    assert_close(outputs, expected)
    assert model.task.class_names == ("yes", "no", "stop")
    assert imported.head.used == {
        f"{name}.{part}" for name in ("projector", "classifier") for part in ("weight", "bias")
    }


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("hf_vision_cls", {"problem_type": "multi_label_classification"}, "several classes at once"),
        ("hf_text_mlm", {}, None),
    ],
)
def test_what_has_no_counterpart_stays_as_it_is(shared_goldens, tmp_path, name, settings, words):
    folder = tmp_path / "theirs"
    shutil.copytree(shared_goldens / name, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    imported = import_model(folder, tmp_path / "model")
    assert imported.head is None
    assert any(words in note for note in imported.source.notes) if words else True
    assert set(load_head(tmp_path / "model")) == set(imported.source.head) != set()
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="leave --labels out"):
        import_model(folder, tmp_path / "again", labels=tmp_path / "names.txt")


# ----------------------------------------------------------------------------------------- the reference


@pytest.mark.goldens
@pytest.mark.parametrize("name", ["v1_audio", "v2_audio"])
@pytest.mark.parametrize("blank", [{}, {"blank_weight": 2.0}, {"blank_weight": 2.0, "blank_mode": "set"}])
def test_ctc(shared_goldens, tmp_path, name, blank):
    head = linear(classes=32)
    source = saved(shared_goldens, tmp_path, name, named("w2v_encoder.proj", head), blank)
    model, imported = opened(source, tmp_path)
    assert model.task.vocabulary.characters == FAIRSEQ_CHARACTERS
    assert any("taken for the letters of LibriSpeech" in note for note in imported.source.notes)
    expected = F.linear(tokens_of(model, waves()), head["weight"], head["bias"])
    if blank:
        expected[..., 0] = expected[..., 0] + 2.0 if "blank_mode" not in blank else 2.0
    assert_close(model.outputs(waves())[0], expected)
    assert all(isinstance(text, str) for text in model.predict(waves()))


@pytest.mark.goldens
def test_ctc_with_its_own_letters(shared_goldens, tmp_path):
    head = linear(classes=8)
    source = saved(shared_goldens, tmp_path, "v2_audio", named("w2v_encoder.proj", head))
    (tmp_path / "dict.ltr.txt").write_text("| 94802\nA 51860\nÄ 3\nX 1\n")
    model, imported = opened(source, tmp_path)
    assert model.task.vocabulary.characters == ("A", "Ä", "X")
    assert not any("LibriSpeech" in note for note in imported.source.notes)
    (tmp_path / "phones.txt").write_text("| 5\nAA 4\nB 1\nC 1\n")
    kept = import_model(source, tmp_path / "kept", labels=tmp_path / "dict.ltr.txt")
    assert kept.head is not None
    with pytest.raises(DataError, match="leave --labels out"):
        import_model(source, tmp_path / "phones", labels=tmp_path / "phones.txt")


@pytest.mark.goldens
@pytest.mark.parametrize("mode", [None, "CLS_TOKEN", "LIN_SOFTMAX"])
def test_images_of_data2vec2(shared_goldens, tmp_path, mode):
    head = linear()
    state = named("fc_norm", NORM) | named("head", head)
    source = saved(shared_goldens, tmp_path, "v2_image", state, {"prediction_mode": mode} if mode else {})
    if mode == "LIN_SOFTMAX":
        imported = import_model(source, tmp_path / "model")
        assert imported.head is None
        assert any("linear softmax" in note for note in imported.source.notes)
        return
    (tmp_path / "classes.txt").write_text("tench, Tinca tinca\nshark\nray\ncock\nhen\n")
    model, _ = opened(source, tmp_path, labels=tmp_path / "classes.txt")
    images = Inputs(torch.randn(3, 3, 32, 32))
    with torch.no_grad():
        encoded = model.encoder.encode(model.encoder.stem(images.values))
    pooled = encoded.tokens.mean(dim=1) if mode is None else encoded.extra[:, 0]
    normed = F.layer_norm(pooled, (32,), NORM["weight"], NORM["bias"], eps=1e-6)
    assert_close(model.outputs(images)[0], F.linear(normed, head["weight"], head["bias"]))
    assert model.task.class_names[0] == "tench, Tinca tinca"


@pytest.mark.goldens
@pytest.mark.parametrize("name", ["v1_text", "v2_text"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_glue(shared_goldens, tmp_path, name, outputs):
    dense, out = linear(32, 32), linear(32, outputs)
    at = "classification_heads.sentence_classification_head"
    source = saved(shared_goldens, tmp_path, name, named(f"{at}.dense", dense) | named(f"{at}.out_proj", out))
    model, _ = opened(source, tmp_path)
    ids = Inputs(torch.randint(4, 40, (3, 9)), torch.tensor([9, 7, 5]))
    hidden = torch.tanh(F.linear(tokens_of(model, ids)[:, 0], dense["weight"], dense["bias"]))
    expected = F.linear(hidden, out["weight"], out["bias"])
    assert_close(model.outputs(ids)[0], expected)
    if outputs == 1:
        np.testing.assert_allclose(model.predict(ids), 5.0 * expected[:, 0].numpy(), rtol=1e-4)
    else:
        assert model.task.class_names == ("0", "1", "2")


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("head", "settings", "words"),
    [
        ({"dense": (32, 32), "out_proj": (32, 2)}, {"pooler_activation_fn": "relu"}, "with relu"),
        ({"dense": (32, 16), "out_proj": (16, 2)}, {}, r"\(16, 32\)"),
    ],
)
def test_other_text_heads_are_told_apart(shared_goldens, tmp_path, head, settings, words):
    state = {
        k: v for layer, size in head.items() for k, v in named(f"classification_heads.a.{layer}", linear(*size)).items()
    }
    source = saved(shared_goldens, tmp_path, "v2_text", state, settings)
    imported = import_model(source, tmp_path / "model")
    assert imported.head is None
    (note,) = [note for note in imported.source.notes if "holds the head as it is" in note]
    assert re.search(words, note)
    assert set(load_head(tmp_path / "model")) == set(state)


@pytest.mark.goldens
def test_sounds(shared_goldens, tmp_path):
    head = linear(classes=6)
    source = saved(shared_goldens, tmp_path, "v1_audio", named("proj", head), {"prediction_mode": "lin_softmax"})
    model, _ = opened(source, tmp_path)
    wave = Inputs(waves().values)
    x = F.logsigmoid(F.linear(tokens_of(model, wave), head["weight"], head["bias"]).double())
    x = (torch.logsumexp(x + x, dim=1) - torch.logsumexp(x, dim=1)).clamp(max=0)
    expected = x - torch.log(-torch.expm1(x))
    assert_close(torch.from_numpy(model.predict(wave)), expected)
    assert set(load_head(tmp_path / "model")) == {"mask_token"}  # what is no part of the head stays beside it
    other = saved(shared_goldens, tmp_path, "v1_audio", named("proj", head), {"prediction_mode": "average"})
    assert import_model(other, tmp_path / "other").head is None


@pytest.mark.goldens
def test_a_misfit_head_is_not_loaded_in_silence(shared_goldens, tmp_path):
    source = saved(shared_goldens, tmp_path, "v2_image", named("fc_norm", linear(3, 3)) | named("head", linear()))
    with pytest.raises(Exception, match=r"norm\.weight is \(3, 3\), should be \(32,\)"):
        load(source)


# ------------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("vocab.json", '{"b": 1, "a": 0}', ["a", "b"]),
        ("config.json", '{"id2label": {"1": "no", "0": "yes", "10": "x"}}', ["yes", "no", "x"]),
        ("names.json", '["x", "y"]', ["x", "y"]),
        ("dict.txt", "1 30\n0 20\nmadeupword0000 0\n", ["1", "0"]),
        ("classes.txt", "a cat\n\na dog\n", ["a cat", "a dog"]),
        ("labels.csv", '0,/m/09x0r,"Male speech, man speaking"\n', ["Male speech, man speaking"]),
    ],
)
def test_names_in_files(tmp_path, name, text, names):
    (tmp_path / name).write_text(text)
    assert read_names(tmp_path / name) == names


@pytest.mark.parametrize(("name", "text"), [("v.json", "{"), ("v.json", '{"a": 3}'), ("v.txt", ""), ("gone.txt", None)])
def test_files_without_names_are_refused(tmp_path, name, text):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="a name a line"):
        read_names(tmp_path / name)


def test_names_must_be_as_many_as_outputs():
    assert symbols_of(["|", "A"], 6) == ["<s>", "<pad>", "</s>", "<unk>", "|", "A"]
    with pytest.raises(DataError, match="2 names for 5 outputs"):
        symbols_of(["|", "A"], 5)


def test_symbols_that_a_head_lacks_never_win():
    layer = {"weight": torch.randn(3, 4), "bias": torch.randn(3)}
    letters, state = in_our_order(["A", "[PAD]", " "], layer, blank=1, boundary=" ")
    assert letters == ("A",)
    x = torch.randn(5, 4)
    ours, theirs = (F.linear(x, s["weight"], s["bias"]).softmax(-1) for s in (state, layer))
    torch.testing.assert_close(ours[:, [0, 4, 5]], theirs[:, [1, 2, 0]])
    assert (F.linear(x, state["weight"], state["bias"])[:, 1:4] == NEVER).all()


@pytest.mark.goldens
def test_head_and_rest_lie_apart(their_ctc, tmp_path):
    folder, _, _ = their_ctc
    import_model(folder, tmp_path / "model")
    assert set(load_file(tmp_path / "model" / "head.safetensors")) == {"classify.weight", "classify.bias"}
