"""Requests to `d2v serve`: what is answered, and what is refused with which words."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

import d2v
from d2v.serving import app as app_module
from d2v.serving.app import App, Bounds
from d2v.serving.source import Loaded, Source
from tests.interchange import encoders
from tests.modalities.speech.sounds import sound_file, tone

JSON = {"Content-Type": "application/json"}
BODY_BYTES = 2000


@pytest.fixture
def app(loaded: Loaded) -> App:
    return App(loaded, Bounds(body_bytes=BODY_BYTES, computed=1, waiting=0, seconds=20))


@pytest.fixture
def client(app: App) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def post(client: TestClient, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/invocations", content=content, headers=JSON | headers)


# ---------------------------------------------------------------------------------------------- answers

ROWS = [{"text": "to be", "second": "or not"}, {"text": "to be"}]
FORMS: dict[str, Any] = {
    "dataframe_records": ROWS,
    "dataframe_split": {"columns": ["text", "second"], "data": [["to be", "or not"], ["to be", None]], "index": [0, 1]},
    "inputs": ROWS,
    "instances": {"text": ["to be", "to be"], "second": ["or not", None]},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_is_answered_as_d2v_load_answers(client: TestClient, folder: Path, form: str) -> None:
    response = post(client, {form: FORMS[form]})
    assert response.status_code == 200, response.text
    own = d2v.load(folder, device="cpu").encode([("to be", "or not"), "to be"])
    np.testing.assert_allclose(response.json()["predictions"], own, rtol=1e-4, atol=1e-5)
    assert response.headers["X-D2V-Model"] == str(folder)


@pytest.mark.parametrize("values", [["to be", "or"], {"text": ["to be", "or"]}, [{"text": "to be"}, {"text": "or"}]])
def test_single_texts_need_no_column(client: TestClient, values: Any) -> None:
    expected = post(client, {"dataframe_records": [{"text": "to be"}, {"text": "or"}]}).json()
    assert post(client, {"inputs": values}).json() == expected
    assert post(client, {"instances": values, "params": {}}).json() == expected


def test_one_row_is_one_row(client: TestClient) -> None:
    assert post(client, {"inputs": {"text": "to be"}}).json() == post(client, {"inputs": ["to be"]}).json()


def test_csv_and_parquet(client: TestClient) -> None:
    expected = post(client, {"dataframe_records": ROWS}).json()
    csv = client.post(
        "/invocations", content=b"text,second\nto be,or not\nto be,\n", headers={"Content-Type": "text/csv"}
    )
    assert (csv.status_code, csv.json()) == (200, expected)
    file = io.BytesIO()
    pd.DataFrame(ROWS).to_parquet(file)
    kind = {"Content-Type": "application/vnd.apache.parquet"}
    client.app.bounds = replace(client.app.bounds, body_bytes=10**5)  # type: ignore[attr-defined]
    parquet = client.post("/invocations", content=file.getvalue(), headers=kind)
    assert (parquet.status_code, parquet.json()) == (200, expected)


def test_files_are_base64(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(picture, "PNG")
    for modality, column, file in (
        ("vision", "image", picture.getvalue()),
        ("speech", "recording", sound_file(tone(0.3))),
    ):
        folder = encoders.save(tmp_path / modality, modality, 2)
        (tmp_path / "file").write_bytes(file)
        client = TestClient(App(Source(str(folder)).load()))
        response = post(client, {"inputs": [{column: base64.b64encode(file).decode()}]})
        own = d2v.load(folder, device="cpu").encode([tmp_path / "file"])
        np.testing.assert_allclose(response.json()["predictions"], own, rtol=1e-4, atol=1e-5)


def test_fine_tuned_models_answer_with_classes(tmp_path: Path) -> None:
    folder = encoders.save_finetuned(tmp_path / "tuned", "vision", 2, {"name": "classification"})
    client = TestClient(App(Source(str(folder)).load()))
    picture = io.BytesIO()
    Image.new("L", (30, 20), 7).save(picture, "PNG")
    (answer,) = post(client, {"inputs": [base64.b64encode(picture.getvalue()).decode()]}).json()["predictions"]
    assert answer in ("a", "b", "c")


# --------------------------------------------------------------------------------------------- refusals

BAD: dict[str, tuple[bytes, str]] = {
    "no JSON": (b'{"inputs": [', r"not JSON \(Expecting value, line 1, column 13\): send JSON"),
    "nothing": (b"", "not JSON .*: send JSON"),
    "not UTF-8": (b'{"inputs": ["\xff"]}', r"not UTF-8 \(byte 13\): send UTF-8"),
    "deep": (b"[" * 1900, "nested too deeply: send a list of rows|not JSON"),
    "deep objects": (b'{"a":' * 390, "not JSON"),
    "many digits": (b'{"inputs": [' + b"9" * 1500 + b"]}", "a number of 1,500 digits: send"),
    "NaN": (b'{"inputs": [NaN]}', "NaN is no number there.*: send null"),
    "an infinite number": (b'{"inputs": [1e999]}', "Item 0 .* of the type float: send a string"),
    "a key twice": (b'{"inputs": [], "inputs": []}', 'the key "inputs" twice .*: send it once'),
    "a list": (b'["to be"]', 'The body is a list: send {"dataframe_records"'),
    "another key": (b'{"dataframe_record": []}', 'no key "dataframe_record": did you mean "dataframe_records"'),
    "two keys": (b'{"inputs": [], "instances": []}', "2 of the keys .*: send"),
    "params": (b'{"inputs": ["a"], "params": {"a": 1}}', 'no parameter "a": give space'),
    "another column": (b'{"inputs": [{"txt": "a"}]}', 'no column "txt": did you mean "text"[?] give text or second'),
    "misspelt second": (b'{"dataframe_records": [{"text": "a", "secnd": "b"}]}', 'did you mean "second"'),
    "in one row": (b'{"dataframe_records": [{"text": "a"}, {"text": "a", "secnd": "b"}]}', 'did you mean "second"'),
    "column of split": (b'{"dataframe_split": {"columns": ["txt"], "data": [["a"]]}}', 'did you mean "text"'),
    "column of a dictionary": (b'{"inputs": {"txt": ["a"]}}', 'did you mean "text"'),
    "a dictionary of lists": (b'{"dataframe_records": {"text": ["a"]}}', "an object, not a list of rows: send"),
    "lists of two lengths": (b'{"inputs": {"text": ["a"], "second": ["a", "b"]}}', "not lists of one length"),
    "a list and none": (b'{"inputs": {"text": ["a"], "second": "b"}}', "not lists of one length"),
    "rows and cells": (b'{"inputs": [{"text": "a"}, "b"]}', r"Row 1 \(from 0\) of \"inputs\" is a string"),
    "a row as a list": (b'{"dataframe_records": [["a"]]}', "Row 0 .* is a list, not an object"),
    "a short row": (b'{"dataframe_split": {"columns": ["text"], "data": [[]]}}', "Row 0 .* is 0 cells, for 1 columns"),
    "no data": (b'{"dataframe_split": {"columns": ["text"]}}', 'needs two lists, "columns" and "data"'),
    "key of split": (b'{"dataframe_split": {"colums": [], "data": []}}', 'did you mean "columns"'),
    "a column twice": (b'{"dataframe_split": {"columns": ["text", "text"], "data": []}}', "a column twice"),
    "no rows": (b'{"inputs": []}', "no items"),
    "only a second": (b'{"inputs": [{"second": "a"}]}', 'no column "text": send'),
    "a number": (b'{"inputs": [{"text": 7}]}', "Item 0 .* type int: send a string"),
    "a list in a cell": (b'{"inputs": [{"text": ["a"]}]}', "Item 0 .* type list: send a string"),
    "half a pair": (b'{"inputs": ["\\ud800"]}', "Item 0 .* half of a surrogate pair: send whole"),
    "long": (json.dumps({"inputs": ["a" * 31]}).encode(), "31 characters.* D2V_SERVE_MAX_CHARACTERS"),
    "many rows": (json.dumps({"inputs": ["a"] * 11}).encode(), "11 items, above max_items 10.* D2V_SERVE_MAX_ITEMS"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_body_is_told_what_to_send(client: TestClient, case: str) -> None:
    body, said = BAD[case]
    response = post(client, body)
    error = response.json()
    assert response.status_code == 400
    assert error.keys() == {"error_code", "message"}
    assert error["error_code"] == "INVALID_PARAMETER_VALUE"
    assert pd.Series(error["message"]).str.contains(said, regex=True).all(), error["message"]
    assert len(error["message"]) < 300
    assert post(client, {"inputs": ["to be"]}).status_code == 200


CSVS = {
    b"text\n": "no items",
    b"": "no items",
    b"txt\nto be\n": 'did you mean "text"',
    b"text,second\nto be\n": "Line 2 of the CSV has 1 cells, for 2 columns",
    b'text\n"to be\n': "Line 2 of the CSV cannot be read",
    b"text,text\na,b\n": "a column twice",
    b"text\n" + b"a\n" * 11: "above max_items 10",
}


@pytest.mark.parametrize("body", CSVS)
def test_a_bad_csv_is_told_what_to_send(client: TestClient, body: bytes) -> None:
    response = client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})
    assert response.status_code == 400
    assert CSVS[body] in response.json()["message"]


def test_parquet_is_bounded_before_it_is_read(client: TestClient) -> None:
    client.app.bounds = replace(client.app.bounds, body_bytes=10**5)  # type: ignore[attr-defined]
    kind = {"Content-Type": "application/vnd.apache.parquet"}
    for table, said in (
        (pd.DataFrame({"text": ["a"] * 1000}), "1,000 items, above max_items 10"),
        (pd.DataFrame({"txt": ["a"]}), 'did you mean "text"'),
    ):
        file = io.BytesIO()
        table.to_parquet(file)
        response = client.post("/invocations", content=file.getvalue(), headers=kind)
        assert (response.status_code, said in response.json()["message"]) == (400, True)
    response = client.post("/invocations", content=b"PAR1 no file PAR1", headers=kind)
    assert response.status_code == 400
    assert "is not a Parquet file" in response.json()["message"]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "has no content type: send the header Content-Type: application/json"),
        ({"Content-Type": "image/png"}, "the content type image/png: send the header"),
        ({"Content-Type": "application/json; charset=latin-1"}, "the charset latin-1: send UTF-8"),
        (JSON | {"Content-Encoding": "gzip"}, "compressed: send it as it is"),
    ],
)
def test_other_types_are_415(client: TestClient, headers: dict[str, str], said: str) -> None:
    response = client.post("/invocations", content=b'{"inputs": ["a"]}', headers=headers)
    assert response.status_code == 415
    assert said in response.json()["message"]
    response = client.post(
        "/invocations", content=b'{"inputs": ["a"]}', headers={"Content-Type": "application/JSON; charset=UTF-8"}
    )
    assert response.status_code == 200


def test_a_large_body_is_413_declared_or_not(client: TestClient, app: App) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    for content in (b" " * (BODY_BYTES + 1), parts()):
        response = client.post("/invocations", content=content, headers=JSON)
        assert response.status_code == 413
        assert (
            "above 2,000 bytes: send it in several requests, or have the server started" in response.json()["message"]
        )
    assert post(client, b" " * (BODY_BYTES - 17) + b'{"inputs": ["a"]}').status_code == 200
    assert app.metrics.in_flight == 0


def test_many_small_values_are_counted_before_they_are_read(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2v.serving.rows.MAX_VALUES", 100)
    response = post(client, b'{"inputs": [' + b"[]," * 100 + b"[]]}")
    assert response.status_code == 413
    assert "more than 100 commas and brackets" in response.json()["message"]


def test_other_methods_and_paths(client: TestClient) -> None:
    response = client.get("/invocations")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert client.post("/health").status_code == 405
    assert client.get("/invocation").status_code == 404


# ------------------------------------------------------------------------------------- around a request


def test_small_answers(client: TestClient, folder: Path) -> None:
    assert client.get("/health").json() == {"status": "ok", "model": str(folder)}
    assert client.get("/ping").text == "\n"
    assert client.head("/ping").status_code == 200
    assert client.get("/version").text.split(".")[0] == "3"


def test_an_id_is_taken_over_or_made(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "d2v.serving"):
        assert post(client, {"inputs": ["a"]}, **{"X-Request-ID": "abc-1.2"}).headers["x-request-id"] == "abc-1.2"
        made = post(client, {"inputs": ["a"]}, **{"X-Request-ID": "status=200 model=x"}).headers["x-request-id"]
        assert post(client, {"inputs": [7]}, **{"X-Request-ID": "bad"}).headers["x-request-id"] == "bad"
    assert len(made) == 32
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("request_id=abc-1.2 method=POST path=/invocations status=200 ms=")
    assert f"request_id={made} " in lines[1]
    assert "status=400 ms=" in lines[2]
    assert 'reason="Item 0 (from 0) cannot be used' in lines[2]


def test_metrics_count(client: TestClient) -> None:
    for body in ({"inputs": ["a", "b"]}, {"inputs": ["a"]}, {"inputs": [7]}):
        post(client, body)
    client.get("/nowhere/" + "x" * 50)
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'd2v_serve_requests_total{path="/invocations",status="200"} 2',
        'd2v_serve_requests_total{path="/invocations",status="400"} 1',
        'd2v_serve_requests_total{path="other",status="404"} 1',
        "d2v_serve_items_total 3",
        "d2v_serve_in_flight 0",
        'd2v_serve_request_seconds_bucket{le="+Inf"} 3',
        "d2v_serve_request_seconds_count 3",
        "# TYPE d2v_serve_request_seconds histogram",
    ):
        assert line in lines
    names = [line.split("{")[0].split()[0] for line in lines if not line.startswith("#")]
    typed = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert all(any(name.startswith(one) for one in typed) for name in names)


def holding(loaded: Loaded, entered: threading.Event, go_on: threading.Event) -> tuple[Loaded, list[int]]:
    """A model that waits at each few items, and a list that gets their numbers."""
    computed: list[int] = []

    def answer(inputs: Any) -> Any:
        computed.append(len(inputs))
        entered.set()
        assert go_on.wait(60)
        return loaded.model.answer(inputs)

    return replace(loaded, model=replace(loaded.model, answer=answer)), computed


@pytest.fixture
def held(app: App, client: TestClient, loaded: Loaded) -> Iterator[tuple[threading.Event, threading.Event, list[int]]]:
    """(a computation has begun, it may go on, how many items were computed each time)."""
    entered, go_on = threading.Event(), threading.Event()
    app.loaded, computed = holding(loaded, entered, go_on)
    yield entered, go_on, computed
    go_on.set()


def test_too_many_at_a_time_are_503_and_come_again(
    app: App, client: TestClient, held: tuple[threading.Event, threading.Event, list[int]]
) -> None:
    entered, go_on, _ = held
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client, {"inputs": ["a"]})
        assert entered.wait(60)
        response = post(client, {"inputs": ["a"]})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert client.get("/health").status_code == 200
        assert "d2v_serve_in_flight 1" in client.get("/metrics").text.splitlines()
        go_on.set()
        assert first.result(60).status_code == 200
    assert post(client, {"inputs": ["a"]}).status_code == 200


def test_a_request_that_begins_keeps_its_model(
    app: App, client: TestClient, loaded: Loaded, held: tuple[threading.Event, threading.Event, list[int]]
) -> None:
    entered, go_on, _ = held
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, client, {"inputs": ["a"] * 9})
        assert entered.wait(60)
        app.loaded = replace(loaded, label="another")
        go_on.set()
        assert first.result(60).headers["x-d2v-model"] == loaded.label
    assert post(client, {"inputs": ["a"]}).headers["x-d2v-model"] == "another"


def test_an_answer_that_takes_long_is_504_and_its_computation_ends(
    app: App, client: TestClient, held: tuple[threading.Event, threading.Event, list[int]]
) -> None:
    _, go_on, computed = held
    app.bounds = replace(app.bounds, seconds=0.05)
    response = post(client, {"inputs": ["a"] * 10})
    assert response.status_code == 504
    assert app.metrics.in_flight == 1
    go_on.set()
    app._pool.shutdown()
    assert (app.metrics.in_flight, computed) == (0, [4])


def test_a_failure_is_told_to_the_log_alone(
    app: App, client: TestClient, loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(inputs: Any) -> Any:
        raise RuntimeError("what went wrong")

    app.loaded = replace(loaded, model=replace(loaded.model, answer=fail))
    response = post(client, {"inputs": ["a"]}, **{"X-Request-ID": "seven"})
    assert response.status_code == 500
    assert response.json() == {
        "error_code": "INTERNAL_ERROR",
        "message": "The server failed; its log has the reason under seven: tell who runs it",
    }
    assert "what went wrong" in caplog.text


def test_no_memory_is_503(app: App, client: TestClient, loaded: Loaded) -> None:
    def fail(inputs: Any) -> Any:
        raise MemoryError

    app.loaded = replace(loaded, model=replace(loaded.model, answer=fail))
    response = post(client, {"inputs": ["a"]})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def asgi(app: App, messages: list[dict[str, Any]], headers: dict[str, str]) -> list[dict[str, Any]]:
    """What an application sends to a client that sends these messages."""
    import asyncio

    sent: list[dict[str, Any]] = []
    rest = iter(messages)

    async def receive() -> Any:
        if (message := next(rest, None)) is None:
            await asyncio.Event().wait()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "query_string": b"",
        "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return sent


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_client_that_leaves_gets_nothing(app: App, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "d2v.serving"):
        assert asgi(app, [part(b'{"inp'), {"type": "http.disconnect"}], JSON) == []
    assert "status=499" in caplog.text
    assert app.metrics.in_flight == 0


def test_a_body_that_does_not_come_is_408(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "LINGER_S", 0.01)
    app.bounds = replace(app.bounds, seconds=0.05)
    start, *_ = asgi(app, [part(b'{"inp')], JSON)
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]


def test_what_follows_a_refusal_is_thrown_away_after_the_answer(app: App) -> None:
    start, answer, end = asgi(app, [part(b"more")] * 5 + [part(b"", False)], JSON | {"Content-Length": "99999"})
    assert (start["status"], answer["more_body"], end["body"]) == (413, True, b"")
    assert json.loads(answer["body"])["message"].startswith("The body is above")


LEFT: Callable[[], None]
