"""A config.json that is not what was written is an error that names it, whatever it holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from d2v.errors import CheckpointError, ConfigError
from d2v.finetuning.model import load_finetuned
from d2v.interchange.load import device_of, load
from d2v.model_folder import load_encoder
from tests.interchange import encoders

CONTENTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cannot be read"),
    "half": (b'{"modality": "vision", ', "cannot be read"),
    "no text": (bytes(range(128, 256)), "cannot be read"),
    "nested deep": (b"[" * 100_000, "RecursionError"),
    "a list": (b"[]", "no JSON object"),
    "null": (b"null", "no JSON object"),
    "nothing in it": (b"{}", "lacks modality, recipe"),
    "a number as modality": (b'{"modality": 7, "recipe": {}}', "lacks modality"),
    "a list as recipe": (b'{"modality": "vision", "recipe": [1]}', "lacks recipe"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_damaged_config(tmp_path: Path, name: str) -> None:
    content, words = CONTENTS[name]
    folder = encoders.save(tmp_path / "model", "vision", 2)
    (folder / "digests.json").unlink(missing_ok=True)
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"config\.json .*{words}.*: give a model folder"):
        load_encoder(folder)
    with pytest.raises(CheckpointError):
        load(folder)


@pytest.mark.parametrize("changes", [{"finetune": None}, {"finetune": {}}, {"task": None}, {"task": "x"}])
def test_a_fine_tuned_model_without_its_task(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = tmp_path / "model"
    encoders.save_finetuned(folder, "vision", 2, {"name": "classification"})
    (folder / "digests.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=r"lacks finetune\.task or task.*restore the file"):
        load_finetuned(folder)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"there is no device 'cuda:99' here .*give auto, cpu"):
        device_of("cuda:99")
    with pytest.raises(ConfigError, match=r"there is no device 'gpu' here"):
        device_of("gpu")
