"""A config may ask for any size: no encoder is built before it is known that its weights fill it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from d2v.errors import CheckpointError
from d2v.finetuning.model import load_finetuned
from d2v.modalities import registry
from d2v.model_folder import load_encoder
from tests.interchange import encoders
from tests.interchange.test_load import about

ASKED: dict[str, tuple[str, dict[str, Any], str]] = {
    "blocks of images": ("vision", {"depth": 10**9}, "1,000,000,001 blocks, and the file holds"),
    "blocks of recordings": ("speech", {"prenet_depth": 10**9}, "blocks, and the file holds"),
    "blocks of text": ("text", {"depth": 10**9}, "blocks, and the file holds"),
    "width of images": ("vision", {"width": 2**24, "heads": 1}, "should be"),
    "width of recordings": ("speech", {"width": 2**24, "heads": 1}, "should be"),
    "width of text": ("text", {"width": 2**24, "heads": 1}, "should be"),
    "patches": ("vision", {"image_px": 2**14, "patch_px": 8}, "should be"),
}


def ask(folder: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Change a folder's recipe. From here on, encoders may be planned and not built."""
    config = json.loads((folder / "config.json").read_text())
    config["recipe"]["encoder"] |= settings
    (folder / "config.json").write_text(json.dumps(config))
    one = type(registry.get(config["modality"]))
    build = one.build_encoder

    def planned(self: Any, recipe: Any) -> Any:
        assert torch.empty(0).device.type == "meta"
        return build(self, recipe)

    monkeypatch.setattr(one, "build_encoder", planned)


@pytest.mark.parametrize("name", ASKED)
def test_no_encoder_is_built_that_its_weights_do_not_fill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    modality, settings, words = ASKED[name]
    folder = encoders.save(tmp_path / modality, modality, 2, about=about(modality))
    ask(folder, settings, monkeypatch)
    with pytest.raises(CheckpointError, match=words):
        load_encoder(folder)


def test_nor_a_fine_tuned_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders.save_finetuned(tmp_path / "model", "vision", 2, {"name": "classification"})
    ask(tmp_path / "model", {"depth": 10**9}, monkeypatch)
    with pytest.raises(CheckpointError, match="blocks, and the file holds"):
        load_finetuned(tmp_path / "model")


def test_nor_tables_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoders.save(tmp_path / "vision", "vision", 1)
    monkeypatch.setattr("d2v.model_folder.TABLE_BYTES", 100)
    monkeypatch.setattr("d2v.model_folder.TABLES_PER_WEIGHTS", 0)
    with pytest.raises(CheckpointError, match="bytes of tables beside"):
        load_encoder(folder)
