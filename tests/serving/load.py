"""Mixed requests from several clients at once: right ones, wrong ones, and those that break off.

By hand, at a server of texts: `python -m tests.serving.load http://127.0.0.1:5001`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

JSON = {"Content-Type": "application/json"}
CLIENTS, REQUESTS = 8, 3000
ANSWERED = "answered"
"""The kinds whose names begin with it get a 200."""

Made = tuple[str, str, bytes, dict[str, str]]
"""(method, path, body, headers)."""


def post(body: object, **headers: str) -> Made:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return "POST", "/invocations", content, JSON | {name.replace("_", "-"): text for name, text in headers.items()}


def texts(draw: random.Random) -> list[str]:
    return [" ".join(draw.choices(["to", "be", "or", "not"], k=draw.randint(0, 6))) for _ in range(draw.randint(1, 8))]


def cells(draw: random.Random) -> list[dict[str, str]]:
    return [{"text": text} for text in texts(draw)]


KINDS: dict[str, Callable[[random.Random], Made]] = {
    "answered: records": lambda draw: post({"dataframe_records": cells(draw)}),
    "answered: split": lambda draw: post(
        {"dataframe_split": {"columns": ["text", "second"], "data": [[text, None] for text in texts(draw)]}}
    ),
    "answered: inputs": lambda draw: post({"inputs": cells(draw)}),
    "answered: instances": lambda draw: post({"instances": cells(draw)}),
    "no JSON": lambda draw: post(b'{"dataframe_records": [{"text": "to be"'),
    "not UTF-8": lambda draw: post(b'{"dataframe_records": [{"text": "\xff\xfe\xfd"}]}'),
    "deep": lambda draw: post(b'{"dataframe_records": ' + b"[" * draw.randint(2000, 9000)),
    "many digits": lambda draw: post(b'{"dataframe_records": [{"text": ' + b"9" * 5000 + b"}]}"),
    "NaN": lambda draw: post(b'{"dataframe_records": [{"text": NaN}]}'),
    "half a pair": lambda draw: post(b'{"dataframe_records": [{"text": "\\ud800"}]}'),
    "another column": lambda draw: post({"dataframe_records": [{"txt": "to be"}]}),
    "misspelt second": lambda draw: post({"dataframe_records": [{"text": "to be", "secnd": "or not"}]}),
    "a number": lambda draw: post({"dataframe_records": [{"text": 7}]}),
    "no list": lambda draw: post({"dataframe_records": {"text": ["to be"]}}),
    "no rows": lambda draw: post({"dataframe_records": []}),
    "too many rows": lambda draw: post({"dataframe_records": [{"text": "a"}] * 200}),
    "too large": lambda draw: post({"dataframe_records": [{"text": "a" * 70_000}]}),
    "no type": lambda draw: ("POST", "/invocations", b"{}", {}),
    "another type": lambda draw: ("POST", "/invocations", b"{}", {"Content-Type": "image/png"}),
    "compressed": lambda draw: post(b"\x1f\x8b", Content_Encoding="gzip"),
    "another method": lambda draw: ("PUT", "/invocations", b"{}", JSON),
    "another path": lambda draw: ("GET", f"/{draw.randint(0, 999)}", b"", {}),
    "broken off": lambda draw: post({"dataframe_records": cells(draw)}),
}
"""What is sent, by name. The server's bodies end at 64 KiB and its requests at 128 rows."""


@dataclass
class Result:
    """Answers.

    Attributes:
        statuses: number of answers by (kind, status); status 0 is a connection that gave none.
        models: numbers of right answers by the model that gave them.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Result) -> Result:
        self.statuses += other.statuses
        self.models += other.models
        return self

    @property
    def of_status(self) -> Counter[int]:
        """Number of answers by status, of all but those that were broken off."""
        found: Counter[int] = Counter()
        for (kind, status), number in self.statuses.items():
            if kind != "broken off":
                found[status] += number
        return found

    @property
    def wrong(self) -> dict[tuple[str, int], int]:
        """Answers of another status than their kind asks for."""
        return {
            (kind, status): number
            for (kind, status), number in self.statuses.items()
            if kind != "broken off" and (status == 200 if not kind.startswith(ANSWERED) else status != 200)
        }


def run(
    address: str,
    requests: int = REQUESTS,
    clients: int = CLIENTS,
    seed: int = 0,
    halfway: Callable[[], object] = lambda: None,
) -> Result:
    """Send requests, half of them right ones, from clients that each keep a connection. The first of them calls
    `halfway` when half of its share is sent."""
    share = [requests // clients + (number < requests % clients) for number in range(clients)]
    hooks = [halfway, *[lambda: None] * (clients - 1)]
    draws = [random.Random(f"{seed}-{client}") for client in range(clients)]
    total = Result()
    with ThreadPoolExecutor(clients) as pool:
        for part in pool.map(_one_client, [address] * clients, share, draws, hooks):
            total += part
    return total


def _one_client(address: str, requests: int, draw: random.Random, halfway: Callable[[], object]) -> Result:
    place, result = urlsplit(address), Result()
    right = [kind for kind in KINDS if kind.startswith(ANSWERED)]
    wrong = [kind for kind in KINDS if kind not in right]
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
    for number in range(requests):
        if number == requests // 2:
            halfway()
        kind = draw.choice(right if draw.random() < 0.5 else wrong)
        made = KINDS[kind](draw)
        if kind == "broken off":
            status = _break_off(str(place.hostname), int(place.port or 80), made, draw)
        else:
            status, model = _send(connection, made)
            result.models[model] += status == 200
        result.statuses[kind, status] += 1
    connection.close()
    return result


def _send(connection: http.client.HTTPConnection, made: Made) -> tuple[int, str]:
    """(status, model). 0 if there was no answer."""
    method, path, body, headers = made
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, ""
    return response.status, response.headers.get("X-D2V-Model", "")


def _break_off(host: str, port: int, made: Made, draw: random.Random) -> int:
    """Promise a body, send a part of it, and go."""
    _, path, body, _ = made
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, port), timeout=60) as plug:
        plug.sendall(head.encode() + body[: draw.randrange(len(body))])
    return 0


def table(result: Result) -> str:
    """Numbers by kind and status, a line each."""
    lines = [f"{kind:<20} {status:>4} {number:>6}" for (kind, status), number in sorted(result.statuses.items())]
    return "\n".join(
        [*lines, f"by status: {dict(sorted(result.of_status.items()))}", f"by model: {dict(result.models)}"]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    given = parser.parse_args()
    print(table(run(given.address, given.requests, given.clients)))
