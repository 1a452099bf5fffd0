import argparse
import os
import zipfile

import numpy as np
import pytest
import torch

from d2v.errors import CheckpointError
from d2v.interchange.fairseq import load_reference, read


class Bomb:
    """What a hostile checkpoint would carry: unpickling it runs a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"model": {"w": torch.zeros(1)}, "cfg": Bomb(marker)}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="refused"):
        read(tmp_path / "bad.pt")
    assert not marker.exists()


def test_settings_of_old_and_new_files_are_read(tmp_path):
    import omegaconf

    config = omegaconf.OmegaConf.create({"model": {"clone_batch": 7, "modalities": {"image": {"mask_prob": 0.7}}}})
    torch.save({"model": {"w": torch.zeros(1)}, "cfg": config}, tmp_path / "hydra.pt")
    torch.save({"model": {"w": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}, tmp_path / "args.pt")
    torch.save({"module": {"w": torch.zeros(1)}}, tmp_path / "deepspeed.pt")
    assert read(tmp_path / "hydra.pt").config["modalities"]["image"]["mask_prob"] == 0.7
    assert read(tmp_path / "args.pt").config == {}
    assert set(read(tmp_path / "deepspeed.pt").model) == {"w"}


def test_numbers_of_numpy_are_read(tmp_path):
    extra = {"best": np.float64(3.5), "loss": np.float32(0.5), "updates": np.int64(7)}
    torch.save({"model": {"w": torch.zeros(1)}, "extra_state": extra}, tmp_path / "numbers.pt")
    assert set(read(tmp_path / "numbers.pt").model) == {"w"}
    content = (tmp_path / "numbers.pt").read_bytes()
    assert b"numpy._core" in content
    (tmp_path / "old.pt").write_bytes(_with_numpy_1_names(tmp_path / "numbers.pt", tmp_path))
    assert set(read(tmp_path / "old.pt").model) == {"w"}


def _with_numpy_1_names(file, folder):
    """The same file as numpy 1 wrote it."""
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(folder / "rewritten", "w") as target:
        for entry in source.infolist():
            target.writestr(entry, source.read(entry).replace(b"numpy._core", b"numpy.core"))
    return (folder / "rewritten").read_bytes()


def test_what_is_no_checkpoint_is_said_so(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"weights": 1}, tmp_path / "other.pt")
    torch.save({"model": {"encoder.foo": torch.zeros(1)}}, tmp_path / "unknown.pt")
    for name, words in (("text", "is a text, not a checkpoint"), ("other", "no `model`"), ("unknown", "encoder.foo")):
        with pytest.raises(CheckpointError, match=words):
            load_reference(tmp_path / f"{name}.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read(tmp_path / "missing.pt")


@pytest.mark.goldens
def test_a_misfit_names_every_key(shared_goldens, tmp_path):
    content = torch.load(shared_goldens / "v2_image.fairseq.pt", weights_only=True)
    del content["model"]["blocks.0.norm1.bias"]
    content["model"]["blocks.1.norm1.bias"] = torch.zeros(3)
    content["model"]["blocks.1.surprise"] = torch.zeros(3)
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(CheckpointError) as error:
        load_reference(tmp_path / "damaged.pt")
    for words in (
        "missing student.blocks.0.norm1.bias",
        "blocks.1.norm1.bias is (3,)",
        "unexpected student.blocks.1.surprise",
    ):
        assert words in str(error.value)


@pytest.mark.goldens
def test_a_part_without_which_sizes_are_unknown_is_missed_by_name(shared_goldens, tmp_path):
    content = torch.load(shared_goldens / "v2_audio.fairseq.pt", weights_only=True)
    del content["model"]["modality_encoders.AUDIO.relative_positional_encoder.1.0.weight"]
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(CheckpointError, match=r"lacks .* 'student\.stem\.positions\.convs\.0\.weight'"):
        load_reference(tmp_path / "damaged.pt")
