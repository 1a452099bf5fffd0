"""Questions to an index: an item, a text, a vector, or several of them with weights."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from d2v.errors import ConfigError, DataError
from d2v.interchange.aligned import AlignedModels
from d2v.interchange.index_rows import MODIFIED
from d2v.interchange.load import Space
from d2v.modalities import registry
from d2v.progress import log
from d2v.search.index import Encoders, Hit, Index, quoted

Question = Any
"""An item as `Model.encode` takes it (a file, an image, a text ...), or a vector of the index's width."""


def search(
    index: Index,
    model: Encoders,
    questions: Question | Sequence[tuple[float, Question]],
    count: int = 10,
    *,
    path: str = "",
    label: str = "",
    after: datetime | None = None,
    before: datetime | None = None,
    exact: bool = False,
) -> list[Hit]:
    """The items of an index that are nearest to a question.

    Args:
        index: where to look.
        model: the encoder that the index was made with, or the encoders that share a space.
        questions: one of them, or a list of pairs (weight, question): their vectors are added with these weights. A
            negative weight leads away from a question.
        count: of items at most.
        path: only items whose file fits this pattern, with `*` for anything, such as `*/holiday/*`.
        label: only items of this class.
        after, before: only items whose file was modified at this time or later, and earlier than that one. The file of
            an item in an archive or a table is the archive or the table. Without a time zone they are local times.
        exact: look at all vectors, whatever their number.

    Returns:
        The nearest first.

    Raises:
        CheckpointError: the index is another encoder's.
        DataError: a question that cannot be read, or questions that cancel each other.
        ConfigError: a vector of another width, fewer items than one, or an index of before that has no times.

    Example:
        >>> search(Index(Path("photos.index")), model, [(1.0, "cat.jpg"), (0.5, "garden.jpg")])  # doctest: +SKIP
    """
    if count < 1:
        raise ConfigError(f"{count} items cannot be found: ask for one or more")
    index.check(model)
    where = condition(index, path, label, after, before)
    return index.nearest(vector_of(index, model, questions), count, where, exact)


def vector_of(index: Index, model: Encoders, questions: Question | Sequence[tuple[float, Question]]) -> np.ndarray:
    """(R,) float32 of length one: the weighted sum of the vectors of questions."""
    weighted = questions if _are_weighted(questions) else [(1.0, questions)]
    return mixed([(weight, _encoded(index, model, question)) for weight, question in weighted])


def mixed(weighted: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """(R,) float32 of length one: the sum of vectors (R,) of any length, each as long as its weight.

    Raises:
        DataError: they cancel each other, or have weights or numbers that are not finite.
    """
    total = sum(np.float32(weight) * _unit(vector) for weight, vector in weighted)
    length = float(np.linalg.norm(total))
    if not 1e-6 <= length < float("inf"):
        raise DataError(
            "The questions cancel each other or have weights or numbers without end, so nothing is nearest to them: "
            "change their weights"
        )
    return np.asarray(total / np.float32(length), np.float32)


def _are_weighted(questions: object) -> bool:
    return (
        isinstance(questions, list)
        and bool(questions)
        and all(isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], int | float) for one in questions)
    )


def _encoded(index: Index, model: Encoders, question: Question) -> np.ndarray:
    width = int(index.about["width"])
    if isinstance(question, np.ndarray) and question.shape == (width,) and question.dtype.kind == "f":
        return question
    space: Space = index.about["space"]
    if isinstance(model, AlignedModels):
        model = model.model_of(question)
    found = np.asarray(model.encode(question, space=space, long="windows"))
    if found.shape == (1, width):  # a text file of one text
        return found[0]
    if found.shape != (width,):
        raise ConfigError(f"a question is one item, and this one holds {len(found)}: give one, or weighted pairs")
    return found


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def condition(
    index: Index, path: str = "", label: str = "", after: datetime | None = None, before: datetime | None = None
) -> str | None:
    """The filters of `search` in SQL; None without any.

    Raises:
        ConfigError: times are asked of an index that has none.
    """
    parts = []
    if (after or before) and not index.has_times():
        raise ConfigError(
            f"{index.folder} was made by an earlier version and has no times: bring it up to date with d2v index"
        )
    if after:
        parts.append(f"{MODIFIED} >= {after.timestamp()!r}")
    if before:
        parts.append(f"{MODIFIED} < {before.timestamp()!r}")
    if path:
        pattern = re.sub(r"([\\%_])", r"\\\1", path).replace("*", "%")
        parts.append(f"file LIKE {quoted(pattern)} ESCAPE '\\'")
    if label:
        parts.append(f"label = {quoted(label)}")
    return " AND ".join(parts) or None


def time_of(given: str) -> datetime | None:
    """A date, or a date and a time, as ISO 8601 writes them, in local time unless a zone is given; None for "".

    Raises:
        ConfigError: it is neither.
    """
    try:
        time = datetime.fromisoformat(given) if given else None
        if time is not None:
            time.timestamp()  # years that no file has are no numbers of seconds
        return time
    except (ValueError, OverflowError):
        raise ConfigError(f"{given!r} is no time: give a date such as 2026-11-30, or 2026-11-30T18:00") from None


def _text_in(path: Path, reason: DataError) -> str:
    """The text of a file that is no picture and no recording. Raises `reason` for what is no text."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise reason from None
    if not text.strip() or "\0" in text:
        raise reason
    return text


def question_of(model: Encoders, given: str) -> Question:
    """What a user wrote on the command line: a file if it is there, else a text where the model takes texts.

    Raises:
        DataError: it is neither.
    """
    path, models = Path(given), list(model.values()) if isinstance(model, AlignedModels) else [model]
    takes_words = any(registry.get(one.modality).takes_words for one in models)
    takes_files = not all(registry.get(one.modality).takes_words for one in models)
    if not given.strip():
        raise DataError(f"The question is empty: give {'a text or a file' if takes_words else 'a file'}")
    if os.path.isfile(path):  # False for a text that is too long for a name
        if takes_files and takes_words:
            try:
                cast(AlignedModels, model).model_of(path)
                return path
            except DataError as error:
                return _text_in(path, error)
        no_text = DataError(f"{given} is no text in UTF-8, or is empty: give a text, or a file that holds one")
        return _text_in(path, no_text) if takes_words else path
    if os.path.isdir(path):
        raise DataError(f"{given} is a folder: give one file of it")
    if takes_words:
        if path.suffix and len(given.split()) == 1:
            log(f"search: {given} is no file here, so it is searched as a text")
        return given
    raise DataError(
        f"{given} is not there, and an encoder of {', '.join(one.modality for one in models)} finds nothing by words: "
        f"give a file (it was looked for in {Path.cwd()})"
    )
