"""Counts of a server in the text format of Prometheus (its exposition format 0.0.4)."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the histogram of times."""


class Metrics:
    """Counters that many threads may move.

    Attributes:
        in_flight: requests to `/invocations` and `/search` that are read, wait or are computed.
        items: answered items.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._seconds = 0.0
        self._reloads: Counter[str] = Counter()
        self.in_flight = 0
        self.items = 0

    def request(self, path: str, status: int, seconds: float | None = None) -> None:
        """Count an answer; with its time if it belongs into the histogram."""
        with self._lock:
            self._requests[path, status] += 1
            if seconds is not None:
                self._buckets[bisect_left(BUCKETS_S, seconds)] += 1
                self._seconds += seconds

    def enter(self, most: int) -> bool:
        """Whether there is room for one more request; if so it counts as in flight until `leave`."""
        with self._lock:
            is_room = self.in_flight < most
            self.in_flight += is_room
            return is_room

    def leave(self) -> None:
        """A request is over."""
        with self._lock:
            self.in_flight -= 1

    def answered(self, items: int) -> None:
        """Count items."""
        with self._lock:
            self.items += items

    def reload(self, result: str) -> None:
        """Count a model that was loaded, or failed to."""
        with self._lock:
            self._reloads[result] += 1

    def text(self, model: Mapping[str, str]) -> str:
        """All of it.

        Args:
            model: labels of the model that is served.
        """
        with self._lock:
            counts = [(f'path="{path}",status="{status}"', n) for (path, status), n in sorted(self._requests.items())]
            reached = [sum(self._buckets[: place + 1]) for place in range(len(self._buckets))]
            ends = [*(f"{end:g}" for end in BUCKETS_S), "+Inf"]
            lines = _metric("requests_total", "counter", "answers by path and HTTP status", counts)
            lines += _metric("request_seconds", "histogram", "time of /invocations, from its head to its answer", [])
            lines += [
                f'd2v_serve_request_seconds_bucket{{le="{end}"}} {n}' for end, n in zip(ends, reached, strict=True)
            ]
            lines += [f"d2v_serve_request_seconds_sum {self._seconds:.6f}"]
            lines += [f"d2v_serve_request_seconds_count {reached[-1]}"]
            lines += _metric("items_total", "counter", "answered items", [("", self.items)])
            lines += _metric("in_flight", "gauge", "requests to /invocations and /search now", [("", self.in_flight)])
            loads = [(f'result="{result}"', self._reloads[result]) for result in ("loaded", "failed")]
            lines += _metric("reloads_total", "counter", "newer models that were loaded, or failed to", loads)
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in model.items())
        lines += _metric("model_info", "gauge", "1 for the model that is served", [(labels, 1)])
        return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, about: str, samples: list[tuple[str, int]]) -> list[str]:
    full = f"d2v_serve_{name}"
    lines = [f"# HELP {full} {about}", f"# TYPE {full} {kind}"]
    return lines + [f"{full}{{{labels}}} {value}" if labels else f"{full} {value}" for labels, value in samples]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
