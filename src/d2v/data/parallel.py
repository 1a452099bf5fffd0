"""Work on a stream with several threads, in order and in constant memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

WINDOW_PER_THREAD = 8


def ordered_map(
    function: Callable[[In], Out], items: Iterable[In], threads: int | None = None
) -> Generator[Out, None, None]:
    """`map` over threads: results come in the items' order, and few items are under way at a time.

    Threads suffice, because decoders, compressors and hashes release Python's lock.
    """
    threads = threads or os.cpu_count() or 1
    pending: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= threads * WINDOW_PER_THREAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
