import json

import pytest

from d2v.data.sources.layout import Annotation
from d2v.errors import DataError
from d2v.modalities.speech.annotations import SIDE_NAMES, annotate


def look(sides: dict[str, str], path: str) -> Annotation | None:
    """What some files say about a path."""
    return annotate({name: text.encode() for name, text in sides.items()})(path)


def test_librispeech_folders_tell_speaker_and_split_and_trans_txt_the_words():
    sides = {"LibriSpeech/dev-other/84/12/84-12.trans.txt": "84-12-0000 GO DO YOU HEAR\n84-12-0001 BUT\n"}
    assert look(sides, "LibriSpeech/dev-other/84/12/84-12-0000.flac") == Annotation(
        "84", "val", {"speaker": "84", "transcript": "GO DO YOU HEAR"}
    )
    assert look({}, "train-clean-100/19/198/19-198-0007.flac") == Annotation("19", "train", {"speaker": "19"})
    assert look({}, "19/198/19-198-0007.flac") == Annotation("19", None, {"speaker": "19"})
    assert look({}, "yes/one.wav") is None


@pytest.mark.parametrize("folder", ["", "set/"])
@pytest.mark.parametrize("written", ["recordings/a.wav", "./recordings/a.wav", "recordings\\a.wav", "recordings/a"])
def test_tables_name_files_from_their_own_folder(folder, written):
    table = f"path\tlabel\tspeaker\tsplit\ttranscript\n{written}\tfour\tann\ttest\tfour  it is\n"
    assert look({f"{folder}manifest.tsv": table}, f"{folder}recordings/a.wav") == Annotation(
        "four", "test", {"speaker": "ann", "transcript": "four it is"}
    )


@pytest.mark.parametrize("path", ["set/train/a.wav", "train/a.wav", "top/set/train/a.wav"])
def test_tables_may_name_files_from_another_root(path):
    found = look({"manifest.tsv": "path\tspeaker\nset/train/a.wav\tann\nset/test/a.wav\tbob\n"}, path)
    assert found == Annotation(None, None, {"speaker": "ann"})


def test_the_table_of_the_folder_wins():
    sides = {f"{name}/metadata.csv": f"file_name,label\n0.wav,{name}\n" for name in ("cat", "dog")}
    assert [look(sides, f"{name}/0.wav").label for name in ("cat", "dog")] == ["cat", "dog"]


def test_metadata_of_hugging_face_folders():
    table = 'file_name,transcription,speaker_id\na.wav,"yes, ""so"" it is",7\n'
    assert look({"train/metadata.csv": table}, "train/a.wav") == Annotation(
        "", None, {"speaker": "7", "transcript": 'yes, "so" it is'}
    )
    lines = [{"file_name": "a.wav", "label": 3, "text": None}, {"file_name": "b.wav", "label": None}]
    sides = {"metadata.jsonl": "\n".join(map(json.dumps, lines))}
    assert (look(sides, "a.wav").label, look(sides, "b.wav").label) == ("3", "")


def test_common_voice_and_ljspeech():
    table = 'client_id\tpath\tsentence\nab12\tclip_1.mp3\t"Well, then.\n'
    assert look({"en/dev.tsv": table}, "en/clips/clip_1.mp3") == Annotation(
        "", "val", {"speaker": "ab12", "transcript": '"Well, then.'}
    )
    table = 'LJ001-0001|Dr. "X", in 1850|Doctor "X", in eighteen fifty\nLJ001-0002|b|c\n'
    assert look({"metadata.csv": table}, "wavs/LJ001-0001.wav").texts == {"transcript": 'Doctor "X", in eighteen fifty'}
    assert look({"metadata.csv": table}, "wavs/LJ001-0002.wav").texts == {"transcript": "c"}


def test_speech_commands_lists_are_splits():
    sides = {"testing_list.txt": "yes/ab_nohash_0.wav\n", "validation_list.txt": "no/cd_nohash_1.wav\n"}
    assert look(sides, "yes/ab_nohash_0.wav") == Annotation("yes", "test", {"speaker": "ab"})
    assert look(sides, "no/cd_nohash_1.wav") == Annotation("no", "val", {"speaker": "cd"})
    assert look(sides, "no/ab_nohash_1.wav") == Annotation("no", "train", {"speaker": "ab"})


def test_unlabelled_recordings_are_trained_on():
    table = "path\tsplit\na.wav\tunlabelled\nb.wav\ttrain-clean-100\nc.wav\t\nd.wav\tmine\n"
    found = [look({"manifest.tsv": table}, f"{name}.wav").split for name in "abcd"]
    assert found == ["train", "train", "", "mine"]  # what is not known is refused later, by name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.tsv", b"name\tlabel\na.wav\tb\n", "none of which names the files: call it path"),
        ("metadata.csv", b"path\n\xff\xfe\n", "is no UTF-8 text"),
        ("metadata.jsonl", b'{"path": "a"}\n\n[1]\n', "Line 3 of metadata.jsonl is no JSON object"),
    ],
)
def test_damaged_tables_are_named(name, content, said):
    with pytest.raises(DataError, match=said):
        annotate({name: content})


def test_manifests_of_fairseq_are_no_tables():
    assert look({"train.tsv": "/data\na.wav\t100\n"}, "a.wav") is None


def test_which_files_speak_of_recordings():
    names = ["manifest.tsv", "x/metadata.jsonl", "1/2/1-2.trans.txt", "c/testing_list.txt", "en/train.tsv"]
    assert all(SIDE_NAMES.search(name) for name in names)
    assert not any(SIDE_NAMES.search(name) for name in ["README.txt", "mymanifest.tsv", "a.wav", "trans.txt"])
