"""The space that is learned for comparing items: what whitening does to neighbours, its file, and its place in a model
folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.data import digests
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.evaluation.probes import knn
from d2v.evaluation.search_space import MOST_AXES, SEARCH, SearchSpace, pool
from d2v.model_folder import load_encoder
from tests.interchange.test_load import ITEMS, modalities, model_of

GENERATOR = torch.Generator().manual_seed(0)


def loud_and_quiet(count: int) -> tuple[Tensor, Tensor]:
    """(count, 12) features whose class lies in quiet axes beside four loud ones that say nothing, and the classes."""
    labels = torch.arange(count) % 3
    quiet = torch.eye(3).repeat(1, 3)[:, :8][labels] + 0.2 * torch.randn(count, 8, generator=GENERATOR)
    return torch.cat([20.0 * torch.randn(count, 4, generator=GENERATOR), quiet], dim=1), labels


def test_neighbours_agree_where_loud_axes_had_hidden_the_classes() -> None:
    (train, labels), (test, of_test) = loud_and_quiet(300), loud_and_quiet(90)
    space = SearchSpace.learned(train)
    plain = (knn(train, labels, test, 10, 0.07) == of_test).float().mean()
    searched = (knn(space(train), labels, space(test), 10, 0.07) == of_test).float().mean()
    assert plain < 0.6
    assert searched > 0.9


def test_axes_have_equal_variance_and_vectors_length_one() -> None:
    train = torch.randn(4000, 8, generator=GENERATOR) * torch.linspace(1.0, 6.0, 8) + 3.0
    space = SearchSpace.learned(train)
    variance = ((train - space.mean_P) @ space.axes_PR).var(dim=0)
    assert variance.max() / variance.min() < 1.2
    torch.testing.assert_close(space(train).norm(dim=1), torch.ones(4000))


@pytest.mark.parametrize(("items", "width"), [(40, 700), (700, 40), (900, 600)])
def test_axes_are_no_more_than_items_width_and_the_limit(items: int, width: int) -> None:
    space = SearchSpace.learned(torch.randn(items, width, generator=GENERATOR))
    assert space.width <= min(items, width, MOST_AXES)
    assert bool(torch.isfinite(space.axes_PR).all())


@pytest.mark.parametrize(("items", "width"), [(30, 80), (80, 30)])
def test_products_are_those_of_the_inverse_of_the_shrunk_covariance(items: int, width: int) -> None:
    features = torch.randn(items, width, generator=GENERATOR) * torch.linspace(1.0, 3.0, width)
    centred = (features - features.mean(dim=0)).double()
    covariance, _ = ledoit_wolf(centred.numpy(), assume_centered=True)
    expected = centred @ torch.from_numpy(np.linalg.inv(covariance)) @ centred.T
    length = expected.diagonal().sqrt()
    products = SearchSpace.learned(features)(features)
    torch.testing.assert_close(
        products @ products.T, (expected / length / length[:, None]).float(), atol=1e-4, rtol=0.0
    )


@pytest.mark.parametrize(
    "features", [torch.zeros(0, 4), torch.ones(1, 4), torch.ones(9, 4)], ids=["none", "one", "alike"]
)
def test_items_that_do_not_differ_are_refused(features: Tensor) -> None:
    with pytest.raises(DataError, match="give more"):
        SearchSpace.learned(features)


def test_tokens_of_a_plane_are_averaged_in_parts_and_of_a_sequence_without_padding() -> None:
    tokens = torch.arange(64.0).reshape(1, 64, 1)
    parts = pool(tokens, None, (8, 8))
    assert parts.shape == (1, 16)
    assert parts[0, 0] == tokens[0, [0, 1, 8, 9], 0].mean()
    assert parts.mean() == tokens.mean()
    assert pool(tokens, torch.tensor([4]), None).item() == 1.5
    assert pool(tokens[:, :6], None, (2, 3)).flatten().tolist() == list(range(6))
    with pytest.raises(ConfigError, match="d2v space"):
        pool(tokens, None, (4, 4))


# ---------------------------------------------------------------------------------------- model folders


def with_space(folder: Path, grid: tuple[int, int] | None = None) -> Path:
    """A model folder with some space."""
    width = load_encoder(folder)[0].width * (1 if grid is None else min(4, grid[0]) * min(4, grid[1]))
    SearchSpace.learned(torch.randn(50, width, generator=GENERATOR), grid).save(folder)
    return folder


@modalities
def test_an_encoder_without_a_space_says_the_command_that_makes_it(tmp_path: Path, modality: str) -> None:
    model = model_of(tmp_path, modality)
    assert model.encode(ITEMS[modality]).shape == (3, model.width)
    with pytest.raises(ConfigError, match="d2v space"):
        model.encode(ITEMS[modality], space="search")
    with pytest.raises(ConfigError, match="plain, search or aligned"):
        model.encode(ITEMS[modality], space="other")


@pytest.mark.parametrize("modality", ["speech", "text"])
def test_sequences_are_encoded_in_the_space_whatever_lies_beside_them(tmp_path: Path, modality: str) -> None:
    model_of(tmp_path, modality)
    model = d2v.load(with_space(tmp_path / modality), device="cpu")
    together = model.encode(ITEMS[modality], space="search")
    assert together.shape == (3, model.width_in("search"))
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(model.encode(ITEMS[modality][0], space="search"), together[0], atol=1e-4)
    mapped = SearchSpace.read(tmp_path / modality)
    assert mapped is not None
    np.testing.assert_allclose(mapped(torch.from_numpy(model.encode(ITEMS[modality]))), together, atol=1e-5)
    with pytest.raises(ConfigError, match="leave layers and pool out"):
        model.encode(ITEMS[modality], space="search", layers=[0])


def test_a_space_is_sealed_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    model_of(tmp_path, "vision")
    folder = tmp_path / "vision"
    digests.seal(folder)
    before = json.loads((folder / digests.DIGESTS).read_text())
    with_space(folder)
    assert json.loads((folder / digests.DIGESTS).read_text()).items() > before.items()
    assert not digests.changed(folder)
    damaged = bytearray((folder / SEARCH).read_bytes())
    damaged[-5] ^= 1
    (folder / SEARCH).write_bytes(damaged)
    with pytest.raises(CheckpointError, match="d2v space"):
        d2v.load(folder, device="cpu")
    (folder / digests.DIGESTS).unlink()
    (folder / SEARCH).write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="learn it again: d2v space"):
        d2v.load(folder, device="cpu")


def test_the_teacher_of_a_folder_has_no_space_of_the_student(tmp_path: Path) -> None:
    model_of(tmp_path, "text")
    with_space(tmp_path / "text")
    assert d2v.load(tmp_path / "text", device="cpu").search_space is not None
    if (tmp_path / "text" / "teacher.safetensors").is_file():
        assert d2v.load(tmp_path / "text", device="cpu", teacher=True).search_space is None


def test_the_command_learns_a_space_and_files_are_encoded_in_it(tmp_path: Path) -> None:
    model_of(tmp_path, "text")
    (tmp_path / "texts.txt").write_text("".join(f"sentence {n} of {n % 7} and {n * n}\n" for n in range(40)))
    learned = CliRunner().invoke(app, ["space", str(tmp_path / "text"), str(tmp_path / "texts.txt"), "--device", "cpu"])
    assert learned.exit_code == 0, learned.output
    out = tmp_path / "features.parquet"
    arguments = ["encode", str(tmp_path / "texts.txt"), "--model", str(tmp_path / "text"), "--out", str(out)]
    assert CliRunner().invoke(app, [*arguments, "--space", "search"]).exit_code == 0
    rows = np.stack(pd.read_parquet(out)["embedding"])
    model = d2v.load(tmp_path / "text", device="cpu")
    assert rows.shape == (40, model.width_in("search"))
    np.testing.assert_allclose(model.encode("sentence 3 of 3 and 9", space="search"), rows[3], atol=1e-4)
