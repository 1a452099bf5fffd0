"""`d2v.load` and `d2v encode`: a model from anywhere, fed with what people have."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from PIL import Image
from torchaudio.functional import resample
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.interchange import load as model_module
from d2v.interchange.encode_files import encode_files
from d2v.interchange.importing import import_model
from d2v.modalities import registry
from d2v.modalities.text.tokenizer import train_tokenizer
from d2v.model_folder import load_encoder
from tests.interchange import encoders
from tests.interchange.test_heads import linear, named, saved

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
WAVE = (0.1 * RNG.standard_normal(4_000)).astype(np.float32)
TEXTS = ["to be", "or not to be, that is the question", "to"]


def about(modality: str) -> dict:
    return {"tokenizer": train_tokenizer(TEXTS, 300).to_json()} if modality == "text" else {}


def model_of(folder: Path, modality: str, version: int = 2) -> d2v.Model:
    return d2v.load(encoders.save(folder / modality, modality, version, about=about(modality)), device="cpu")


ITEMS = {"vision": [PHOTO, PHOTO[:, ::-1], PHOTO[:20]], "speech": [WAVE, WAVE[:3_000], WAVE[:1_000]], "text": TEXTS}
modalities = pytest.mark.parametrize("modality", ITEMS)


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_d2v_itself_is_quick_to_import():
    code = "import sys, d2v; assert 'torch' not in sys.modules; assert not hasattr(d2v, 'nothing')"
    subprocess.run([sys.executable, "-c", code], check=True)


# ----------------------------------------------------------------------------------------------- encode


@modalities
def test_one_and_several_and_batches(tmp_path, modality):
    model = model_of(tmp_path, modality)
    encoder, config = load_encoder(tmp_path / modality)
    several = model.encode(ITEMS[modality])
    assert several.shape == (3, 32)
    assert several.dtype == np.float32
    for item, row in zip(ITEMS[modality], several, strict=True):
        alone = model.encode(item)
        assert alone.shape == (32,)
        close(alone, row)
        inputs = registry.get(modality).to_inputs([item] if modality == "text" else item[None], config)
        with torch.no_grad():
            close(encoder.features(inputs.values, inputs.lengths)[0], row)
    model.batch_size = 2
    close(model.encode(iter(ITEMS[modality])), several)
    assert model.encode([]).shape == (0, 32)


@modalities
def test_layers_and_tokens(tmp_path, modality):
    model = model_of(tmp_path, modality)
    items = ITEMS[modality]
    layers = model.encode(items, layers="all")
    assert layers.shape == (3, 2, 32)
    close(model.encode(items, layers=[-1, 0]), layers[:, [1, 0]])
    close(layers[:, -1], model.encode(items))  # post-norm encoders end with their last block
    tokens = model.encode(items, pool="none")
    assert len(tokens) == 3
    close(np.stack([one.mean(axis=0) for one in tokens]), model.encode(items))
    if modality != "vision":
        assert len({len(one) for one in tokens}) == 3
    assert model.encode(items[0], layers=[0, 1], pool="none").shape == (2, len(tokens[0]), 32)
    assert model.encode([], layers="all").shape == (0, 2, 32)


def test_the_first_token(tmp_path):
    text, vision = model_of(tmp_path, "text"), model_of(tmp_path, "vision")
    close(text.encode(TEXTS, pool="first"), np.stack([one[0] for one in text.encode(TEXTS, pool="none")]))
    inputs = vision.to_inputs([PHOTO])
    with torch.no_grad():
        extra = vision.encoder.encode(vision.encoder.stem(inputs.values)).extra
    close(vision.encode([PHOTO], pool="first"), extra[:, 0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": [2]}, "blocks 0 to 1"),
        ({"layers": []}, "blocks 0 to 1"),
        ({"pool": "last"}, "mean, first or none"),
        ({"pool": "first", "layers": [0]}, "take pool=mean"),
    ],
)
def test_what_the_encoder_does_not_have(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        model_of(tmp_path, "vision").encode(PHOTO, **options)


@modalities
def test_bfloat16_is_near(tmp_path, modality):
    model = model_of(tmp_path, modality)
    exact = model.encode(ITEMS[modality])
    rough = model.to("cpu", "bfloat16").encode(ITEMS[modality])
    assert rough.dtype == np.float32
    assert np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()
    with pytest.raises(ConfigError, match="float32, bfloat16, float16"):
        model.to("cpu", "int8")


def test_a_format_that_the_cpu_does_not_have_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", "avx2": True})
    model = model_of(tmp_path, "vision")
    model.to("cpu", "float32")
    assert "no instructions" not in capsys.readouterr().err
    model.to("cpu", "bfloat16")
    assert "load: this CPU has no instructions for bfloat16" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ items


def test_images_come_in_many_ways(tmp_path):
    model = model_of(tmp_path, "vision")
    expected = model.encode(PHOTO)
    picture = Image.fromarray(PHOTO)
    picture.save(tmp_path / "a.png")
    clear = np.concatenate([PHOTO, np.full((30, 40, 1), 255, np.uint8)], axis=-1)
    ways = (picture, tmp_path / "a.png", str(tmp_path / "a.png"), PHOTO / 255.0, clear, picture.convert("RGBA"))
    for way in ways:
        close(model.encode(way), expected)
    close(model.encode(torch.from_numpy(PHOTO)), expected)
    close(model.encode(np.stack([PHOTO, PHOTO])), np.stack([expected, expected]))
    gray = np.asarray(picture.convert("L"))
    close(model.encode(gray), model.encode(np.repeat(gray[..., None], 3, axis=-1)))
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    picture.rotate(180).save(turned, "PNG", exif=exif)
    (tmp_path / "turned.png").write_bytes(turned.getvalue())
    close(model.encode(tmp_path / "turned.png"), expected)


def test_recordings_come_in_many_ways(tmp_path):
    model = model_of(tmp_path, "speech")
    expected = model.encode(WAVE)
    soundfile.write(tmp_path / "a.wav", WAVE, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.stack([WAVE, WAVE], axis=1), 16_000, subtype="FLOAT")
    whole = (WAVE * 32_768).astype(np.int16)
    for way in (tmp_path / "a.wav", str(tmp_path / "stereo.wav"), torch.from_numpy(WAVE)):
        close(model.encode(way), expected)
    close(model.encode(whole), expected, 1e-3)
    close(model.encode(np.stack([WAVE, WAVE])), np.stack([expected, expected]))
    low = resample(torch.from_numpy(WAVE), 16_000, 8_000).numpy()
    again = resample(torch.from_numpy(low), 8_000, 16_000).numpy()
    close(model.encode(low, rate_hz=8_000), model.encode(again))
    soundfile.write(tmp_path / "low.wav", low, 8_000, subtype="FLOAT")
    close(model.encode(tmp_path / "low.wav"), model.encode(again), 1e-3)


def test_texts_and_pairs(tmp_path):
    model = model_of(tmp_path, "text")
    pair = ("to be", "or not to be")
    assert model.encode(pair).shape == (32,)
    mixed = model.encode([pair, "to be"])
    close(mixed[0], model.encode([pair])[0])
    close(mixed[1], model.encode("to be"))
    encoders.save(tmp_path / "mute", "text", 2)
    with pytest.raises(DataError, match="has no tokenizer"):
        d2v.load(tmp_path / "mute").encode("to be")


@pytest.mark.parametrize(
    ("modality", "item", "words"),
    [
        ("vision", "gone.png", "gone.png cannot be read"),
        ("vision", np.full((4, 4, 3), 300, np.int64), "int64"),
        ("vision", 7, "is not an item"),
        ("vision", [7], "is not an image"),
        ("speech", "gone.wav", "gone.wav cannot be read"),
        ("speech", np.zeros(3, np.float32), "3 samples"),
        ("text", [3], "int"),
    ],
)
def test_other_items_are_named(tmp_path, modality, item, words):
    with pytest.raises(DataError, match=words):
        model_of(tmp_path, modality).encode(item)


# ----------------------------------------------------------------------------------------------- predict


def tuned(folder: Path, modality: str, task: dict, says: dict | None = None) -> d2v.Model:
    encoders.save_finetuned(folder, modality, 2, task, says, about(modality))
    return d2v.load(folder, device="cpu")


def test_predictions_are_in_words(tmp_path):
    classes = tuned(tmp_path / "a", "vision", {"name": "classification"})
    said = classes.predict([PHOTO, PHOTO[:20]])
    assert said == ["abc"[i] for i in classes.outputs([PHOTO, PHOTO[:20]]).argmax(axis=1)]
    assert classes.predict(PHOTO) == said[0]
    letters = tuned(tmp_path / "b", "speech", {"name": "transcription"}, {"letters": ["A", "B"]})
    assert isinstance(letters.predict(WAVE), str)
    assert [len(one) for one in letters.outputs([WAVE, WAVE[:1000]])] == [399, 99]
    (number,) = tuned(tmp_path / "c", "text", {"name": "regression"}, {}).predict(["to be"])
    assert isinstance(number, float)
    several = tuned(tmp_path / "d", "speech", {"name": "multilabel"})
    shares = several.predict(WAVE)
    assert set(shares) == set("abc")
    assert all(0.0 <= share <= 1.0 for share in shares.values())
    assert several.thresholds == dict.fromkeys(shares, 0.5)
    with pytest.raises(ConfigError, match="several labels"):
        _ = classes.thresholds


def test_an_encoder_predicts_nothing(tmp_path):
    with pytest.raises(ConfigError, match="an encoder without a head"):
        model_of(tmp_path, "vision").predict(PHOTO)


# ------------------------------------------------------------------------------------------------- load


@pytest.mark.goldens
@pytest.mark.parametrize("source", ["v2_image.fairseq.pt", "hf_vision_cls", "hf_text_seqcls"])
def test_what_is_loaded_is_what_is_imported(shared_goldens, tmp_path, source):
    import_model(shared_goldens / source, tmp_path / "model")
    direct, stored = d2v.load(shared_goldens / source), d2v.load(tmp_path / "model")
    assert direct.encoder.state_dict().keys() == stored.encoder.state_dict().keys()
    assert all(torch.equal(v, stored.encoder.state_dict()[k]) for k, v in direct.encoder.state_dict().items())
    assert {**direct.about, "source": ""}.items() <= {**stored.about, "source": ""}.items()
    assert (direct.task is None) == (stored.task is None) == (source == "v2_image.fairseq.pt")
    if "vision" in source:
        assert direct.predict(PHOTO) == stored.predict(PHOTO)


@pytest.mark.goldens
def test_letters_of_a_checkpoint_can_be_given(shared_goldens, tmp_path):
    source = saved(shared_goldens, tmp_path, "v2_audio", named("w2v_encoder.proj", linear(classes=7)))
    (tmp_path / "letters.txt").write_text("| 1\nA 1\nB 1\n")
    assert isinstance(d2v.load(source, labels=tmp_path / "letters.txt").predict(WAVE), str)
    with pytest.raises(ConfigError, match="without a head"):
        d2v.load(source).predict(WAVE)


@pytest.mark.goldens
def test_the_teacher(shared_goldens, tmp_path):
    import_model(shared_goldens / "v2_image.fairseq.pt", tmp_path / "model")
    student, teacher = (d2v.load(tmp_path / "model", teacher=flag).encode(PHOTO) for flag in (False, True))
    assert not np.allclose(student, teacher)
    with pytest.raises(ConfigError, match="d2v import"):
        d2v.load(shared_goldens / "v2_image.fairseq.pt", teacher=True)


def test_a_registered_model(tmp_path, monkeypatch):
    folder = encoders.save(tmp_path / "kept", "vision", 2)
    asked = []
    monkeypatch.setattr(model_module, "registered_model", lambda uri: asked.append(uri) or folder)
    assert d2v.load("models:/d2v-vision@champion").encode(PHOTO).shape == (32,)
    assert asked == ["models:/d2v-vision@champion"]


def test_what_is_no_model_is_said_so(tmp_path):
    with pytest.raises(CheckpointError, match="is not there: give a model folder"):
        d2v.load(tmp_path / "gone")
    encoders.save(tmp_path / "run" / "encoder", "vision", 2)
    with pytest.raises(CheckpointError, match=r"give .*run/encoder"):
        d2v.load(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        d2v.load(tmp_path / "empty")


# ---------------------------------------------------------------------------------------------- parquet


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_encode_writes_features_and_what_could_not_be_read(tmp_path):
    folder, photos = tmp_path / "model", tmp_path / "photos"
    encoders.save_finetuned(folder, "vision", 2, {"name": "classification"})
    (photos / "inner").mkdir(parents=True)
    for number in range(5):
        Image.fromarray(np.roll(PHOTO, number, axis=0)).save(photos / f"{number}.png")
    (photos / "inner" / "notes.txt").write_text("no image")
    (photos / ".hidden").write_text("not looked at")
    out = tmp_path / "out" / "photos.parquet"
    told = call(
        "encode", photos, "--model", folder, "--out", out, "--predict", "--batch-size", 2, "--layers", 0, "--layers", -1
    )
    assert "6 rows of 32 numbers, 1 with a problem" in told
    assert "notes.txt" in told
    table = pq.read_table(out)
    assert table.column_names == ["file", "layer_0", "layer_-1", "prediction", "problem"]
    rows = table.to_pylist()
    assert [Path(row["file"]).name for row in rows] == [*(f"{n}.png" for n in range(5)), "notes.txt"]
    model = d2v.load(folder)
    for row in rows[:5]:
        close(row["layer_0"], model.encode(row["file"], layers=[0])[0])
        assert row["prediction"] == model.predict(row["file"])
        assert row["problem"] is None
    assert rows[5]["layer_0"] is rows[5]["prediction"] is None
    assert "not an image" in rows[5]["problem"]
    assert [file.name for file in out.parent.iterdir()] == ["photos.parquet"]


def test_texts_are_encoded_by_line(tmp_path):
    model = model_of(tmp_path, "text")
    (tmp_path / "a.txt").write_text("to be\n\nor not to be\n")
    written = encode_files(model, [tmp_path / "a.txt"], tmp_path / "out.parquet")
    assert (written.rows, written.problems) == (2, 0)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["line"] for row in rows] == [1, 3]
    close(np.array([row["embedding"] for row in rows]), model.encode(["to be", "or not to be"]))


def test_memory_is_that_of_a_batch(tmp_path, monkeypatch):
    """No more than a batch of items is under way at a time."""
    model = model_of(tmp_path, "text")
    model.batch_size, sizes = 4, []
    monkeypatch.setattr(
        model, "to_inputs", lambda items, **how: sizes.append(len(items)) or type(model).to_inputs(model, items, **how)
    )
    (tmp_path / "a.txt").write_text("to be\n" * 10)
    encode_files(model, [tmp_path / "a.txt"], tmp_path / "out.parquet")
    assert sizes == [4, 4, 2]
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3


def test_encode_refuses_what_cannot_be(tmp_path):
    model = model_of(tmp_path, "vision")
    out = tmp_path / "out.parquet"
    with pytest.raises(DataError, match="gone is not there"):
        encode_files(model, [tmp_path / "gone"], out)
    with pytest.raises(ConfigError, match="leave --predict out"):
        encode_files(model, [tmp_path], out, predict=True)
    with pytest.raises(ConfigError, match="take mean or first"):
        call("encode", tmp_path, "--model", tmp_path / "vision", "--out", out, "--pool", "none")
    assert not out.exists()


# ------------------------------------------------------------------------------------- looks and folders


@modalities
def test_a_model_says_what_it_is(tmp_path, modality):
    said = repr(model_of(tmp_path, modality))
    words = {"vision": "images of", "speech": "recordings at 16,000 Hz", "text": "texts of up to"}
    assert said.startswith(f"<d2v.Model {modality}: {words[modality]}")
    assert "blocks of width" in said
    assert "no head" in said


def test_a_tuned_model_names_its_classes(tmp_path):
    model = model_of(tmp_path, "vision")
    model.task = type("Classification", (), {"class_names": tuple("abcdefghij")})()
    assert "classification of 10 classes: a, b, c, d, e, f, g, h and 2 more" in repr(model)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_may_come_first_or_last(tmp_path, channels):
    model, last = model_of(tmp_path, "vision"), RNG.integers(0, 256, (30, 40, channels), dtype=np.uint8)
    first = np.moveaxis(last, -1, 0)
    close(model.encode(first), model.encode(last))
    close(model.encode(np.stack([first, first])), model.encode([last, last]))
    close(model.encode(torch.from_numpy(first.copy())), model.encode(last))


def test_an_array_without_channels_names_the_expected_orders(tmp_path):
    with pytest.raises(
        DataError, match=r"\(5, 30, 40\) is no image: give \(height, width\), .*with 1, 3 or 4 channels"
    ):
        model_of(tmp_path, "vision").encode(np.zeros((5, 30, 40), np.uint8))


def test_a_folder_is_all_items_in_it(tmp_path):
    folder, photos = tmp_path / "photos", [PHOTO, PHOTO[:20], PHOTO[:, :20]]
    for number, photo in enumerate(photos):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(folder / "ab"[number % 2] / f"{number}.{('png', 'bmp', 'tiff')[number]}")
    model = model_of(tmp_path, "vision")
    files = [Path(file).name for file in model.files(folder)]
    assert sorted(files) == ["0.png", "1.bmp", "2.tiff"]
    for given in (folder, str(folder)):
        close(model.encode(given), model.encode([photos[int(name[0])] for name in files]))
    (folder / "a" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"it is not an image"):
        model.encode(folder)
    with pytest.raises(DataError, match="looked in"):
        model.files(tmp_path / "nowhere")


def test_a_folder_of_texts_is_a_path_and_a_string_a_text(tmp_path, monkeypatch):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("to be\n")
    (tmp_path / "notes" / "b.txt").write_text("or not\n")
    monkeypatch.chdir(tmp_path)
    model = model_of(tmp_path, "text")
    assert model.encode(Path("notes")).shape[0] == 2
    assert model.encode("notes").ndim == 1, "a text of one word"
