"""`d2v look`: attention maps and token features of one's own items."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

from d2v.cli import app
from d2v.errors import ConfigError, DataError
from d2v.evaluation.attention import attention_received
from d2v.interchange.look import look
from d2v.reporting.figures import draw_map
from tests.interchange.test_load import ITEMS, TEXTS, model_of

RNG = np.random.default_rng(1)
modalities = pytest.mark.parametrize("modality", ITEMS)


def write_items(folder: Path, modality: str) -> Path:
    """Three items as files."""
    folder.mkdir()
    for number in range(3):
        if modality == "vision":
            Image.fromarray(RNG.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{number}.png")
        elif modality == "speech":
            soundfile.write(folder / f"{number}.wav", 0.1 * RNG.standard_normal(4_000 + 800 * number), 16_000)
        else:
            (folder / f"{number}.txt").write_text(TEXTS[number])
    return folder


@modalities
def test_a_page_shows_the_items(tmp_path: Path, modality: str) -> None:
    folder = write_items(tmp_path / "mine", modality)
    out = look(model_of(tmp_path, modality), folder, tmp_path / "pages" / "look.html", items=2)
    page = out.read_text()
    assert "data:image/png;base64" in page
    assert "0." in page
    assert "d2v.Model" in page
    shown = {"vision": 'alt="0.png"', "speech": "<audio controls", "text": f"<blockquote>{TEXTS[0]}"}[modality]
    assert shown in page
    with Image.open(out.with_suffix(".png")) as figure:
        assert figure.width > 400


@modalities
def test_attention_adds_up_to_one_and_padding_gets_none(tmp_path: Path, modality: str) -> None:
    model = model_of(tmp_path, modality)
    inputs = model.to_inputs(ITEMS[modality])
    received = attention_received(model.encoder, inputs)
    torch.testing.assert_close(received.sum(dim=1), torch.ones(len(received)))
    lengths = model.encoder.token_lengths(inputs.lengths)
    if lengths is not None:
        padding = torch.arange(received.shape[1]) >= lengths[:, None]
        assert padding.any()
        assert (received[padding] < 1e-6).all()


def test_keys_that_are_alike_get_equal_attention(tmp_path: Path) -> None:
    model = model_of(tmp_path, "text")
    torch.nn.init.zeros_(model.encoder.blocks[-1].attn.qkv.weight)
    torch.nn.init.zeros_(model.encoder.blocks[-1].attn.qkv.bias)
    (received,) = attention_received(model.encoder, model.to_inputs([TEXTS[1]]))
    torch.testing.assert_close(received, torch.full_like(received, 1 / len(received)))


def test_the_command_writes_it_and_names_what_is_not_there(tmp_path: Path) -> None:
    model = model_of(tmp_path, "vision")
    given = ["--model", str(tmp_path / "vision"), "--out", str(tmp_path / "look.html")]
    done = CliRunner().invoke(app, ["look", str(write_items(tmp_path / "mine", "vision")), *given])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "look.html").is_file()
    with pytest.raises(DataError, match="It was looked for in"):
        look(model, tmp_path / "nowhere", tmp_path / "look.html")


def labelled_pictures(folder: Path) -> Path:
    """Forty dark and forty bright pictures, a folder a class."""
    for name, low in (("bright", 200), ("dark", 0)):
        (folder / name).mkdir(parents=True)
        for number in range(40):
            Image.fromarray(RNG.integers(low, low + 56, (40, 40, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.slow  # UMAP's compiler
def test_alike_items_lie_together_on_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, np.ndarray] = {}

    def keep(points_N2: np.ndarray, labels: list[str], path: Path) -> Path:
        drawn.update({name: points_N2[np.array(labels) == name] for name in set(labels)})
        return draw_map(points_N2, labels, path)

    monkeypatch.setattr("d2v.interchange.look.draw_map", keep)
    folder = labelled_pictures(tmp_path / "mine")
    out = look(model_of(tmp_path, "vision"), folder, tmp_path / "look.html", items=2, on_map=80)
    assert (tmp_path / "look_map.png").is_file()
    assert "80 of 80 items" in out.read_text()
    apart = np.linalg.norm(drawn["dark"].mean(axis=0) - drawn["bright"].mean(axis=0))
    assert apart > 2 * max(points.std(axis=0).max() for points in drawn.values())


def test_a_map_of_too_few_items_or_without_its_package_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = model_of(tmp_path, "vision"), write_items(tmp_path / "mine", "vision")
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=None))
    with pytest.raises(DataError, match="leave out --map"):
        look(model, folder, tmp_path / "look.html", on_map=10)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigError, match=r"d2v\[maps\]"):
        look(model, folder, tmp_path / "look.html", on_map=10)


@pytest.mark.parametrize("labels", [["a", "b", None], [None] * 3, [f"class {n}" for n in range(30)]])
def test_a_map_has_a_colour_a_class(tmp_path: Path, labels: list[str | None]) -> None:
    points_N2 = RNG.standard_normal((len(labels), 2))
    with Image.open(draw_map(points_N2, labels, tmp_path / "map.png")) as picture:
        assert picture.width > 800
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**24) if max(colour) - min(colour) > 60}
    assert (len(colours) > 2) == any(labels)
