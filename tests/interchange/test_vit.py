"""A plain ViT, which MaskFeat trains, is written to the formats that hold any encoder, and refused by the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2v.errors import ConfigError
from d2v.interchange.encoder_export import export
from d2v.interchange.load import load
from d2v.modalities import registry
from d2v.model_folder import save_encoder
from d2v.objectives.build import build_objective
from tests.objectives.helpers import SMALL_MASKFEAT, recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("vit")
    values = recipe(SMALL_MASKFEAT)
    about = {"mean": [0.5] * 3, "std": [0.5] * 3, "class_names": [], "source": "glyphs", "data_fingerprint": "none"}
    save_encoder(made / "encoder", build_objective(registry.get("vision"), values), "vision", values, about)
    return made / "encoder"


@pytest.mark.parametrize(("kind", "reason"), [("hf", "this is a ViT"), ("timm", "Beit")])
def test_other_architectures_are_refused(folder: Path, tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        export(folder, tmp_path / kind, kind)


def test_it_is_loaded_and_written_as_plain_weights(folder: Path, tmp_path: Path) -> None:
    assert load(folder, device="cpu").width == 32
    export(folder, tmp_path / "plain", "safetensors")
    assert (tmp_path / "plain" / "config.json").is_file()
