"""The ASGI application: what is answered, what is refused, and how much is taken at a time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from d2v.serving.metrics import CONTENT_TYPE, Metrics
from d2v.serving.refused import Refused
from d2v.serving.rows import JSON, Row, read_rows
from d2v.serving.search import read_asked, search_index
from d2v.serving.source import Loaded
from d2v.tracking.requests import RequestRefused

log = logging.getLogger("d2v.serving")
ID, MODEL = "X-Request-ID", "X-D2V-Model"
USABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
LINGER_S, LINGER_BYTES = 5.0, 2**26
"""The rest of a body that was refused is thrown away for so long, so that its sender sees the answer and not a broken
connection."""
RETRY_S = 1
CLIENT_LEFT = 499
"""In logs and metrics: the client left before its answer (nginx's number)."""


@dataclass(frozen=True)
class Bounds:
    """How much a server takes.

    Attributes:
        body_bytes: of a request.
        computed: requests that are computed at a time.
        waiting: requests that may wait for that.
        seconds: for reading a body, and again for its answer.
    """

    body_bytes: int = 64 * 2**20
    computed: int = 2
    waiting: int = 16
    seconds: float = 60.0


@dataclass
class App:
    """An ASGI application around a model.

    Attributes:
        loaded: the model; another one may be put in its place at any time, and requests that have begun keep theirs.
        bounds: how much is taken.
        index: folder of what `/search` looks in; None for no such path.
    """

    loaded: Loaded
    bounds: Bounds = Bounds()
    index: Path | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.bounds.computed, thread_name_prefix="d2v-serve")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One HTTP request."""
        body = _Received(receive)
        request = Request(scope, body)
        started = time.perf_counter()
        given = request.headers.get(ID, "")
        request_id = given if USABLE_ID.fullmatch(given) else uuid.uuid4().hex
        path = request.url.path if request.url.path in _METHODS else "other"
        items, label, said = 0, self.loaded.label, ""
        try:
            if path not in COMPUTED:
                response = self._about(request)
            else:
                response, items, label = await self._computed(request, path)
        except Refused as refused:
            response, said = Response(refused.body, refused.status, refused.headers, JSON), refused.reason
        except ClientDisconnect:
            response, said = None, "the client left"
        except Exception:
            log.exception("request_id=%s failed", request_id)
            said = f"The server failed; its log has the reason under {request_id}: tell who runs it"
            failed = Refused(HTTPStatus.INTERNAL_SERVER_ERROR, said)
            response = Response(failed.body, failed.status, media_type=JSON)
        status = CLIENT_LEFT if response is None else response.status_code
        seconds = time.perf_counter() - started
        self.metrics.request(path, status, seconds if path == "/invocations" else None)
        self.metrics.answered(items)
        log.log(
            logging.INFO if path in COMPUTED or status >= 400 else logging.DEBUG,
            "request_id=%s method=%s path=%s status=%d ms=%.1f items=%d model=%s%s",
            *(request_id, request.method, path, status, seconds * 1000, items, label),
            f" reason={json.dumps(said)}" if said else "",
        )
        if response is not None:
            response.headers[ID], response.headers[MODEL] = request_id, label
            await _answer(response, body, send, scope)

    # ------------------------------------------------------------------------------------- small answers

    def _about(self, request: Request) -> Response:
        """All but predictions and searches."""
        path, method = request.url.path, request.method
        if path not in _METHODS:
            raise Refused(HTTPStatus.NOT_FOUND, f"There is nothing here: give one of {', '.join(_METHODS)}")
        self._check_method(path, method)
        if path == "/metrics":
            return Response(self.metrics.text({"model": self.loaded.label}), media_type=CONTENT_TYPE)
        if path == "/version":
            return Response(importlib.metadata.version("mlflow"), media_type=JSON)
        if path == "/ping":
            return Response("\n", media_type=JSON)
        return Response(json.dumps({"status": "ok", "model": self.loaded.label}), media_type=JSON)

    def _check_method(self, path: str, method: str) -> None:
        if method not in _METHODS[path]:
            allowed = ", ".join(_METHODS[path])
            reason = f"{path} does not take {method[:16]}: send {_METHODS[path][0]}"
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, reason, {"Allow": allowed})

    # -------------------------------------------------------------------------- predictions and searches

    async def _computed(self, request: Request, path: str) -> tuple[Response, int, str]:
        """(answer, its items, the model that gave it)."""
        self._check_method(path, request.method)
        if path == "/search" and self.index is None:
            reason = "There is no index to search in: have the server started with --index, of a folder of d2v index"
            raise Refused(HTTPStatus.NOT_FOUND, reason)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is compressed: send it as it is")
        if not self.metrics.enter(self.bounds.computed + self.bounds.waiting):
            raise _busy("The server has as many requests as it takes: send it again")
        try:
            body = await self._body(request)
            stop = threading.Event()
            kind, address = request.headers.get("content-type", ""), request.query_params.multi_items()
            compute = partial(self._search, address=address) if path == "/search" else self._compute
            job = self._pool.submit(compute, body, kind, stop)
        except BaseException:
            self.metrics.leave()
            raise
        del body
        job.add_done_callback(lambda _: self.metrics.leave())  # its memory is in use until then, whoever still waits
        try:
            content, items, label = await self._waited_for(asyncio.wrap_future(job), request)
        finally:
            stop.set()
        return Response(content, media_type=JSON), items, label

    async def _body(self, request: Request) -> bytes:
        """Raises Refused: 408 or 413."""
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.bounds.body_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self.bounds.seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > self.bounds.body_bytes:
                        raise self._too_large()
        except TimeoutError:
            reason = f"The body did not come within {self.bounds.seconds:g} s: send it again, or a smaller one"
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, reason, {"Connection": "close"}) from None
        return bytes(body)

    def _too_large(self) -> Refused:
        reason = (
            f"The body is above {self.bounds.body_bytes:,} bytes: send it in several requests, or have the server "
            "started with a higher D2V_SERVE_MAX_BODY_BYTES"
        )
        return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason, {"Connection": "close"})

    async def _waited_for(self, running: asyncio.Future[Any], request: Request) -> tuple[bytes, int, str]:
        """The result of a computation. Raises Refused (504) or ClientDisconnect if that comes first."""
        left = asyncio.ensure_future(_client_left(request))
        try:
            await asyncio.wait({running, left}, timeout=self.bounds.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
        if running.done():
            content, items, label = running.result()
            return content, items, label
        running.cancel()  # if it still waits; else `stop` ends it after the items at hand
        if left.done() and not left.cancelled():
            raise ClientDisconnect
        reason = f"There was no answer within {self.bounds.seconds:g} s: send fewer or smaller items"
        raise Refused(HTTPStatus.GATEWAY_TIMEOUT, reason, {"Retry-After": str(RETRY_S)})

    def _compute(self, body: bytes, content_type: str, stop: threading.Event) -> tuple[bytes, int, str]:
        """In a thread: (answer, items, model). Raises Refused."""
        loaded = self.loaded
        with _refusing():
            rows, params = read_rows(body, content_type, loaded.model.columns, loaded.model.requests.limits)
            answers = _answers(loaded, rows, params.get("space", "plain"), stop)
            return json.dumps({"predictions": answers}, allow_nan=False).encode(), len(rows), loaded.label

    def _search(
        self, body: bytes, content_type: str, stop: threading.Event, address: Sequence[tuple[str, str]]
    ) -> tuple[bytes, int, str]:
        """The same of a search."""
        loaded = self.loaded
        assert self.index is not None
        with _refusing():
            asked = read_asked(body, content_type, address, loaded.model.requests)
            return search_index(self.index, loaded, asked), len(asked.weights), loaded.label


COMPUTED = ("/invocations", "/search")
_METHODS = {
    "/invocations": ("POST",),
    "/search": ("POST",),
    "/health": ("GET", "HEAD"),
    "/ping": ("GET", "HEAD"),
    "/version": ("GET", "HEAD"),
    "/metrics": ("GET", "HEAD"),
}


def _busy(reason: str) -> Refused:
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, reason, {"Retry-After": str(RETRY_S)})


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with a request's items is status 400, and no memory 503."""
    try:
        yield
    except RequestRefused as refused:
        raise Refused(HTTPStatus.BAD_REQUEST, refused.reason) from refused
    except MemoryError:
        raise _busy("The server has no memory for this now: send it again, with fewer or smaller items") from None


def _answers(loaded: Loaded, rows: Sequence[Row], space: str, stop: threading.Event) -> list[Any]:
    found: list[Any] = []
    for part in loaded.model.answers(rows, space):
        if stop.is_set():
            break
        found += _plain(part)
    return found


def _plain(part: np.ndarray | Iterable[Any]) -> list[Any]:
    answers: list[Any] = part.tolist() if isinstance(part, np.ndarray) else list(part)
    return answers


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclass
class _Received:
    """ASGI's `receive`, and whether the whole body came by it."""

    receive: Receive
    is_whole: bool = False

    async def __call__(self) -> Message:
        message = await self.receive()
        self.is_whole |= not message.get("more_body", False)
        return message


async def _answer(response: Response, received: _Received, send: Send, scope: Scope) -> None:
    """Send a response. Where the request's body was not read to its end, what the client still sends is thrown away
    while it already has the answer: a broken connection would hide that from it."""
    body = b"" if scope["method"] == "HEAD" else response.body
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    if not received.is_whole:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await _throw_away(received)
        body = b""
    await send({"type": "http.response.body", "body": body})


async def _throw_away(received: _Received) -> None:
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0 and not received.is_whole:
                left -= len((await received()).get("body", b""))
