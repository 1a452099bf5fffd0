"""Files that are no checkpoints, and checkpoints that hold more than weights: what is said of them and read."""

from __future__ import annotations

import argparse
import gzip
import os
import pathlib
import re
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import d2v
from d2v.errors import CheckpointError
from d2v.interchange.fairseq import load_reference, read
from d2v.interchange.huggingface_export import export_huggingface
from d2v.interchange.pickled import StandIn, unpickle
from d2v.interchange.readers import read_source
from d2v.interchange.weights import without_wrappers
from tests.interchange import encoders

UNSAFE = ("weights_only=False", "`weights_only` set to `False`", "weights_only=True")


@pytest.fixture
def foreign(monkeypatch):
    """Makes an object of a class of a program that is not installed."""

    def make(path: str, **state: object) -> object:
        module, _, name = path.rpartition(".")
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        cls = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, cls)
        made = cls()
        vars(made).update(state)
        return made

    return make


def dictionary(foreign, *symbols: str) -> object:
    indices = {symbol: number for number, symbol in enumerate(symbols)}
    return foreign("fairseq.data.dictionary.Dictionary", symbols=list(symbols), count=[1] * 6, indices=indices)


def test_a_tasks_dictionary_is_read_as_data(foreign, tmp_path):
    state = {"target_dictionary": dictionary(foreign, "<s>", "<pad>", "</s>", "<unk>", "|", "E")}
    torch.save({"model": {"x": torch.zeros(1)}, "cfg": {}, "task_state": state}, tmp_path / "ctc.pt")
    assert read(tmp_path / "ctc.pt").symbols == ("<s>", "<pad>", "</s>", "<unk>", "|", "E")
    inert = unpickle(tmp_path / "ctc.pt")["task_state"]["target_dictionary"]
    assert isinstance(inert, StandIn)
    assert not [name for name in dir(inert) if not name.startswith("_") and name not in ("arguments", "state")]


@pytest.mark.parametrize(
    "name",
    [
        "fairseq.data.dictionary.TruncatedDictionary",
        "examples.data2vec.data.modality.Modality",
        "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
        "pathlib.PosixPath",
    ],
)
def test_other_known_classes_do_not_stand_in_the_way(foreign, tmp_path, name):
    made = pathlib.PosixPath("runs") if name.startswith("pathlib") else foreign(name, value=3)
    args = argparse.Namespace(normalize=False, kept=made)
    torch.save({"model": {"x": torch.zeros(1)}, "args": args, "loss_scaler": made}, tmp_path / "known.pt")
    assert read(tmp_path / "known.pt").task["normalize"] is False


@pytest.mark.goldens
def test_the_mask_token_of_a_text_model_is_the_one_of_its_dictionary(shared_goldens, foreign, tmp_path):
    content = torch.load(shared_goldens / "v1_text.fairseq.pt", weights_only=True)
    words = content["model"]["encoder.sentence_encoder.embed_tokens.weight"]
    for symbols, row in ((["<s>", "<pad>", "</s>", "<unk>", "12", "<mask>", "7"], 5), (["<s>"], -1)):
        torch.save({**content, "task_state": {"dictionary": dictionary(foreign, *symbols)}}, tmp_path / "text.pt")
        _, converted = load_reference(tmp_path / "text.pt")
        assert torch.equal(converted.state["mask_token"][0, 0], words[row])


@pytest.mark.parametrize(
    "name",
    ["fairseq.data.dictionary.Evil", "fairseq.data.Dictionary", "builtins.eval", "os.system", "some.where.Dictionary"],
)
def test_every_other_class_is_refused_by_name(foreign, tmp_path, name):
    if name in ("builtins.eval", "os.system"):
        made = _Calls(eval if name == "builtins.eval" else os.getenv, "HOME")
        named = "eval" if name == "builtins.eval" else "getenv"
    else:
        made, named = foreign(name, symbols=["a"]), name
    torch.save({"model": {"x": torch.zeros(1)}, "task_state": made}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=named) as error:
        read(tmp_path / "other.pt")
    assert "nothing of it was run" in str(error.value)
    assert not any(words in str(error.value) for words in UNSAFE)


class _Calls:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


def test_a_stand_in_takes_its_state_as_data_and_no_attribute(foreign, tmp_path):
    made = dictionary(foreign, "a")
    vars(made)["__class__"], vars(made)["__setstate__"] = dict, list
    torch.save({"model": {}, "made": made, "folder": pathlib.PurePath("a").__class__.__name__}, tmp_path / "odd.pt")
    inert = unpickle(tmp_path / "odd.pt")["made"]
    assert type(inert).__mro__[1] is StandIn
    assert inert.state["__class__"] is dict
    assert not hasattr(inert, "symbols")


KINDS = {
    "page": (b"<html>404</html>", "is a web page, not a checkpoint"),
    "page with doctype": (b"\n  <!DOCTYPE html><html></html>", "is a web page"),
    "page with byte order mark": (b"\xef\xbb\xbf<HTML lang=de></HTML>", "is a web page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is the XML answer of a server"),
    "xml without header": (b"<Error><Code>NoSuchKey</Code></Error>", "is the XML answer of a server"),
    "json": (b'{"error": "Repository not found"}', "is JSON, such as the answer of a server"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "is a Git LFS pointer, not the file it stands for: run `git lfs pull`",
    ),
    "text": (b"Not Found", "is a text, not a checkpoint"),
    "text that is not ASCII": ("Zugriff verweigert: überlastet\n".encode() * 40, "is a text, not a checkpoint"),
    "empty": (b"", "is empty: download it again"),
    "zeros": (b"\0" * 4096, "begins with zeros alone"),
    "gzip": (gzip.compress(b"weights" * 99), "is compressed with gzip: unpack it"),
    "noise": (bytes(range(128, 256)) * 9, "cannot be read as a checkpoint"),
    "pickle that is cut": (b"\x80\x02}q\x00(X\x05\x00\x00\x00mod", "cannot be read as a checkpoint"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_gets_its_own_sentence(tmp_path, kind):
    content, words = KINDS[kind]
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as error:
        read_source(tmp_path / "model.pt")
    assert not any(unsafe in str(error.value) for unsafe in UNSAFE)


def test_a_truncated_checkpoint_is_said_to_be_cut_short(tmp_path):
    torch.save({"model": {"x": torch.zeros(5000)}}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "part.pt").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointError, match="is cut short"):
            read_source(tmp_path / "part.pt")
    torch.save({"model": {"x": torch.zeros(5000)}}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    old = (tmp_path / "old.pt").read_bytes()
    (tmp_path / "part.pt").write_bytes(old[: len(old) // 2])
    with pytest.raises(CheckpointError, match=r"is damaged: download it again"):
        read_source(tmp_path / "part.pt")


def test_an_archive_without_a_checkpoint_names_what_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("release/model.bin", "weights")
    with pytest.raises(CheckpointError, match=r"zip archive that holds no checkpoint, but release/model\.bin"):
        read_source(tmp_path / "model.pt")


def test_a_torchscript_program_is_named(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        read_source(tmp_path / "script.pt")


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_safetensors_without_settings_are_named(tmp_path, name):
    save_file({"x": torch.zeros(3)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"is a safetensors file, which holds no settings.*config\.json"):
        read_source(tmp_path / name)


@pytest.mark.parametrize("kind", ["page", "xml", "pointer", "empty", "zeros", "text"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_files_of_a_folder_get_the_same_sentences(tmp_path, kind, name):
    export_huggingface(encoders.save(tmp_path / "ours", "vision", 1), tmp_path / "theirs")
    content, words = KINDS[kind]
    (tmp_path / "theirs" / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} .*{words}"):
        read_source(tmp_path / "theirs")


def test_no_message_of_ours_advises_unsafe_loading():
    sources = list(Path(d2v.__file__).parent.rglob("*.py"))
    assert len(sources) > 100
    assert [file.name for file in sources if "weights_only=False" in file.read_text()] == []


# ----------------------------------------------------------------------------------------- weights


@pytest.mark.goldens
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_taken_off(shared_goldens, tmp_path, prefix):
    content = torch.load(shared_goldens / "v2_image.fairseq.pt", weights_only=True)
    expected = read_source(shared_goldens / "v2_image.fairseq.pt")
    model = content["model"]
    content["model"] = {name if name == "_ema" else prefix + name: value for name, value in model.items()}
    content["model"]["_ema"] = {prefix + name: value for name, value in model["_ema"].items()}
    torch.save(content, tmp_path / "wrapped.pt")
    found = read_source(tmp_path / "wrapped.pt")
    for ours, theirs in ((found.encoder, expected.encoder), (found.teacher, expected.teacher)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_prefixes_of_wrapped_parts_are_taken_off_too():
    weight = torch.zeros(1)
    names = ["encoder._orig_mod.a", "blocks.0._checkpoint_wrapped_module.b", "_fsdp_wrapped_module.c"]
    assert list(without_wrappers(dict.fromkeys(names, weight))) == ["encoder.a", "blocks.0.b", "c"]
    assert list(without_wrappers({"module.a": weight, "b": weight})) == ["module.a", "b"]
    with pytest.raises(CheckpointError, match="holds a twice"):
        without_wrappers({"_orig_mod.a": weight, "a": weight})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_named(tmp_path, value):
    ours = encoders.save(tmp_path / "ours", "speech", 1)
    export_huggingface(ours, tmp_path / "theirs")
    weights = load_file(tmp_path / "theirs" / "model.safetensors")
    name = next(name for name in weights if name.endswith("attention.k_proj.weight"))
    weights[name][0, :2] = value
    save_file(weights, tmp_path / "theirs" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"NaN or infinite: blocks\.0\.attn\.qkv\.weight \(2 of 3,072\)"):
        read_source(tmp_path / "theirs")
