import io
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchaudio

from d2v.data.sources.source import Item
from d2v.errors import ConfigError, DataError
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.named import _read_by_soundfile
from d2v.modalities.speech.reading import decode
from d2v.modalities.speech.sources import open_source
from d2v.modalities.speech.spoken import KEYWORDS
from tests.modalities.speech.sounds import sound_file, tone

WAVE = sound_file(tone(0.2))


def read(source, **fields) -> list[Item]:
    opened = open_source(SpeechIngestConfig(source=str(source), **fields))
    items = list(opened.items(0))
    assert opened.total in (None, len(items))
    assert list(opened.items(2)) == items[2:]
    return items


def facts(items: list[Item]) -> list[tuple]:
    return [(item.key, item.label, item.split, dict(item.texts)) for item in items]


def write(folder, files: dict[str, bytes | str]):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


LIBRISPEECH = {
    "LibriSpeech/README.TXT": "about",
    "LibriSpeech/train-clean-5/19/198/19-198-0000.flac": WAVE,
    "LibriSpeech/train-clean-5/19/198/19-198.trans.txt": "19-198-0000 NORTHANGER ABBEY\n",
    "LibriSpeech/test-other/7/1/7-1-0001.flac": WAVE + b"1",
    "LibriSpeech/test-other/7/1/7-1.trans.txt": "7-1-0001 IT'S\n",
    "LibriSpeech/test-other/8/2/8-2-0000.flac": WAVE + b"2",
}


def packed(kind: str, files: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    contents = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_a_librispeech_tree_is_read_with_transcripts_speakers_and_splits(tmp_path, kind):
    if kind == "folder":
        source = write(tmp_path / "data", LIBRISPEECH)
    else:
        source = tmp_path / f"data.{kind}"
        source.write_bytes(packed(kind, LIBRISPEECH))
    found = {key.rpartition("/")[2]: rest for key, *rest in facts(read(source))}
    assert found == {
        "19-198-0000.flac": ["19", "train", {"speaker": "19", "transcript": "NORTHANGER ABBEY"}],
        "7-1-0001.flac": ["7", "test", {"speaker": "7", "transcript": "IT'S"}],
        "8-2-0000.flac": ["8", "test", {"speaker": "8"}],
    }


def test_folders_are_classes_and_papers_are_left_out(tmp_path):
    write(tmp_path, {"yes/a.wav": WAVE, "no/b.flac": WAVE, "no/c.doc": b"x", "README.md": "about"})
    assert facts(read(tmp_path)) == [
        ("no/b.flac", "no", None, {}),
        ("no/c.doc", "no", None, {}),
        ("yes/a.wav", "yes", None, {}),
    ]


def test_a_table_names_class_split_and_texts(tmp_path):
    table = "path\tlabel\tspeaker\tsplit\nall/a.wav\tone\tann\ttrain\nall/b.wav\ttwo\tbob\tdev\n"
    write(tmp_path, {"all/a.wav": WAVE, "all/b.wav": WAVE, "all/c.wav": WAVE, "manifest.tsv": table})
    assert facts(read(tmp_path)) == [
        ("all/a.wav", "one", "train", {"speaker": "ann"}),
        ("all/b.wav", "two", "test", {"speaker": "bob"}),
        ("all/c.wav", None, "train", {}),
    ]


def test_an_unknown_split_is_named(tmp_path):
    write(tmp_path, {"a.wav": WAVE, "manifest.tsv": "path\tsplit\na.wav\tmine\n"})
    with pytest.raises(DataError, match="mine"):
        read(tmp_path)


# ---------------------------------------------------------------------------------------- manifests


@pytest.fixture
def fairseq(tmp_path):
    rows = "19/198/19-198-0000.flac\t3200\n19/198/19-198-0001.flac\t3200\n"
    write(tmp_path / "audio", {"19/198/19-198-0000.flac": WAVE, "19/198/19-198-0001.flac": WAVE + b"1", "x.wav": WAVE})
    files = {
        "train.tsv": f"{tmp_path / 'audio'}\n{rows}",
        "train.ltr": "C A T | S A T |\nI T ' S |\n",
        "valid.tsv": f"{tmp_path / 'audio'}\nx.wav\t3200\n",
        "valid.wrd": "so be it\n",
        "dict.ltr.txt": "| 1\n",
    }
    return write(tmp_path / "manifests", files)


def test_fairseq_manifests_are_read_with_their_letters_and_words(fairseq):
    speaker = {"speaker": "19"}
    assert facts(read(fairseq)) == [
        ("train/19/198/19-198-0000.flac", "19", "train", speaker | {"transcript": "CAT SAT"}),
        ("train/19/198/19-198-0001.flac", "19", "train", speaker | {"transcript": "IT'S"}),
        ("valid/x.wav", None, "test", {"transcript": "so be it"}),
    ]
    assert len(read(fairseq / "train.tsv")) == 2
    assert read(fairseq / "valid.tsv", format="manifest")[0].texts == {"transcript": "so be it"}


def test_a_manifest_that_moved_with_its_recordings_is_read(fairseq, tmp_path):
    text = (fairseq / "train.tsv").read_text().replace(str(tmp_path / "audio"), "/gone")
    (tmp_path / "audio" / "train.tsv").write_text(text)
    (tmp_path / "relative.tsv").write_text("audio\nx.wav\t3200\n")
    assert len(read(tmp_path / "audio" / "train.tsv")) == 2
    assert len(read(tmp_path / "relative.tsv")) == 1


@pytest.mark.parametrize("kind", ["auto", "manifest"])
def test_recordings_that_no_manifest_names_are_counted(tmp_path, kind):
    """Whether the root is absolute, relative, or behind a link; those that are named count as such by any way."""
    real = tmp_path / "real"
    for name in ("wavs/a.wav", "wavs/b.wav", "wavs/c.wav", "d.wav"):
        write(real, {name: WAVE})
    write(real, {"train.tsv": f"{tmp_path}/link/wavs\na.wav\t10\n".encode(), "valid.tsv": b"wavs\n./b.wav\t10\n"})
    (tmp_path / "link").symlink_to(real)
    for folder in (real, tmp_path / "link"):
        (said,) = open_source(SpeechIngestConfig(source=str(folder), format=kind)).left_out
        assert said.startswith(f"2 recordings in {folder} are in none of its 2 manifests and are left out, such as")
    write(real, {"test.tsv": b".\nd.wav\t10\nwavs/c.wav\t10\n"})
    assert open_source(SpeechIngestConfig(source=str(real), format=kind)).left_out == ()


def test_rows_may_be_ranges_of_an_archive(tmp_path):
    whole = packed("zip", {"a.wav": WAVE, "b.wav": WAVE})
    (tmp_path / "all.zip").write_bytes(whole)
    start, size = whole.index(WAVE), len(WAVE)
    rows = [f"all.zip:{start}:{size}\t3200", f"all.zip:{len(whole) - 5}:{size}\t3200", "gone.wav\t1"]
    (tmp_path / "train.tsv").write_text("\n".join([str(tmp_path), *rows]))
    good, short, gone = read(tmp_path / "train.tsv")
    assert good.data == WAVE
    assert "all.zip ends before byte" in short.refused
    assert "unreadable: No such file" in gone.refused


def test_damaged_manifests_name_the_fix(fairseq):
    (fairseq / "train.ltr").write_text("A |\n")
    with pytest.raises(DataError, match=r"has 1 lines for the 2 recordings of train.tsv"):
        read(fairseq)
    (fairseq / "train.tsv").write_text("/gone\nx.flac\t1\n")
    with pytest.raises(DataError, match="write the folder that holds them into its first line"):
        read(fairseq)


# ------------------------------------------------------------------------------------------- tables


def test_parquet_with_hugging_face_columns(tmp_path):
    rows = [
        {"audio": {"bytes": WAVE, "path": "a.wav"}, "text": "so it is", "speaker_id": 7},
        {"audio": {"bytes": None, "path": "b.wav"}, "text": "no", "speaker_id": 8},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test-00000.parquet")
    first, second = read(tmp_path)
    assert (first.data, first.split) == (WAVE, "test")
    assert first.texts == {"speaker": "7", "transcript": "so it is"}
    assert "no audio bytes" in second.refused


# -------------------------------------------------------------------------------------------- named


def test_spoken_items_are_flac_with_what_was_said():
    options = {"count": 25, "test_count": 3}
    items = read("spoken", options=options)
    assert [item.split for item in items] == ["train"] * 25 + ["test"] * 3
    assert [item.label for item in items[:20]] == list(KEYWORDS)
    assert items[0].data[:4] == b"fLaC"
    assert set(items[0].texts) == {"speaker", "transcript"}
    fingerprints = {
        open_source(SpeechIngestConfig(source="spoken", options=chosen)).fingerprint
        for chosen in (options, options, options | {"seed": 1})
    }
    assert len(fingerprints) == 2
    with pytest.raises(ConfigError, match=r"speech.ingest.options.speekers"):
        open_source(SpeechIngestConfig(source="spoken", options={"speekers": 3}))


def test_torchaudio_sets_give_whole_files_with_what_they_say(tmp_path):
    tree = {"yes/ab_nohash_0.wav": WAVE, "no/cd_nohash_0.wav": WAVE, "no/ef_nohash_0.wav": b"damaged"}
    lists = {"testing_list.txt": "no/cd_nohash_0.wav\n", "validation_list.txt": ""}
    write(tmp_path / "SpeechCommands" / "speech_commands_v0.02", tree | lists)
    options = {"root": str(tmp_path), "download": False}
    items = read("torchaudio:SPEECHCOMMANDS", options=options)
    said = {(item.label, item.split): item for item in items if item.data}
    assert set(said) == {("yes", "train"), ("no", "test")}
    assert said["yes", "train"].data == WAVE
    assert said["yes", "train"].texts == {"speaker": "ab"}
    assert [item.refused is not None for item in items].count(True) == 1


def test_torchaudio_sets_of_other_shapes(tmp_path):
    write(tmp_path / "waves_yesno", {"0_1_1.wav": WAVE})
    (item,) = read("torchaudio:YESNO", options={"root": str(tmp_path), "download": False})
    assert (item.label, item.texts) == (None, {"transcript": "no yes yes"})
    files = {name.removeprefix("LibriSpeech/"): content for name, content in LIBRISPEECH.items()}
    write(tmp_path / "LibriSpeech", {name.replace("train-clean-5", "dev-clean"): file for name, file in files.items()})
    (tmp_path / "LibriSpeech/dev-clean/19/198/19-198-0000.flac").write_bytes(sound_file(tone(), 16_000, "FLAC"))
    options = {"root": str(tmp_path), "download": False, "url": "dev-clean"}
    (item,) = read("torchaudio:LIBRISPEECH", options=options)
    assert (item.label, item.texts) == ("19", {"speaker": "19", "transcript": "NORTHANGER ABBEY"})
    np.testing.assert_allclose(decode(item.data, "soxr_hq"), tone(), atol=1e-4)


def test_torchaudio_reads_as_before_whatever_happens():
    load = torchaudio.load
    with _read_by_soundfile():
        assert torchaudio.load is not load
    with pytest.raises(KeyError), _read_by_soundfile():
        raise KeyError
    assert torchaudio.load is load
    entered, overlapped = threading.Event(), threading.Event()

    def first():
        with _read_by_soundfile():
            entered.set()
            overlapped.wait(0.2)  # in vain: the second waits for this one's end

    def second():
        entered.wait()
        with _read_by_soundfile():
            overlapped.set()
            time.sleep(0.2)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(first), threads.submit(second)]:
            done.result()
    assert torchaudio.load is load


def test_torchaudio_errors_name_the_fix(tmp_path):
    options = {"root": str(tmp_path), "download": False}
    with pytest.raises(DataError, match="check the network, or put its files under"):
        read("torchaudio:LJSPEECH", options=options)
    with pytest.raises(ConfigError, match="it is a dictionary"):
        read("torchaudio:CMUDict")
    with pytest.raises(ConfigError, match="LIBRISPEECH"):
        read("torchaudio:LIBRISPECH")


def test_a_wrong_path_names_what_is_there(tmp_path):
    write(tmp_path, {"speech/a.wav": WAVE})
    with pytest.raises(DataError, match="the similar speech"):
        read(tmp_path / "speach")
    with pytest.raises(DataError, match="the embedded corpus spoken"):
        read("spokn")


# ---------------------------------------------------------------------------------------- real data


@pytest.mark.data
def test_free_spoken_digits(shared_data):
    items = read(shared_data / "speech" / "fsdd" / "fsdd.tar.gz")
    assert len(items) == 3_000
    for item in items:
        digit, speaker, index = item.key.removeprefix("recordings/").removesuffix(".wav").split("_")
        split = "test" if int(index) < 5 else "train"
        assert (item.label, item.split, item.texts) == (digit, split, {"speaker": speaker})


@pytest.mark.data
def test_librispeech_mini(shared_data):
    items = read(shared_data / "speech" / "librispeech-mini" / "librispeech-mini.tar")
    splits = [item.split for item in items]
    assert {name: splits.count(name) for name in set(splits)} == {"train": 216, "val": 20, "test": 104}
    assert sum("transcript" in item.texts for item in items) == 284
    assert all(item.texts["speaker"] == item.label == item.key.split("/")[1] for item in items)
    said = {item.key: item.texts.get("transcript") for item in items}
    assert said["train-clean-100/19/198/19-198-0000.flac"] == "NORTHANGER ABBEY"
