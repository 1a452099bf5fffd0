"""Training of heads: what they learn, what stays as it was, and the folder that is left."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import d2v
from d2v.alignment.loss import MOST_LOG_SCALE, contrastive_loss
from d2v.alignment.pairs import Pairs
from d2v.alignment.recall import Retrieval, recall
from d2v.alignment.space import HEADS, read_space, save_space
from d2v.alignment.train import Heads, _optimizer, batch_of, train_heads
from d2v.config import parse
from d2v.config.alignment import AlignConfig
from d2v.errors import CheckpointError, ConfigError, DataError
from tests.interchange.test_load import ITEMS, model_of

KINDS = {"captions": {"first": "vision", "second": "text"}, "transcripts": {"first": "speech", "second": "text"}}
SMALL = {"pairs": KINDS, "width": 16, "hidden": 32, "batch_size": 64, "max_updates": 150, "log_every_updates": 50}


def config(**changes: object) -> AlignConfig:
    return parse(AlignConfig, SMALL | changes, at="align")


def world(items: int = 300, seed: int = 0) -> tuple[dict[str, torch.Tensor], list[Pairs]]:
    """Three modalities that show the same ten hidden numbers in ways of their own; texts pair with both others."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(items, 6, generator=generator)
    features = {
        name: torch.tanh(hidden @ torch.randn(6, width, generator=generator)) * 5.0 + 2.0
        for name, width in (("vision", 20), ("speech", 12), ("text", 16))
    }
    rows = np.arange(items)
    return features, [Pairs(name, kind["first"], "text", rows, rows) for name, kind in KINDS.items()]


def test_heads_bring_three_modalities_together_over_texts():
    features, kinds = world()
    heads, history = train_heads(features, [one.select(np.arange(200)) for one in kinds], config())
    with torch.no_grad():
        vectors = {name: head(features[name]).numpy() for name, head in heads.heads.items()}
    held = np.arange(200, 300)
    for first, second in (("vision", "text"), ("speech", "text"), ("vision", "speech")):  # the last was never paired
        retrieval = Retrieval.of(Pairs("", first, second, held, held))
        found = recall(retrieval.ranks(vectors[first][held], vectors[second][held]), 5)
        assert found.low > 3 * retrieval.chance(5), (first, second)
    assert history[-1]["align/loss"] < history[0]["align/loss"]
    np.testing.assert_allclose(np.linalg.norm(vectors["text"], axis=1), 1.0, rtol=1e-5)


def test_the_same_seed_gives_the_same_heads_and_leaves_features_and_generators_alone():
    features, kinds = world()
    before = {name: rows.clone() for name, rows in features.items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, _ = train_heads(features, kinds, config(max_updates=10))
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)
    torch.manual_seed(6)
    second, _ = train_heads(features, kinds, config(max_updates=10))
    other, _ = train_heads(features, kinds, config(max_updates=10, seed=1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.heads["text"].first.weight, other.heads["text"].first.weight)
    assert all(torch.equal(rows, features[name]) for name, rows in before.items())


def test_the_temperature_has_no_weight_decay_and_stays_clamped():
    features, kinds = world(80)
    heads = Heads({name: rows.shape[1] for name, rows in features.items()}, config())
    by_decay = {group["weight_decay"]: group["params"] for group in _optimizer(heads, config()).param_groups}
    assert any(one is heads.temperature.log_scale for one in by_decay[0.0])
    trained, _ = train_heads(features, kinds, config(max_updates=60, optimizer={"lr": 1.0, "clip_norm": None}))
    assert 0.0 <= trained.temperature.log_scale.item() <= MOST_LOG_SCALE + 1e-6


def test_a_batch_of_two_parts_is_the_loss_of_the_whole_batch_and_so_are_its_gradients():
    """One process holds the batch; parts of it must be put together before the loss, not after."""
    features, kinds = world(64)
    heads = Heads({name: rows.shape[1] for name, rows in features.items()}, config(dropout=0.0)).eval()
    whole = heads.loss(features, kinds[0], torch.arange(64))
    whole.backward()
    gradients = [None if one.grad is None else one.grad.clone() for one in heads.parameters()]
    heads.zero_grad(set_to_none=True)
    halves = [np.arange(32), np.arange(32, 64)]
    first = torch.cat([heads.heads["vision"](features["vision"][half]) for half in halves])
    second = torch.cat([heads.heads["text"](features["text"][half]) for half in halves])
    parts = contrastive_loss(first, second, heads.temperature())
    parts.backward()
    torch.testing.assert_close(parts, whole)
    for one, gradient in zip(heads.parameters(), gradients, strict=True):
        assert (one.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(one.grad, gradient, rtol=1e-4, atol=1e-6)


def test_every_pair_of_an_epoch_comes_once():
    seen = np.concatenate([batch_of(100, 25, seed=3, kind=0, update=update) for update in range(4)])
    assert sorted(seen.tolist()) == list(range(100))
    assert batch_of(100, 25, 3, 0, 4).tolist() != batch_of(100, 25, 3, 0, 0).tolist()
    assert len(batch_of(7, 25, 3, 0, 4)) == 7


def test_features_that_are_not_finite_and_too_few_pairs_are_refused():
    features, kinds = world(40)
    features["text"][3, 2] = torch.nan
    with pytest.raises(DataError, match="text are not finite"):
        train_heads(features, kinds, config())
    with pytest.raises(DataError, match="captions: 1 pairs"):
        train_heads(world(40)[0], [kinds[0].select(np.arange(1)), kinds[1]], config())


def test_settings_that_mean_nothing_are_refused():
    for pairs, said in (
        ({"first": "text", "second": "text"}, "two modalities"),
        ({"first": "vision", "second": "text", "columns": ["a", "b"]}, "belong to a table"),
        ({"first": "vision"}, "second: required"),
    ):
        with pytest.raises(ConfigError, match=said):
            config(pairs={"mine": pairs})


# ------------------------------------------------------------------------------------------- the folder


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory):
    """(folder of a space for pictures and texts, folder of their encoders)."""
    encoders = tmp_path_factory.mktemp("encoders")
    models = {name: model_of(encoders, name) for name in ("vision", "text")}
    frozen = {
        name: {key: value.clone() for key, value in model.encoder.state_dict().items()}
        for name, model in models.items()
    }
    features = {
        name: torch.from_numpy(model.head_inputs(model.to_inputs(ITEMS[name]), "all")) for name, model in models.items()
    }
    recipe = config(pairs={"captions": KINDS["captions"]}, max_updates=5, batch_size=3)
    heads, _ = train_heads(features, [Pairs("captions", "vision", "text", np.arange(3), np.arange(3))], recipe)
    for name, model in models.items():
        assert not model.encoder.training
        assert all(torch.equal(value, model.encoder.state_dict()[key]) for key, value in frozen[name].items())
    folder = tmp_path_factory.mktemp("aligned") / "space"
    fingerprints = {name: model.fingerprint() for name, model in models.items()}
    save_space(folder, heads, recipe, {name: encoders / name for name in models}, fingerprints)
    expected = {name: heads.heads[name](features[name]).detach().numpy() for name in models}
    return folder, encoders, expected


def test_a_space_brings_its_encoders_and_gives_the_vectors_of_its_heads(space):
    folder, _, expected = space
    models = d2v.load_aligned(folder, device="cpu")
    assert sorted(models) == ["text", "vision"]
    for name, model in models.items():
        found = model.encode(ITEMS[name], space="aligned")
        assert found.shape == (3, 16)
        np.testing.assert_allclose(found, expected[name], atol=1e-5)
    with pytest.raises(ConfigError, match="leave layers and pool out"):
        models["text"].encode("a", space="aligned", pool="first")


def test_load_takes_a_space_for_its_encoder_and_refuses_it_for_another(space, tmp_path):
    folder, encoders, expected = space
    model = d2v.load(encoders / "text", device="cpu", aligned=folder)
    np.testing.assert_allclose(model.encode(ITEMS["text"], space="aligned"), expected["text"], atol=1e-5)
    other = model_of(tmp_path, "text")
    with torch.no_grad():
        next(other.encoder.parameters()).add_(0.01)
    with pytest.raises(CheckpointError, match="another encoder"):
        other.align(read_space(folder).heads["text"])
    model_of(tmp_path, "speech")
    with pytest.raises(CheckpointError, match="not speech"):
        d2v.load(tmp_path / "speech", device="cpu", aligned=folder)
    with pytest.raises(ConfigError, match="aligned=FOLDER"):
        other.encode("a", space="aligned")
    with pytest.raises(ConfigError, match="load_aligned"):
        d2v.load(folder)


def test_a_damaged_space_and_what_is_none_are_named(space, tmp_path):
    import shutil

    folder, _, _ = space
    with pytest.raises(CheckpointError, match="pipeline=align"):
        read_space(tmp_path)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / HEADS).write_bytes((copy / HEADS).read_bytes()[:-4] + b"abcd")
    with pytest.raises(CheckpointError, match="bytes changed"):
        read_space(copy)
    (copy / "digests.json").unlink()
    about = json.loads((copy / "config.json").read_text())
    del about["aligned"]["text"]["features_width"]
    (copy / "config.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="cannot be read as an aligned space"):
        read_space(copy)
