import numpy as np
import pytest

from d2v.errors import DataError
from d2v.modalities.requests import Limits
from d2v.modalities.speech.raw_inputs import REQUEST, to_inputs
from tests.modalities.speech.sounds import tone

CONFIG = {"recipe": {"encoder": {"width": 64, "heads": 4}}}


def test_the_example_fits():
    recording = REQUEST.read(REQUEST.example(CONFIG), Limits())
    assert to_inputs([recording], CONFIG).values.shape == (1, 16_000)


def test_recordings_are_normalised_and_padded():
    waves = [tone(0.5) * 0.1 + 0.2, (tone(1.0) * 20_000).astype(np.int16)]
    inputs = to_inputs(waves, CONFIG)
    assert inputs.values.shape == (2, 16_000)
    assert inputs.lengths.tolist() == [8_000, 16_000]
    for wave, length in zip(inputs.values, inputs.lengths, strict=True):
        assert float(wave[:length].mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(wave[:length].std()) == pytest.approx(1.0, abs=0.02)
        assert not wave[length:].any()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (np.zeros(16_000, np.float32), r"give \(number, samples\)"),
        (np.zeros((1, 16_000, 2), np.float32), r"give \(number, samples\)"),
        ([np.zeros((16_000, 2), np.float32)], "the mean of its channels"),
        (np.zeros((1, 100), np.float32), "one frame takes 400"),
        (np.zeros((1, 16_000), np.int64), "give float from -1 to 1, or int16"),
        (np.full((1, 16_000), np.nan, np.float32), "not finite"),
    ],
)
def test_other_requests_are_refused(raw, said):
    with pytest.raises(DataError, match=said):
        to_inputs(raw, CONFIG)
