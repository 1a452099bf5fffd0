"""HuBERT's codes: cepstra, clusters, and which label a frame has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from d2v.config import parse
from d2v.data.batch import SampleKeys
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.modalities.speech.clusters import batches_of, find_clusters, nearest
from d2v.modalities.speech.codebook import LayerFeatures, identity, mfcc
from d2v.modalities.speech.codes import label_indices, labelled_frames
from d2v.modalities.speech.config import CodebookConfig, SpeechEncoderConfig
from d2v.model_folder import save_encoder
from d2v.objectives.build import build_objective
from tests.modalities.speech.contract_case import CASE, ENCODER, write_tones

SPEECH = registry.get("speech")
BASE = SpeechEncoderConfig()
SMALL = parse(SpeechEncoderConfig, ENCODER)
HUBERT = {
    "objective": {"name": "hubert", "codes": 6, "projection_width": 8},
    "encoder": ENCODER | {"layout": "data2vec1"},
    "mask": {"kind": "span", "ratio": 0.65, "span": 5},
    "optimizer": {"lr": 1e-3},
    "batch_size": 4,
    "max_updates": 2,
}


# ------------------------------------------------------------------------------------------- cepstra


@pytest.mark.parametrize(("samples", "labels"), [(399, 0), (400, 1), (16_000, 98), (32_000, 198), (250_000, 1561)])
def test_cepstra_come_every_ten_milliseconds(samples: int, labels: int) -> None:
    assert mfcc(np.ones(samples, np.int16)).shape == (labels, 39)


def test_cepstra_are_those_of_the_authors_code() -> None:
    """Their script: Kaldi's cepstra of torchaudio, and differences of differences."""
    import torch
    from torchaudio.compliance import kaldi
    from torchaudio.functional import compute_deltas

    samples = np.random.default_rng(0).integers(-8000, 8000, 8000).astype(np.int16)
    wave_1S = torch.from_numpy(samples / np.float32(32_768)).view(1, -1)
    theirs = kaldi.mfcc(waveform=wave_1S, sample_frequency=16_000, use_energy=False).transpose(0, 1)
    deltas = compute_deltas(theirs)
    expected = torch.cat([theirs, deltas, compute_deltas(deltas)], dim=0).transpose(0, 1)
    np.testing.assert_array_equal(mfcc(samples), expected.numpy())


# ------------------------------------------------------------------------------------------ clusters


def test_clusters_are_found_in_a_stream() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(0, 10, (5, 3))
    classes = random.integers(5, size=2000)
    features = centres[classes] + random.normal(0, 0.1, (2000, 3))
    parts = np.array_split(features, 37)
    found = find_clusters((iter(parts) for _ in range(2)), clusters=5, batch=300, seed=0)
    assert np.array_equal(find_clusters((iter(parts) for _ in range(2)), 5, 300, 0), found)
    pairs = np.unique(np.stack([nearest(features, found), classes]), axis=1)
    assert pairs.shape == (2, 5), "one cluster a class"
    order = nearest(centres, found)
    np.testing.assert_allclose(found[order], centres, atol=0.05)


def test_a_stream_is_cut_into_batches() -> None:
    parts = [np.full((rows, 1), rows, np.float32) for rows in (3, 5, 1, 4)]
    cut = [some[:, 0].tolist() for some in batches_of(parts, 4)]
    assert cut == [[3, 3, 3, 5], [5, 5, 5, 5], [1, 4, 4, 4], [4]]


def test_too_few_features_are_refused() -> None:
    with pytest.raises(DataError, match=r"3 features .* 4 clusters: set prepare\.codebook\.codes lower"):
        find_clusters([[np.zeros((3, 2))]], 4, 100, 0)
    with pytest.raises(DataError, match="no features"):
        find_clusters([], 4, 100, 0)


# ----------------------------------------------------------------------------------------- alignment


def test_frames_of_a_second_have_every_other_label() -> None:
    frames = labelled_frames(16_000, 160, 400, BASE)
    assert frames == BASE.frames(16_000) == 49
    assert label_indices(0, frames, 160, 320, 98).tolist() == list(range(0, 97, 2))


def test_frames_without_a_label_are_left_out() -> None:
    assert BASE.frames(250_000) == 781
    assert labelled_frames(250_000, 160, 400, BASE) == 780


def test_labels_of_a_crop_are_shifted() -> None:
    assert label_indices(160 * 7, 4, 160, 320, 98).tolist() == [7, 9, 11, 13]
    assert label_indices(160 * 7 + 81, 4, 160, 320, 98).tolist() == [8, 10, 12, 14]
    assert label_indices(160 * 92 + 81, 3, 160, 320, 98).tolist() == [93, 95, 97]
    assert label_indices(160 * 93 + 81, 3, 160, 320, 98).tolist() == [94, 96, 97], "what rounding adds is the last"


def test_an_encoders_own_labels_are_one_a_frame() -> None:
    assert labelled_frames(8000, SMALL.step_samples, SMALL.receptive_samples, SMALL) == SMALL.frames(8000)
    assert label_indices(0, 5, 200, 200, 9).tolist() == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------ prepared folders


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones")
    (folder / "source").mkdir()
    write_tones(folder / "source")
    ingest = parse(SPEECH.recipe.model_fields["ingest"].annotation, CASE.ingest | {"source": str(folder / "source")})
    SPEECH.ingest(ingest, folder / "corpus")
    return folder / "corpus"


def prepare(corpus: Path, out: Path, codebook: dict[str, object] | None) -> dict[str, object]:
    values = {key: value for key, value in CASE.prepare.items() if key != "codebook"}
    config = parse(SPEECH.recipe.model_fields["prepare"].annotation, values | {"codebook": codebook})
    return dict(SPEECH.prepare(config, corpus, out))


SMALL_CODEBOOK = {"codes": 6, "share": 1.0, "passes": 2, "batch_frames": 400}


def test_a_crops_targets_are_its_recordings_codes(corpus: Path, tmp_path: Path) -> None:
    about = prepare(corpus, tmp_path / "prepared", SMALL_CODEBOOK)
    assert about["codebook"] == {"kind": "mfcc", "codes": 6, "hop_samples": 160, "window_samples": 400}
    data = SPEECH.open(tmp_path / "prepared")
    recipe = parse(SPEECH.train_config, HUBERT)
    rows = np.arange(5)
    batch = data.batch(SampleKeys(0, rows, np.zeros(5, np.int64), 5000), recipe)
    assert batch.targets.shape == (5, labelled_frames(5000, 160, 400, SMALL))
    centres = np.load(tmp_path / "prepared" / "codebook.npy")
    assert centres.shape == (6, 39)
    whole = data.batch(SampleKeys(0, rows[:1], np.zeros(1, np.int64)), recipe)
    samples = data.train.view("data", 0).view("<i2")
    assert whole.inputs.shape[1] == len(samples), "one recording is cropped to itself"
    expected = nearest(mfcc(samples), centres)[np.arange(whole.targets.shape[1]) * 200 // 160]
    assert whole.targets[0].tolist() == expected.tolist()
    assert len(batch.targets.unique()) > 1


def test_a_codebook_is_part_of_the_fingerprint_and_none_is_as_before(corpus: Path, tmp_path: Path) -> None:
    without = prepare(corpus, tmp_path / "without", None)
    fields = SPEECH.recipe.model_fields["prepare"].annotation.model_fields.keys() - {"codebook", "engine", "cluster"}
    from d2v.data import fingerprint

    values = {key: value for key, value in CASE.prepare.items() if key != "codebook"}
    config = parse(SPEECH.recipe.model_fields["prepare"].annotation, values)
    settings = {"settings": {"resampler": "soxr_hq"}}
    before = {"corpus": without["corpus_fingerprint"], "parameters": config.model_dump(include=fields), **settings}
    assert without["fingerprint"] == fingerprint.of_values(before)
    assert "codebook" not in without
    one = prepare(corpus, tmp_path / "one", SMALL_CODEBOOK)
    other = prepare(corpus, tmp_path / "one", SMALL_CODEBOOK | {"seed": 1})
    assert len({without["fingerprint"], one["fingerprint"], other["fingerprint"]}) == 3


def test_further_iterations_take_an_encoders_layer(corpus: Path, tmp_path: Path) -> None:
    recipe = parse(SPEECH.train_config, HUBERT)
    save_encoder(tmp_path / "encoder", build_objective(SPEECH, recipe), "speech", recipe)
    codebook = SMALL_CODEBOOK | {"encoder": str(tmp_path / "encoder"), "layer": 2}
    about = prepare(corpus, tmp_path / "prepared", codebook)
    assert about["codebook"] == {"kind": "layer 2", "codes": 6, "hop_samples": 200, "window_samples": 220}
    data = SPEECH.open(tmp_path / "prepared")
    batch = data.batch(SampleKeys(0, np.arange(3), np.zeros(3, np.int64), 5000), recipe)
    assert batch.targets.shape == (3, SMALL.frames(5000))
    values = identity(parse(CodebookConfig, codebook))
    assert values["encoder"] != str(tmp_path / "encoder")
    (tmp_path / "encoder" / "encoder.safetensors").write_bytes(b"others")
    assert identity(parse(CodebookConfig, codebook))["encoder"] != values["encoder"]


def test_what_cannot_be_clustered_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"set prepare\.codebook\.encoder"):
        identity(parse(CodebookConfig, {"encoder": str(tmp_path / "nothing")}))
    recipe = parse(SPEECH.train_config, HUBERT)
    save_encoder(tmp_path / "encoder", build_objective(SPEECH, recipe), "speech", recipe)
    with pytest.raises(DataError, match="more than the 2 blocks"):
        LayerFeatures(tmp_path / "encoder", 3)
    weights = tmp_path / "encoder" / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(DataError, match="restore the file"):
        LayerFeatures(tmp_path / "encoder", 1)
    (tmp_path / "encoder" / "digests.json").unlink()  # folders of earlier versions have none
    with pytest.raises(DataError, match="does not fill the encoder"):
        LayerFeatures(tmp_path / "encoder", 1)
    prepare(corpus, tmp_path / "prepared", SMALL_CODEBOOK | {"codes": 5})
    with pytest.raises(ConfigError, match=r"a codebook of 5 codes: set prepare\.codebook\.codes=6"):
        SPEECH.open(tmp_path / "prepared").batch(SampleKeys(0, np.arange(2), np.zeros(2, np.int64)), recipe)
