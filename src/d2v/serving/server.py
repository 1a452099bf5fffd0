"""The process of `d2v serve`: uvicorn around the application, newer models, signals."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn

from d2v.errors import D2vError, LaunchError
from d2v.serving.app import App, Bounds
from d2v.serving.search import check_index
from d2v.serving.source import Source

log = logging.getLogger("d2v.serving")
HEAD_BYTES = 2**16
"""Of a request's line and headers."""
CONNECTIONS = 512
"""Open at a time, the idle ones too: uvicorn answers further ones with 503."""
IDLE_S = 1.0
"""Between looks whether there are no requests."""


class Reloader:
    """Puts a newer model in the place of the served one.

    Args:
        source: where newer ones come from.
        app: what serves.
        every_s: seconds between looks; 0 looks only when `look_now` is called.
    """

    def __init__(self, source: Source, app: App, every_s: float) -> None:
        self._source, self._app, self._every_s = source, app, every_s
        self._asked = asyncio.Event()
        self._failed = ""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="d2v-reload")

    def look_now(self) -> None:
        """Do not wait for the next look; a model that failed to load is tried again."""
        self._failed = ""
        self._asked.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._every_s or None)
            self._asked.clear()
            await asyncio.get_running_loop().run_in_executor(self._pool, self.look)

    def look(self) -> None:
        """Load the source's model if it is another one. One that cannot be loaded leaves the served one where it is,
        and is not tried again before the source changes once more."""
        try:
            identity = self._source.identity()
            if identity in (self._app.loaded.identity, self._failed):
                return
            self._failed = identity
            loaded = self._source.load()
        except D2vError as error:
            self._app.metrics.reload("failed")
            log.error("reload failed, %s is served on: %s", self._app.loaded.label, error)
        except Exception:
            self._app.metrics.reload("failed")
            log.exception("reload failed, %s is served on", self._app.loaded.label)
        else:
            before, self._app.loaded, self._failed = self._app.loaded.label, loaded, ""
            self._app.metrics.reload("loaded")
            log.info("reload: %s is served, in place of %s", loaded.label, before)


class _Server(uvicorn.Server):
    """Ends with 0 after SIGTERM and SIGINT: everything that was asked before is answered then."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def serve(source: Source, host: str, port: int, bounds: Bounds, reload_s: float, index: Path | None = None) -> None:
    """Serve a model until SIGTERM or SIGINT. SIGHUP looks for a newer model at once.

    Args:
        source: where the model comes from.
        host: address to listen at.
        port: 0 takes a free one, which the log names.
        bounds: how much is taken at a time.
        reload_s: seconds between looks for a newer model; 0 looks at SIGHUP alone.
        index: folder of what `/search` looks in, if it is to be there.

    Raises:
        CheckpointError: there is no such model, or the index is another encoder's.
        DataError: there is no such index.
        LaunchError: the address cannot be listened at.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    app = App(source.load(), bounds, index)
    if index is not None:
        check_index(index, app.loaded)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=int(2 * bounds.seconds) + 1,
    )
    asyncio.run(_run(_Server(config), app, Reloader(source, app, reload_s)))


async def _give_memory_back(app: App) -> None:
    """Have glibc return what it keeps of large requests, when there are none. It takes 100 ms, and after images of 6
    million pixels gives 50 MB back."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    seen = 0
    while trim is not None:
        await asyncio.sleep(IDLE_S)
        if app.metrics.in_flight == 0 and app.metrics.items > seen:
            seen = app.metrics.items
            await asyncio.to_thread(trim, 0)


async def _run(server: _Server, app: App, reloader: Reloader) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.look_now)
    beside = [asyncio.create_task(reloader.run()), asyncio.create_task(_give_memory_back(app))]
    log.info("%s is served", app.loaded.label)
    try:
        await server.serve()
    except SystemExit as ended:  # uvicorn has logged why
        where = f"{server.config.host}:{server.config.port}"
        raise LaunchError(f"The server cannot listen at {where}: give another --port, or end what has it") from ended
    finally:
        for task in beside:
            task.cancel()
