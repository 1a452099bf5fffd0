"""Letters of CTC models from elsewhere, whatever the order of their ids and whatever file has them."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2v.errors import DataError
from d2v.interchange.ctc_tokenizer import read_ctc_tokenizer
from d2v.interchange.huggingface_export import export_huggingface
from d2v.interchange.importing import ImportedModel, import_model
from d2v.interchange.load import load
from tests.interchange import encoders
from tests.interchange.test_finetuned import linear, named, pretrained

TEN = ["a", "b", "c", "d", "e", "|", "[UNK]", "[PAD]"]
BRACKETS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "word_delimiter_token": "|"}


def ctc_folder(tmp_path: Path, outputs: int, blank: int, **files: Any) -> Path:
    """A Data2VecAudioForCTC whose output i is the only one with the bias i, and files beside it."""
    folder = tmp_path / "theirs"
    export_huggingface(encoders.save(tmp_path / "ours", "speech", 1), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["Data2VecAudioForCTC"], "vocab_size": outputs, "pad_token_id": blank}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {f"data2vec_audio.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    weights |= {"lm_head.weight": torch.zeros(outputs, 32), "lm_head.bias": torch.arange(float(outputs))}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def by_id(model: ImportedModel) -> dict[int, str]:
    """The letter of each of the source's outputs, which the head's biases tell."""
    biases = [int(value) for value in model.head.state["classify.bias"]]
    symbols = ["blank", "<pad>", "</s>", "<unk>", "|", *model.head.about["letters"]]
    return dict(sorted((number, symbol) for number, symbol in zip(biases, symbols, strict=True) if number >= 0))


def vocabulary(names: list[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


WITH_ADDED = {0: "a", 1: "b", 2: "c", 3: "d", 4: "e", 5: "|", 6: "<unk>", 7: "blank", 8: "<pad>", 9: "</s>"}
ADDED: dict[str, dict[str, Any]] = {
    "added_tokens.json": {"added_tokens": {"</s>": 9, "<s>": 8}, "tokenizer_config": BRACKETS},
    "added_tokens_decoder": {
        "tokenizer_config": {
            **BRACKETS,
            "added_tokens_decoder": {"9": {"content": "</s>"}, "8": {"content": "<s>"}, "7": {"content": "[PAD]"}},
        }
    },
    "what transformers adds by itself": {"tokenizer_config": BRACKETS},
    "special_tokens_map.json": {
        "special_tokens_map": {"pad_token": {"content": "[PAD]"}, "unk_token": "[UNK]"},
        "added_tokens": {"<s>": 8, "</s>": 9},
    },
}


@pytest.mark.parametrize("where", ADDED)
def test_letters_are_those_of_their_ids(tmp_path, where):
    folder = ctc_folder(tmp_path, 10, 7, vocab=vocabulary(TEN), **ADDED[where])
    assert by_id(import_model(folder, tmp_path / "model")) == WITH_ADDED


@pytest.mark.parametrize("where", ADDED)
def test_transformers_has_the_same_tokens(tmp_path, where):
    transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")
    files = ADDED[where] | {"tokenizer_config": ADDED[where].get("tokenizer_config", {})}
    files["tokenizer_config"] = files["tokenizer_config"] | {"tokenizer_class": "Wav2Vec2CTCTokenizer"}
    folder = ctc_folder(tmp_path, 10, 7, vocab=vocabulary(TEN), **files)
    theirs = transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder)
    assert read_ctc_tokenizer(folder).symbols(10) == theirs.convert_ids_to_tokens(list(range(10)))
    assert theirs.pad_token_id == read_ctc_tokenizer(folder).pad_id == 7


def test_tokens_that_transformers_adds_beyond_the_head_have_no_output(tmp_path):
    folder = ctc_folder(tmp_path, 8, 7, vocab=vocabulary(TEN), tokenizer_config=BRACKETS)
    found = by_id(import_model(folder, tmp_path / "model"))
    assert found == {number: name for number, name in WITH_ADDED.items() if number < 8}


def test_special_tokens_may_have_other_names(tmp_path):
    names = ["{unk}", "x", "-", "y", "{end}", "{begin}", " "]
    special = {"pad_token": "-", "unk_token": "{unk}", "eos_token": "{end}", "bos_token": "{begin}"}
    settings = {**special, "word_delimiter_token": " "}
    folder = ctc_folder(tmp_path, 7, 2, vocab=vocabulary(names), tokenizer_config=settings)
    model = import_model(folder, tmp_path / "model")
    expected = {0: "<unk>", 1: "x", 2: "blank", 3: "y", 4: "</s>", 5: "<pad>", 6: "|"}
    assert by_id(model) == expected


def test_lower_case_is_written_where_the_tokenizer_says_so(tmp_path):
    names = vocabulary(["A", "B", "|", "[UNK]", "[PAD]"])
    folder = ctc_folder(tmp_path, 5, 4, vocab=names, tokenizer_config={**BRACKETS, "do_lower_case": True})
    assert import_model(folder, tmp_path / "model").head.about["letters"] == ["a", "b"]


def test_of_several_languages_the_chosen_one_is_read(tmp_path):
    both = {"deu": vocabulary(["[PAD]", "|", "ä", "b"]), "eng": vocabulary(["[PAD]", "|", "a", "b"])}
    settings = {**BRACKETS, "unk_token": None}
    folder = ctc_folder(tmp_path, 4, 0, vocab=both, tokenizer_config={**settings, "target_lang": "deu"})
    assert import_model(folder, tmp_path / "model").head.about["letters"] == ["ä", "b"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(DataError, match=r"several languages \(deu, eng\).*set it there"):
        import_model(folder, tmp_path / "other")


def test_names_that_do_not_belong_to_the_head_are_refused(tmp_path):
    folder = ctc_folder(tmp_path, 12, 7, vocab=vocabulary(TEN), tokenizer_config=BRACKETS)
    with pytest.raises(DataError, match="none for the outputs 10, 11"):
        import_model(folder, tmp_path / "a")
    (folder / "vocab.json").write_text(json.dumps(vocabulary([*TEN, *"fghij"])))
    with pytest.raises(DataError, match="beyond the 12 outputs, j"):
        import_model(folder, tmp_path / "b")
    (folder / "vocab.json").write_text(json.dumps({"a": 0, "b": 0}))
    with pytest.raises(DataError, match="id of 'a' to another token too"):
        import_model(folder, tmp_path / "c")


def test_two_blanks_leave_the_head_as_it_is(tmp_path):
    folder = ctc_folder(tmp_path, 10, 0, vocab=vocabulary(TEN), tokenizer_config=BRACKETS)
    model = import_model(folder, tmp_path / "model")
    assert model.head is None
    assert any("output 0 by config.json's pad_token_id and 7 by its tokenizer's" in note for note in model.source.notes)


def test_names_with_specials_are_not_moved_up_by_four(tmp_path):
    folder = ctc_folder(tmp_path, 12, 7)
    (tmp_path / "letters.txt").write_text("\n".join(TEN))
    with pytest.raises(DataError, match="8 names for 12 outputs"):
        import_model(folder, tmp_path / "model", labels=tmp_path / "letters.txt")


# --------------------------------------------------------------------------------------- the reference


@pytest.mark.goldens
def test_a_fine_tuned_reference_brings_its_own_letters(shared_goldens, tmp_path, monkeypatch):
    """The task state of a file that fairseq's fine-tuning wrote, beside a dict.ltr.txt of another model."""
    module = types.ModuleType("fairseq.data.dictionary")
    module.Dictionary = type("Dictionary", (), {"__module__": "fairseq.data.dictionary"})
    for name in ("fairseq", "fairseq.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "fairseq.data.dictionary", module)
    letters = module.Dictionary()
    letters.symbols = ["<s>", "<pad>", "</s>", "<unk>", "Q", "|", "E"]
    letters.indices = vocabulary(letters.symbols)
    model, config = pretrained(shared_goldens, "v1_audio")
    head = named("w2v_encoder.proj", linear(classes=7))
    cfg = {"model": {"w2v_args": config}, "task": {"normalize": True, "sample_rate": 16000}}
    content = {"model": named("w2v_encoder.w2v_model", model) | head, "cfg": cfg}
    torch.save({**content, "task_state": {"target_dictionary": letters}}, tmp_path / "finetuned.pt")
    (tmp_path / "dict.ltr.txt").write_text("| 1\nA 1\nB 1\n")
    imported = import_model(tmp_path / "finetuned.pt", tmp_path / "model")
    assert imported.head.about["letters"] == ["Q", "E"]
    rows = [0, 1, 2, 3, 5, 4, 6]
    assert torch.equal(imported.head.state["classify.bias"], head["w2v_encoder.proj.bias"][rows])
    assert isinstance(load(tmp_path / "model").predict(torch.randn(4000).numpy()), str)
