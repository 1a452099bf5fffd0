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
        "84", "dev", {"speaker": "84", "transcript": "GO DO YOU HEAR"}
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
        "", "dev", {"speaker": "ab12", "transcript": '"Well, then.'}
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
    assert found == ["unlabelled", "train-clean-100", "", "mine"]  # what is not known is refused later, by name


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
    names = ["manifest.tsv", "x/metadata.jsonl", "1/2/1-2.trans.txt", "c/testing_list.txt", "en/train.tsv", "mine.tsv"]
    assert all(SIDE_NAMES.search(name) for name in names)
    assert not any(SIDE_NAMES.search(name) for name in ["README.txt", "a.wav", "trans.txt", "dict.ltr.txt"])


# ------------------------------------------------------------------------- line ends, quotes, encodings


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b", "\x1c", "\u00a0"])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.tsv", "metadata.jsonl", "x/1.trans.txt"])
def test_only_line_ends_end_a_line(name, inside):
    said = f"one{inside}two"
    files = {
        "metadata.csv": f"file_name,transcript\na.wav,{said}\nb.wav,c\n",
        "metadata.tsv": f"file_name\ttranscript\na.wav\t{said}\nb.wav\tc\n",
        "metadata.jsonl": "\n".join(
            json.dumps({"file_name": f"{key}.wav", "text": text}, ensure_ascii=False)
            for key, text in (("a", said), ("b", "c"))
        ),
        "x/1.trans.txt": f"a {said}\nb c\n",
    }
    folder = "x/" if name.startswith("x/") else ""
    lookup = annotate({name: files[name].encode()})
    assert lookup(f"{folder}a.wav").texts["transcript"] == "one two"
    assert lookup(f"{folder}b.wav").texts["transcript"] == "c"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_quoted_line_ends_keep_words_apart(delimiter):
    table = f'file_name{delimiter}transcript\r\na.wav{delimiter}"hello\r\nworld"\r\nb.wav{delimiter}c\r\n'
    name = "metadata.tsv" if delimiter == "\t" else "metadata.csv"
    assert look({name: table}, "a.wav").texts["transcript"] == "hello world"
    assert look({name: table}, "b.wav").texts["transcript"] == "c"


def test_an_open_quotation_mark_is_named():
    with pytest.raises(DataError, match=r"Line 3 of metadata\.csv opens a quotation mark"):
        look({"metadata.csv": 'file_name,transcript\na.wav,a\nb.wav,"tis\nc.wav,c\n'}, "a.wav")


def test_words_behind_the_last_column_are_named():
    with pytest.raises(DataError, match=r"Line 2 of metadata\.csv has 3 cells.*quotation marks around a cell"):
        look({"metadata.csv": "file_name,transcript\na.wav,hello, world\n"}, "a.wav")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    ("name", "text"), [("metadata.csv", "sep=;\nfile;text\na.wav;né\n"), ("1.trans.txt", "a né\n")]
)
def test_files_of_other_programs_are_decoded(encoding, name, text):
    assert annotate({name: text.encode(encoding)})("a.wav").texts["transcript"] == "né"


def test_transcripts_that_are_no_text_are_named():
    with pytest.raises(DataError, match=r"1\.trans\.txt is no UTF-8 text"):
        annotate({"1.trans.txt": b"a n\xe9\n"})


def test_cells_may_be_long():
    table = "file_name,transcript\na.wav," + "word " * 60_000 + "\n"
    assert len(look({"metadata.csv": table}, "a.wav").texts["transcript"].split()) == 60_000


# ----------------------------------------------------------------------------------- what meets what


def test_rows_and_files_that_do_not_meet_are_counted():
    lookup = annotate({"metadata.csv": b"file_name,label\nclip0.wav,a\nclip1.wav,b\n0.wav,c\n"})
    assert lookup.remarks(["0.wav", "1.wav", "2.wav"]) == [
        "2 rows of metadata.csv name no file that is here, such as clip0: paths are relative to the table or to the "
        "root",
        "2 files have no row in metadata.csv",
    ]
    assert annotate({"metadata.csv": b"file_name,label\n0.wav,c\n"}).remarks(["x/0.wav"]) == []


def test_common_voice_has_other_clips():
    head = "client_id\tpath\tsentence\n"
    sides = {
        "en/train.tsv": f"{head}s\t0.mp3\tzero\n",
        "en/test.tsv": f"{head}s\t1.mp3\tone\n",
        "en/validated.tsv": f"{head}s\t0.mp3\tzero\ns\t2.mp3\ttwo\n",
        "en/other.tsv": f"{head}s\t3.mp3\tnobody checked this\n",
        "en/clip_durations.tsv": "clip\tduration[ms]\n0.mp3\t1\n",
    }
    lookup = annotate({name: text.encode() for name, text in sides.items()})
    assert lookup("en/clips/2.mp3") == Annotation("", None, {"speaker": "s", "transcript": "two"})
    assert lookup("en/clips/3.mp3") is None
    assert lookup("en/clips/1.mp3").split == "test"


def test_libritts_and_multilingual_librispeech():
    sides = {"train-clean-100/103/1241/103_1241.trans.tsv": "103_1241_000000_000001\tDr. X\tDoctor X\n"}
    assert look(sides, "train-clean-100/103/1241/103_1241_000000_000001.wav") == Annotation(
        "103", "train", {"speaker": "103", "transcript": "Doctor X"}
    )
    sides = {"mls/dev/transcripts.txt": "12_34_000001\tguten tag\n", "mls/train/transcripts.txt": "5_6_000000\tja\n"}
    assert look(sides, "mls/dev/audio/12/34/12_34_000001.flac") == Annotation(
        "12", "dev", {"speaker": "12", "transcript": "guten tag"}
    )


def test_numbered_folds_of_a_table_are_splits():
    table = "filename,fold,target\na.wav,1,0\nb.wav,5,1\nc.wav,2,0\n"
    lookup = annotate({"meta/esc50.csv": table.encode()})
    assert [(lookup(f"audio/{key}.wav").split, lookup(f"audio/{key}.wav").label) for key in "abc"] == [
        ("train", "0"),
        ("test", "1"),
        ("train", "0"),
    ]


def test_tables_that_speak_of_something_else_are_left_alone():
    lookup = annotate({"prices.csv": b"name,price\nx,1\n", "log.jsonl": b"no json\n", "broken.csv": b'path\n"a\n'})
    assert lookup("a.wav") is None
    assert lookup.remarks(["a.wav"]) == []
