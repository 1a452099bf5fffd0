"""What lies beside recordings and speaks of them: tables, LibriSpeech's transcripts and folders, and the split lists of
Speech Commands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from d2v.data.lines import decoded, lines_of, single_spaced
from d2v.data.sources.columns import Columns
from d2v.data.sources.layout import Annotation, Folders, split_path
from d2v.data.sources.side_tables import TABLE, SideTables, without_suffix
from d2v.data.sources.split_names import kind_of
from d2v.errors import DataError

AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (  # noqa: SIM905
        "wav flac ogg oga opus spx mp3 mp2 mpga aif aiff aifc au snd caf w64 rf64 sph nist voc m4a m4b mp4 mov 3gp aac "
        "amr webm mka mkv wma wv tta ape ac3 eac3 dts avi"
    ).split()
)
TRANSCRIPTS = re.compile(r"(^|/)([^/]+\.trans\.(txt|tsv)|transcripts\.txt)$")
SPLIT_LIST = re.compile(r"(^|/)(testing|validation)_list\.txt$")
NO_TABLE = re.compile(
    r"(^|/)(invalidated|other|reported|clip_durations|(un)?validated_sentences)\.tsv$|\.(trans|book)\.tsv$"
)
"""Tables of Common Voice whose sentences nobody has checked, or that speak of no recordings, and those of LibriTTS."""
SIDE_NAMES = re.compile("|".join(f"(?:{kind})" for kind in (TABLE.pattern, TRANSCRIPTS.pattern, SPLIT_LIST.pattern)))

SPEAKER_NAMES = ("speaker", "speaker_id", "client_id", "spk_id", "spk")
TRANSCRIPT_NAMES = ("transcript", "text", "sentence", "transcription")
COLUMNS = Columns(texts={"speaker": SPEAKER_NAMES, "transcript": TRANSCRIPT_NAMES})

LIBRISPEECH = re.compile(
    r"(?:(?:^|/)(?P<subset>[^/]+)/)?(?:audio/)?(?P<speaker>\d+)/(?P<chapter>\d+)/"
    r"(?P=speaker)(?P<dash>[-_])(?P=chapter)(?:(?P=dash)\d+){1,2}$"
)
SPEECH_COMMANDS = re.compile(r"(?P<word>[^/]+)/(?P<speaker>[^/]+)_nohash_\d+$")


def annotate(sides: Mapping[str, bytes], columns: Columns = COLUMNS) -> Said:
    """What files beside recordings say about them: class, split, group, speaker and transcript.

    A table names the files in one column, and in others what there is to say. In the trees of LibriSpeech, LibriTTS and
    Multilingual LibriSpeech the folders tell speaker and split, and the speaker is the class.

    Args:
        sides: content of the files named like SIDE_NAMES by their paths in the tree.
        columns: names of the tables' columns.

    Raises:
        DataError: a table that is not text, is damaged, or does not name files though it is meant to.
    """
    return Said(sides if columns.reads_beside else {}, columns)


class Said:
    """What tables and trees say about recordings."""

    def __init__(self, sides: Mapping[str, bytes], columns: Columns) -> None:
        tables = {path: content for path, content in sides.items() if not NO_TABLE.search(path)}
        self.tables = SideTables(tables, AUDIO_SUFFIXES, columns)
        self.tree = _Tree(sides)

    def __call__(self, path: str) -> Annotation | None:
        """What is said of one recording."""
        name = bare_name(path)
        found = [one for one in (self.tables(path), self.tree.said(name)) if one]
        if not found:
            return None
        label = next((one.label for one in found if one.label is not None), None)
        split = next((one.split for one in found if one.split is not None), None)
        group = next((one.group for one in found if one.group is not None), None)
        fold = next((one.fold for one in found if one.fold is not None), None)
        texts = {name: text for one in reversed(found) for name, text in one.texts.items()}
        if label is None and "transcript" in texts:
            label = ""  # what was said is known, so the folder is no class
        return Annotation(label, split, texts, group, fold)

    def remarks(self, paths: Sequence[str]) -> list[str]:
        """Rows of tables that meet no recording, and recordings without a row."""
        return self.tables.remarks(paths)


def bare_name(path: str) -> str:
    """A path without the ending of a sound file."""
    return without_suffix(path, AUDIO_SUFFIXES)


def of_librispeech(name: str) -> Annotation | None:
    """What a path of LibriSpeech's tree says, given without its suffix; None if it is not of that form."""
    found = LIBRISPEECH.search(name)
    if not found:
        return None
    split = kind_of(found["subset"]) if found["subset"] else None
    return Annotation(found["speaker"], split, {"speaker": found["speaker"]})


# --------------------------------------------------------------------------------------------- trees


class _Tree:
    """LibriSpeech's folders and transcripts, and the lists of Speech Commands."""

    def __init__(self, sides: Mapping[str, bytes]) -> None:
        self.transcripts: dict[str, str] = {}  # by path
        self.by_name: dict[str, str] = {}  # of one file for a whole split
        self.splits: dict[Folders, str] = {}
        self.lists = [path for path in sides if SPLIT_LIST.search(path)]
        for path, content in sides.items():
            if not (TRANSCRIPTS.search(path) or SPLIT_LIST.search(path)):
                continue
            lines = lines_of(_text(path, content))
            folder = split_path(path)[:-1]
            if TRANSCRIPTS.search(path):
                self._add(path, folder, lines)
            else:
                split = "test" if path.endswith("testing_list.txt") else "val"
                self.splits |= {(*folder, *split_path(bare_name(line))): split for line in lines if line.strip()}

    def _add(self, path: str, folder: Folders, lines: Sequence[str]) -> None:
        """A name, then what was said: LibriSpeech's and Multilingual LibriSpeech's lines; LibriTTS has it as it was
        written, and last as it is spoken."""
        for line in lines:
            name, *said = line.split("\t") if path.endswith(".tsv") else line.strip().split(maxsplit=1) or [""]
            text = single_spaced(said[-1]) if said else ""
            if path.endswith("transcripts.txt"):
                self.by_name[name] = text
            elif name:
                self.transcripts["/".join((*folder, name))] = text

    def said(self, name: str) -> Annotation | None:
        if self.lists and (found := SPEECH_COMMANDS.search(name)):
            split = self.splits.get(split_path(name), "train")
            return Annotation(found["word"], split, {"speaker": found["speaker"]})
        said = of_librispeech(name)
        transcript = self.transcripts.get(name, self.by_name.get(PurePosixPath(name).name))
        if transcript is None:
            return said
        texts = {**(said.texts if said else {}), "transcript": transcript}
        return Annotation(said.label if said else None, said.split if said else None, texts)


def _text(path: str, content: bytes) -> str:
    try:
        return decoded(content)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text ({error}): save it as UTF-8, or remove it to do without.") from None
