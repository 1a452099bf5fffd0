import math
from pathlib import Path

import numpy as np
import pytest

from d2v.config import EmaConfig, ScheduleConfig
from d2v.training.schedule import learning_rate

GOLDEN_SCHEDULES = {
    "d2v2_base_image": (0.9998, 0.99999, 100_000),
    "d2v2_base_audio": (0.999, 0.99999, 75_000),
    "d2v2_base_text": (0.9999, 0.99999, 100_000),
    "d2v2_large_image": (0.9998, 0.99999, 150_000),
    "d2v2_large_audio": (0.9997, 1.0, 300_000),
    "d2v2_huge_image": (0.9998, 1.0, 300_000),
    "d2v1_image_base": (0.999, 0.9999, 400_000),
    "d2v1_audio": (0.999, 0.9999, 30_000),
    "d2v1_text": (0.999, 0.9999, 300_000),
}


@pytest.mark.goldens
@pytest.mark.parametrize("name", GOLDEN_SCHEDULES)
def test_decay_is_the_reference_s(name: str, shared_goldens: Path) -> None:
    golden = np.load(shared_goldens / "ema.npz")
    start, end, anneal = GOLDEN_SCHEDULES[name]
    config = EmaConfig(decay_start=start, decay_end=end, anneal_updates=anneal)
    ours = [config.decay(int(n)) for n in golden["steps"]]
    np.testing.assert_allclose(ours, golden[name], rtol=0, atol=1e-15)


def test_decay_of_data2vec2_audio_base() -> None:
    config = EmaConfig(decay_start=0.999, decay_end=0.99999, anneal_updates=75_000)
    assert config.decay(0) == pytest.approx(0.999)
    assert config.decay(37_500) == pytest.approx(0.999495)
    assert config.decay(75_000) == config.decay(10**6) == 0.99999


def test_cosine() -> None:
    config = ScheduleConfig(name="cosine", warmup_updates=10, min_lr=0.1)
    rates = [learning_rate(config, 1.0, update, 110) for update in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[5] == pytest.approx(0.55)
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert max(rates) == 1.0


def test_tri_stage() -> None:
    config = ScheduleConfig(name="tri_stage", phases=(0.1, 0.4, 0.5), init_scale=0.01, final_scale=0.05)
    rates = [learning_rate(config, 2.0, update, 100) for update in range(101)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[10] == rates[49] == 2.0
    assert rates[75] == pytest.approx(2.0 * math.sqrt(0.05))
    assert rates[100] == pytest.approx(0.1)
