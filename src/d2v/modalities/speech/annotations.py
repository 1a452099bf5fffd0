"""What lies beside recordings and speaks of them: tables, LibriSpeech's transcripts and folders, and the split lists of
Speech Commands.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from d2v.data.sources.layout import Annotation, Folders, Lookup, split_path
from d2v.data.sources.row_sources import LABEL_NAMES, split_in
from d2v.errors import DataError

AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (  # noqa: SIM905
        "wav flac ogg oga opus spx mp3 mp2 mpga aif aiff aifc au snd caf w64 rf64 sph nist voc m4a m4b mp4 mov 3gp aac "
        "amr webm mka mkv wma wv tta ape ac3 eac3 dts avi"
    ).split()
)
TABLE = re.compile(r"(^|/)(manifest\.tsv|metadata\.(csv|tsv|jsonl)|(train|valid|dev|test)\.tsv)$")
TRANSCRIPTS = re.compile(r"(^|/)[^/]+\.trans\.txt$")
SPLIT_LIST = re.compile(r"(^|/)(testing|validation)_list\.txt$")
SIDE_NAMES = re.compile("|".join(kind.pattern for kind in (TABLE, TRANSCRIPTS, SPLIT_LIST)))

FILE_NAMES = ("path", "file_name", "filename", "file", "audio", "audio_filepath", "wav")
SPEAKER_NAMES = ("speaker", "speaker_id", "client_id", "spk_id", "spk")
TRANSCRIPT_NAMES = ("transcript", "text", "sentence", "transcription")
SPLIT_NAMES = ("split", "subset", "set", "partition")
LJSPEECH_NAMES = ("path", "text_as_written", "text")  # its metadata.csv has no header

LIBRISPEECH = re.compile(
    r"(?:(?:^|/)(?P<subset>[^/]+)/)?(?P<speaker>\d+)/(?P<chapter>\d+)/(?P=speaker)-(?P=chapter)-\d+$"
)
SPEECH_COMMANDS = re.compile(r"(?P<word>[^/]+)/(?P<speaker>[^/]+)_nohash_\d+$")
TRAINED_ON = ("unlabelled", "unlabeled", "unsupervised", "pretrain")  # splits that are there to be trained on


def annotate(sides: Mapping[str, bytes]) -> Lookup:
    """What files beside recordings say about them: class, split, speaker and transcript.

    A table (manifest.tsv, metadata.csv, metadata.tsv, metadata.jsonl, or Common Voice's train.tsv ...) names the files
    in one column, relative to itself or to the root of the tree, and in others what there is to say. In LibriSpeech's
    tree the folders tell speaker and split, and the speaker is the class.

    Args:
        sides: content of the files named like SIDE_NAMES by their paths in the tree.

    Raises:
        DataError: a table that is no UTF-8 text, or does not name files.
    """
    tables = _Tables(sides)
    tree = _Tree(sides)

    def lookup(path: str) -> Annotation | None:
        name = without_suffix(path)
        found = [one for one in (tables.said(name), tree.said(name)) if one]
        if not found:
            return None
        label = next((one.label for one in found if one.label is not None), None)
        split = next((one.split for one in found if one.split is not None), None)
        texts = {name: text for one in reversed(found) for name, text in one.texts.items()}
        if label is None and "transcript" in texts:
            label = ""  # what was said is known, so the folder is no class
        return Annotation(label, split, texts)

    return lookup


def without_suffix(path: str) -> str:
    """A path without the ending of a sound file, for tables often leave it out."""
    pure = PurePosixPath(path)
    return str(pure.with_suffix("")) if pure.suffix.lower() in AUDIO_SUFFIXES else path


def of_librispeech(name: str) -> Annotation | None:
    """What a path of LibriSpeech's tree says, given without its suffix; None if it is not of that form."""
    found = LIBRISPEECH.search(name)
    if not found:
        return None
    split = split_in(found["subset"]) if found["subset"] else None
    return Annotation(found["speaker"], split, {"speaker": found["speaker"]})


# -------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class _Row:
    """One row of a table: the file as the table names it, the folder of the table, and what is said."""

    file: Folders
    folder: Folders
    said: Annotation

    def fit(self, path: Folders) -> tuple[bool, int]:
        """How well a path is the file of this row: whether it is so from the table's folder, and how many parts agree;
        0 where they do not agree as far as both go."""
        parts = min(len(self.file), len(path))
        return self.folder + self.file == path, parts if self.file[-parts:] == path[-parts:] else 0


class _Tables:
    """All rows of all tables, by the last part of the file."""

    def __init__(self, sides: Mapping[str, bytes]) -> None:
        self.rows: dict[str, list[_Row]] = {}
        for path, content in sides.items():
            if TABLE.search(path):
                for row in _read_table(path, content):
                    self.rows.setdefault(row.file[-1], []).append(row)

    def said(self, name: str) -> Annotation | None:
        parts = split_path(name)
        fits = [(row.fit(parts), row) for row in self.rows.get(parts[-1], ())]
        best = max(fits, key=lambda fit: fit[0], default=None)
        return best[1].said if best and best[0][1] else None


def _read_table(path: str, content: bytes) -> Iterator[_Row]:
    folder = split_path(path)[:-1]
    for record in _records(path, content):
        file = _first(record, FILE_NAMES)
        if file:
            parts = tuple(part for part in split_path(without_suffix(file.replace("\\", "/"))) if part != "..")
            yield _Row(parts, folder, _said(record, path))


def _said(record: Mapping[str, str], path: str) -> Annotation:
    split = _first(record, SPLIT_NAMES)
    if split is None:
        split = split_in(PurePosixPath(path).stem)
    elif split.lower() in TRAINED_ON:
        split = "train"
    texts = {"speaker": _first(record, SPEAKER_NAMES), "transcript": _first(record, TRANSCRIPT_NAMES)}
    said = {name: " ".join(text.split()) for name, text in texts.items() if text}
    return Annotation(_first(record, LABEL_NAMES), split and (split_in(split) or split), said)


def _first(record: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((record[name].strip() for name in names if name in record), None)


def _records(path: str, content: bytes) -> Iterator[dict[str, str]]:
    """Rows of a table by their columns, whose names are in lower case. fairseq's manifests have none."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error}): save it as UTF-8, or remove it to do without.") from None
    if path.endswith(".jsonl"):
        yield from _json_records(path, lines)
        return
    if not lines or (split_in(PurePosixPath(path).stem) and "\t" not in lines[0]):
        return
    if path.endswith(".tsv"):
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)  # transcripts may hold single quotation marks
    elif "|" in lines[0] and not set(FILE_NAMES) & set(lines[0].lower().split(",")):
        rows = csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(lines)
    names = [name.strip().lower() for name in next(rows)]
    if not set(FILE_NAMES) & set(names):
        if "|" not in lines[0]:
            raise DataError(
                f"{path} has the columns {', '.join(names)}, none of which names the files: call it path, relative to "
                "the table, or remove the table to do without."
            )
        names, rows = list(LJSPEECH_NAMES), csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE)
    yield from (dict(zip(names, row, strict=False)) for row in rows)


def _json_records(path: str, lines: Sequence[str]) -> Iterator[dict[str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            yield {name.lower(): "" if value is None else str(value) for name, value in record.items()}
        except (json.JSONDecodeError, AttributeError) as error:
            raise DataError(
                f"Line {number} of {path} is no JSON object ({error}): mend it, or remove the table to do without."
            ) from None


# --------------------------------------------------------------------------------------------- trees


class _Tree:
    """LibriSpeech's folders and transcripts, and the lists of Speech Commands."""

    def __init__(self, sides: Mapping[str, bytes]) -> None:
        self.transcripts: dict[str, str] = {}
        self.splits: dict[Folders, str] = {}
        self.lists = [path for path in sides if SPLIT_LIST.search(path)]
        for path, content in sides.items():
            lines = content.decode("utf-8", "replace").splitlines()
            folder = split_path(path)[:-1]
            if TRANSCRIPTS.search(path):
                pairs = (line.split(maxsplit=1) for line in lines if line.strip())
                self.transcripts |= {"/".join((*folder, pair[0])): " ".join(pair[1:]) for pair in pairs}
            elif SPLIT_LIST.search(path):
                split = "test" if path.endswith("testing_list.txt") else "val"
                self.splits |= {(*folder, *split_path(without_suffix(line))): split for line in lines if line.strip()}

    def said(self, name: str) -> Annotation | None:
        if self.lists and (found := SPEECH_COMMANDS.search(name)):
            split = self.splits.get(split_path(name), "train")
            return Annotation(found["word"], split, {"speaker": found["speaker"]})
        said, transcript = of_librispeech(name), self.transcripts.get(name)
        if transcript is None:
            return said
        texts = {**(said.texts if said else {}), "transcript": transcript}
        return Annotation(said.label if said else None, said.split if said else None, texts)
