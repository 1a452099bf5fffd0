from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.data import mixup as timm_mixup

from d2v.config import MixConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_MIXUP, seed_of
from d2v.errors import ConfigError
from d2v.finetuning.mixup import mixed

CLASSES, SMOOTHING = 5, 0.1
BOTH = MixConfig(mixup=0.7, cutmix=1.0, probability=0.9)
"""As in data2vec 2.0's fine-tuning on ImageNet."""


def images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 3, 16, 20, generator=torch.Generator().manual_seed(1))


def batch(update: int, labels: torch.Tensor) -> Batch:
    hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    targets = hot * (1.0 - SMOOTHING) + SMOOTHING / CLASSES
    ids = torch.arange(len(labels))
    return Batch(images(len(labels)), ids, torch.zeros_like(ids), update, targets=targets)


def timms(config: MixConfig, seed: int, update: int, labels: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> tuple:
    """timm's mixture with our draws; it draws the same figures in the same order."""
    random = np.random.Generator(np.random.Philox(key=[seed_of(seed, STREAM_MIXUP, update), 0]))
    draws = SimpleNamespace(
        rand=random.random, beta=random.beta, randint=lambda low, high, size=None: random.integers(low, high)
    )
    monkeypatch.setattr(timm_mixup.np, "random", draws)
    mixer = timm_mixup.Mixup(
        config.mixup, config.cutmix, None, config.probability, config.cutmix_share, "batch", True, SMOOTHING, CLASSES
    )
    found = mixer(images(len(labels)), labels)
    monkeypatch.undo()
    return found


@pytest.mark.parametrize("config", [BOTH, MixConfig(mixup=0.8), MixConfig(cutmix=1.0)], ids=["both", "mixup", "cutmix"])
def test_mixtures_are_timms(config: MixConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    for update in range(30):
        ours = mixed(batch(update, labels), config, seed=3)
        inputs, targets = timms(config, 3, update, labels, monkeypatch)
        torch.testing.assert_close(ours.inputs, inputs)
        torch.testing.assert_close(ours.targets, targets)


def test_a_target_is_the_share_of_pixels() -> None:
    """Boxes are cut off at the border, and the share follows."""
    labels = torch.tensor([0, 1])
    given = batch(0, labels)
    given.inputs = torch.arange(2.0)[:, None, None, None].expand(2, 3, 16, 20)
    given.targets = torch.eye(2)
    shares = set()
    for update in range(20):
        given.update = update
        ours = mixed(given, MixConfig(cutmix=1.0), seed=0)
        share = float((ours.inputs[0] == 0.0).float().mean())
        assert ours.targets[0].tolist() == pytest.approx([share, 1.0 - share], abs=1e-6)
        assert ours.targets[1].tolist() == pytest.approx([1.0 - share, share], abs=1e-6)
        shares.add(share)
    assert len(shares) > 10


def test_mixtures_follow_seed_and_update_alone() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    first, again = (mixed(batch(4, labels), MixConfig(mixup=0.8), 1) for _ in range(2))
    assert torch.equal(first.inputs, again.inputs)
    for other in (mixed(batch(5, labels), MixConfig(mixup=0.8), 1), mixed(batch(4, labels), MixConfig(mixup=0.8), 2)):
        assert not torch.equal(first.inputs, other.inputs)


def test_nothing_is_mixed_unless_asked() -> None:
    given = batch(0, torch.tensor([0, 1]))
    assert mixed(given, MixConfig(), 0) is given
    assert all(
        mixed(batch(n, torch.tensor([0, 1])), MixConfig(mixup=1.0, probability=0.0), 0).inputs.equal(given.inputs)
        for n in range(5)
    )


def test_only_images_with_classes_are_mixed() -> None:
    ids = torch.arange(2)
    sounds = Batch(torch.randn(2, 100), ids, ids, 0, targets=torch.eye(2))
    with pytest.raises(ConfigError, match=r"set finetune\.mix\.mixup=0"):
        mixed(sounds, MixConfig(mixup=0.5), 0)
