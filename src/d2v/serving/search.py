"""`/search`: questions to the index that is served beside a model.

A request is JSON with questions, or one file as it is with the rest in the query of its address. The index is opened
for each request, in some milliseconds, so that one that was brought up to date or put in its place answers at once.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.modalities.requests import Limits, higher
from d2v.search.index import Hit, Index
from d2v.search.query import condition, mixed, time_of
from d2v.serving.refused import Refused, bad
from d2v.serving.rows import JSON, described, media_type, parse_json, shortened, unknown, unsupported, utf8
from d2v.serving.source import Loaded
from d2v.tracking.requests import Requests

log = logging.getLogger("d2v.serving")
TEXT = "text/plain"
FILES = ("image/", "audio/", "video/", "application/octet-stream")
"""Beginnings of the content types of a file as it is."""
VECTOR, WEIGHT, QUESTIONS = "vector", "weight", "questions"
KEYS = ("count", "path", "label", "after", "before", "previews")
COUNT = 10


@dataclass(frozen=True)
class Asked:
    """A request to `/search`.

    Attributes:
        weights: of the questions.
        rows: cells of the questions that are items, by their numbers.
        vectors: the questions that are vectors, by their numbers.
        count: of items to find.
        path, label, after, before: filters, as `d2v.search.query.search` has them.
        previews: whether thumbnails, clips and beginnings of texts are sent.
    """

    weights: Sequence[float]
    rows: Mapping[int, Mapping[str, Any]]
    vectors: Mapping[int, np.ndarray]
    count: int = COUNT
    path: str = ""
    label: str = ""
    after: datetime | None = None
    before: datetime | None = None
    previews: bool = False


def read_asked(body: bytes, content_type: str, address: Sequence[tuple[str, str]], requests: Requests) -> Asked:
    """What a request asks.

    Args:
        body: as it came.
        content_type: the header.
        address: names and values in the query of the address.
        requests: says which columns the model knows, and how much may come.

    Raises:
        Refused: 400, 413 or 415 with the reason.
    """
    kind, columns, limits = media_type(content_type), requests.modality.request.columns, requests.limits
    if kind == JSON:
        if address:
            raise bad("JSON has the filters in itself: put what stands behind the ? of the address into it")
        return _from_json(parse_json(body), columns, limits)
    if kind != TEXT and not kind.startswith(FILES):
        given = f"the content type {shortened(kind)}" if kind else "no content type"
        raise unsupported(
            f"The request has {given}: send the header Content-Type: {JSON}, or with a file as it is image/png, "
            f"audio/wav, {TEXT} or application/octet-stream"
        )
    if kind == TEXT and not requests.modality.takes_words:
        raise bad(f"This model finds nothing by words: send a file with its own content type, or {_example(columns)}")
    if not body:
        raise bad(f"The request has no body: send a file, or {_example(columns)}")
    settings: dict[str, Any] = dict(address)
    if len(settings) < len(address):
        raise bad("The address has a name twice behind its ?: send it once")
    for name in ("count", "previews"):
        if name in settings:
            settings[name] = _value_of(settings[name])
    for name in ("after", "before"):  # a + in an address is a space
        if name in settings:
            settings[name] = re.sub(r"(T.*) (\d\d:?\d\d)$", r"\1+\2", settings[name])
    cell = utf8(body) if kind == TEXT else body
    return Asked([1.0], {0: {columns[0]: cell}}, {}, **_settings(settings, limits))


def _value_of(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _from_json(given: Any, columns: Sequence[str], limits: Limits) -> Asked:
    if not isinstance(given, dict):
        raise bad(f"The body is {described(given)}: send {_example(columns)}")
    questions = given.pop(QUESTIONS, None)
    settings = _settings(given, limits)
    if not isinstance(questions, list) or not questions:
        raise bad(f'"{QUESTIONS}" is not a list of one or more: send {_example(columns)}')
    if len(questions) > limits.items:
        raise bad(
            f"The request has {len(questions):,} questions, above max_items {limits.items:,}: send fewer, or "
            f"{higher('items')}"
        )
    weights: list[float] = []
    rows: dict[int, Mapping[str, Any]] = {}
    vectors: dict[int, np.ndarray] = {}
    for number, question in enumerate(questions):
        if not isinstance(question, dict):
            raise bad(f"Question {number} (from 0) is {described(question)}, not an object: send {_example(columns)}")
        for key in question:
            if key not in (*columns, VECTOR, WEIGHT):
                raise bad(unknown(f"key in question {number} (from 0):", key, (*columns, VECTOR, WEIGHT)))
        weights.append(_number(question.get(WEIGHT, 1.0), f"The weight of question {number} (from 0)"))
        cells = {key: value for key, value in question.items() if key in columns}
        if VECTOR in question:
            if cells:
                raise bad(f"Question {number} (from 0) has a vector and an item: send them as two questions")
            vectors[number] = _vector(question[VECTOR], number)
        elif columns[0] in cells:
            rows[number] = cells
        else:
            raise bad(f'Question {number} (from 0) has neither "{columns[0]}" nor "{VECTOR}": send {_example(columns)}')
    return Asked(weights, rows, vectors, **settings)


def _example(columns: Sequence[str]) -> str:
    return f'{{"{QUESTIONS}": [{{"{columns[0]}": "..."}}], "count": {COUNT}}}'


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise bad(f"{what} is {_shown(value)}: send a number")
    return float(value)


def _vector(value: Any, number: int) -> np.ndarray:
    if not isinstance(value, list) or not value:
        raise bad(f"The vector of question {number} (from 0) is {described(value)}: send a list of numbers")
    what = f"A number of the vector of question {number} (from 0)"
    return np.array([_number(one, what) for one in value], np.float32)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _settings(given: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    for key in given:
        if key not in KEYS:
            raise bad(unknown("key", key, (QUESTIONS, *KEYS)))
    count, previews = given.get("count", min(COUNT, limits.items)), given.get("previews", False)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= limits.items:
        raise bad(
            f'"count" is {_shown(count)}: send a number from 1 to max_items {limits.items:,}, or {higher("items")}'
        )
    if not isinstance(previews, bool):
        raise bad(f'"previews" is {_shown(previews)}: send true or false')
    texts = {key: given[key] for key in ("path", "label", "after", "before") if given.get(key) is not None}
    for key, value in texts.items():
        if not isinstance(value, str) or len(value) > limits.characters or _has_surrogates(value):
            raise bad(f'"{key}" is {_shown(value)}: send a short string')
    found: dict[str, Any] = {"count": count, "previews": previews, **texts}
    for key in ("after", "before"):
        if key in found:
            try:
                found[key] = time_of(found[key])
            except ConfigError as error:
                raise bad(f'"{key}": {error}') from error
    return found


def _shown(value: Any) -> str:
    return shortened(value) if isinstance(value, int | float | str) else described(value)


# ------------------------------------------------------------------------------------------------ answer


def check_index(folder: Path, loaded: Loaded) -> None:
    """What a server looks at before it starts.

    Raises:
        CheckpointError: the index is another encoder's.
        DataError: there is no index, or it is damaged.
        ConfigError: LanceDB is not installed.
    """
    Index(folder).check(loaded.fingerprint)


def search_index(folder: Path, loaded: Loaded, asked: Asked) -> bytes:
    """JSON of the items of an index that are nearest to a request's questions.

    Raises:
        Refused: 400 for questions, 409 for an index of another encoder, 503 for one that cannot be read.
        RequestRefused: an item that cannot be used.
    """
    try:
        index = Index(folder)
        index.check(loaded.fingerprint)
    except CheckpointError as error:
        reason = (
            f"The index is of another encoder than {loaded.label}, as after a promotion: have one put in its place "
            "that d2v index made with this encoder"
        )
        raise Refused(HTTPStatus.CONFLICT, reason) from error
    except DataError as error:
        raise _unreadable(error) from error
    try:
        where = condition(index, asked.path, asked.label, asked.after, asked.before)
        vectors = _vectors(index, loaded, asked)
        vector = mixed([(weight, vectors[number]) for number, weight in enumerate(asked.weights)])
    except (ConfigError, DataError) as error:
        raise bad(str(error)) from error
    try:
        hits = index.nearest(vector, asked.count, where)
    except DataError as error:
        raise _unreadable(error) from error
    found = {"hits": [_said(hit, asked.previews) for hit in hits], "items": len(index)}
    return json.dumps(found | {"recall": index.about["recall"]}, allow_nan=False).encode()


def _vectors(index: Index, loaded: Loaded, asked: Asked) -> dict[int, np.ndarray]:
    """Of each question by its number."""
    width, space = int(index.about["width"]), index.about["space"]
    for number, vector in asked.vectors.items():
        if vector.shape != (width,):
            raise bad(
                f"The vector of question {number} (from 0) has {len(vector):,} numbers, and the index has {width:,}: "
                f'send one of /invocations with "params": {{"space": "{space}"}}'
            )
    found = dict(asked.vectors)
    if asked.rows:
        model, whole = loaded.model, replace(loaded.model.requests, long="windows")  # as the index has its items
        batches = whole.batches_of_rows(list(asked.rows.values()), list(asked.rows))
        rows = np.concatenate(
            [model.vectors(one, model.search_space if space == "search" else None) for one in batches]
        )
        found |= dict(zip(asked.rows, rows, strict=True))
    return found


def _unreadable(error: DataError) -> Refused:
    log.error("the index cannot be read: %s", error)
    reason = "The index cannot be read now: tell who runs the server, whose log has the reason, or come again"
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason, {"Retry-After": "1"})


def _said(hit: Hit, previews: bool) -> dict[str, Any]:
    modified = None if hit.modified_s is None else datetime.fromtimestamp(hit.modified_s, UTC).isoformat()
    said = {"similarity": hit.similarity, "file": hit.file, "line": hit.line, "label": hit.label, "modified": modified}
    if previews:
        shown = hit.preview
        said["snippet"] = shown.text if shown and shown.text else None
        data = base64.b64encode(shown.data).decode() if shown and shown.data else None
        said["preview"] = {"media_type": shown.media_type, "base64": data} if shown and data else None
    return said
