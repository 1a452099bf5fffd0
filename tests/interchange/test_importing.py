"""`d2v import` and `d2v export`, as a user calls them."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from d2v.cli import app
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.interchange.load import load
from d2v.interchange.readers import import_into
from d2v.modalities import registry
from d2v.modalities.requests import Limits
from d2v.modalities.text.tokenizer import train_tokenizer
from d2v.model_folder import load_encoder
from tests.interchange import encoders
from tests.interchange.parity import assert_close

RUNNER = CliRunner()


def d2v(*arguments: object) -> str:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.goldens
def test_import_then_export(shared_goldens, tmp_path):
    told = d2v("import", shared_goldens / "v2_image.fairseq.pt", tmp_path / "encoder")
    assert "vision encoder" in told
    assert "teacher: yes" in told
    assert "decoder.layers.0.conv.weight" in told
    encoder, config = load_encoder(tmp_path / "encoder")
    request = registry.get("vision").request
    image = request.read(request.example(config), Limits())
    with torch.no_grad():
        features = encoder.features(registry.get("vision").to_inputs([image], config).values)
    assert features.shape == (1, 32)
    assert torch.isfinite(features).all()
    told = d2v("export", tmp_path / "encoder", tmp_path / "out", "--format", "hf")
    assert "config.json" in told
    assert "trust_remote_code=True" in told


@pytest.mark.goldens
def test_the_teacher_is_exported_too(shared_goldens, tmp_path):
    d2v("import", shared_goldens / "v2_text.fairseq.pt", tmp_path / "encoder")
    for name, options in (("student", []), ("teacher", ["--teacher"])):
        d2v("export", tmp_path / "encoder", tmp_path / name, "--format", "safetensors", *options)
    student, teacher = (load_encoder(tmp_path / name)[0].state_dict() for name in ("student", "teacher"))
    expected = load_encoder(tmp_path / "encoder", teacher=True)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in teacher.items())
    assert any(not torch.equal(value, student[name]) for name, value in teacher.items())


@pytest.mark.parametrize("command", ["import", "export", "encode", "doctor"])
def test_help_shows_an_example(command):
    assert f"Example: d2v {command}" in " ".join(d2v(command, "--help").split())


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer's file, and the tokenizer."""
    trained = train_tokenizer(["to be or not to be, that is the question"] * 3, vocab_size=290)
    (tmp_path / "tokenizer.json").write_text(trained.to_json())
    return tmp_path / "tokenizer.json", trained


def test_a_text_encoder_comes_with_its_tokenizer(tmp_path, tokenizer):
    about = {"tokenizer": tokenizer[1].to_json()}
    d2v("export", encoders.save(tmp_path / "ours", "text", 1, about), tmp_path / "theirs")
    import_into(tmp_path / "theirs", tmp_path / "back")
    _, config = load_encoder(tmp_path / "back")
    before = json.loads((tmp_path / "ours" / "config.json").read_text())
    ours, again = (registry.get("text").to_inputs(["not to be"], one) for one in (before, config))
    assert torch.equal(ours.values, again.values)


def test_a_tokenizer_can_be_given(tmp_path, tokenizer):
    d2v("export", encoders.save(tmp_path / "ours", "text", 2), tmp_path / "theirs")
    notes = import_into(tmp_path / "theirs", tmp_path / "without").notes
    assert any("--tokenizer" in note for note in notes)
    imported = import_into(tmp_path / "theirs", tmp_path / "with", tokenizer[0])
    assert imported.about["vocab_size"] == tokenizer[1].vocab_size
    assert imported.notes == ()


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, tokenizer):
    small = encoders.save(tmp_path / "small", "text", 2, vocab_size=200)
    d2v("export", small, tmp_path / "text")
    with pytest.raises(DataError, match="table 200 rows"):
        import_into(tmp_path / "text", tmp_path / "a", tokenizer[0])
    d2v("export", encoders.save(tmp_path / "images", "vision", 2), tmp_path / "vision")
    with pytest.raises(ConfigError, match="takes no tokenizer"):
        import_into(tmp_path / "vision", tmp_path / "b", tokenizer[0])


def test_a_source_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(CheckpointError, match="is not there"):
        import_into(tmp_path / "nothing", tmp_path / "encoder")


def test_a_text_encoder_whose_mask_token_is_not_the_last_id(tmp_path, tokenizer):
    """Ids and features are transformers' own, from the folder, our folder and our export."""
    transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")
    content = json.loads(tokenizer[1].to_json())
    last = tokenizer[1].mask_id

    def moved(number: int) -> int:
        return 4 if number == last else number + 1 if number >= 4 else number

    content["model"]["vocab"] = {token: moved(number) for token, number in content["model"]["vocab"].items()}
    for token in content["added_tokens"]:
        token["id"] = moved(token["id"])
    folder = tmp_path / "theirs"
    d2v("export", encoders.save(tmp_path / "first", "text", 1, {"tokenizer": tokenizer[1].to_json()}), folder)
    processor = json.loads((folder / "tokenizer.json").read_text())["post_processor"]
    (folder / "tokenizer.json").write_text(json.dumps(content | {"post_processor": processor}))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)("to be, my lord", return_tensors="pt")
    with torch.no_grad():
        states = transformers.AutoModel.from_pretrained(folder).eval()(theirs["input_ids"]).last_hidden_state
    d2v("import", folder, tmp_path / "ours")
    d2v("export", tmp_path / "ours", tmp_path / "again")
    for source in (folder, tmp_path / "ours", tmp_path / "again"):
        model = load(source)
        assert torch.equal(model.to_inputs(["to be, my lord"]).values, theirs["input_ids"])
        assert_close(torch.from_numpy(model.encode("to be, my lord")), states[0].mean(0))


def test_another_arrangement_of_special_tokens_leaves_the_tokenizer_out(tmp_path, tokenizer):
    folder = tmp_path / "theirs"
    d2v("export", encoders.save(tmp_path / "ours", "text", 1, {"tokenizer": tokenizer[1].to_json()}), folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    notes = import_into(folder, tmp_path / "again").notes
    assert any("arranges two texts as <s> a </s> a </s>" in note for note in notes)
