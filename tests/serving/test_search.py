"""`/search` of `d2v serve`: questions in all forms, filters, refusals, an index of another encoder."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from typer.testing import CliRunner

import d2v
from d2v.cli import app as command
from d2v.evaluation.search_space import SearchSpace
from d2v.search.index import Index
from d2v.search.query import search
from d2v.serving.app import App, Bounds
from d2v.serving.source import Source
from tests.interchange import encoders
from tests.serving.conftest import save_text

pytest.importorskip("lancedb")
LINES = ["to be or not to be", "that is the question", "whether it is nobler", "in the mind", "to suffer"]


def with_space(folder: Path, width: int) -> Path:
    """An encoder's folder, with a space to search in."""
    SearchSpace.learned(torch.randn(40, width, generator=torch.Generator().manual_seed(0))).save(folder)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder`, `files` and `index`."""
    folder = tmp_path_factory.mktemp("searched")
    with_space(save_text(folder / "encoder"), d2v.load(save_text(folder / "other", depth=2), device="cpu").width)
    (folder / "files").mkdir()
    for number, name in enumerate(("a.txt", "b.txt")):
        (folder / "files" / name).write_text("\n".join(LINES[number::2]) + "\n")
        os.utime(folder / "files" / name, (0, 1_000 + number))
    Index.build(d2v.load(folder / "encoder", device="cpu"), [folder / "files"], folder / "index")
    return folder


@pytest.fixture
def app(made: Path) -> App:
    loaded = Source(str(made / "encoder"), {"D2V_SERVE_MAX_ITEMS": "5", "D2V_SERVE_MAX_CHARACTERS": "200"}).load()
    return App(loaded, Bounds(body_bytes=20_000, computed=1, waiting=0, seconds=20), made / "index")


@pytest.fixture
def client(app: App) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def ask(client: TestClient, **body: Any) -> Any:
    return client.post("/search", json=body)


def places(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [f"{Path(hit['file']).name}:{hit['line']}" for hit in response.json()["hits"]]


def test_a_text_a_vector_and_a_mix_find_what_python_finds(client: TestClient, made: Path) -> None:
    model, index = d2v.load(made / "encoder", device="cpu"), Index(made / "index")
    response = ask(client, questions=[{"text": LINES[3]}], count=3)
    assert places(response)[0] == "b.txt:2"
    assert response.json()["hits"][0]["similarity"] == pytest.approx(1.0, abs=1e-4)
    assert (response.json()["items"], response.json()["recall"]) == (5, 1.0)
    vector = model.encode(LINES[4], space="search")
    weighted = [(1.0, LINES[0]), (-0.5, vector)]
    expected = search(index, model, weighted, 5)
    mixed = ask(client, questions=[{"text": LINES[0]}, {"vector": vector.tolist(), "weight": -0.5}], count=5)
    assert places(mixed) == [f"{Path(hit.file).name}:{hit.line}" for hit in expected]
    found = [hit["similarity"] for hit in mixed.json()["hits"]]
    np.testing.assert_allclose(found, [hit.similarity for hit in expected], atol=1e-4)


def test_a_long_text_is_read_whole_as_in_the_index(client: TestClient, made: Path) -> None:
    longest = d2v.load(made / "encoder", device="cpu")
    text = " ".join(["to be or not"] * 15)
    assert longest.to_inputs([text]).cut_off is not None
    hits = search(Index(made / "index"), longest, text, 1)
    (found,) = ask(client, questions=[{"text": text}], count=1).json()["hits"]
    assert found["similarity"] == pytest.approx(hits[0].similarity, abs=1e-4)


def test_filters_and_previews(client: TestClient) -> None:
    questions = [{"text": LINES[0]}]
    assert set(places(ask(client, questions=questions, path="*/b.txt", count=5))) == {"b.txt:1", "b.txt:2"}
    later = ask(client, questions=questions, after="1970-01-01T00:16:41Z", count=5)
    assert set(places(later)) == {"b.txt:1", "b.txt:2"}
    assert {hit["modified"] for hit in later.json()["hits"]} == {"1970-01-01T00:16:41+00:00"}
    assert places(ask(client, questions=questions, before="1970-01-01T00:16:41Z", path="*/b.txt")) == []
    assert places(ask(client, questions=questions, label="none")) == []
    assert "snippet" not in ask(client, questions=questions).json()["hits"][0]
    assert ask(client, questions=questions, previews=True).json()["hits"][0]["snippet"] == LINES[0]


def test_a_text_as_it_is(client: TestClient) -> None:
    plain = {"Content-Type": "text/plain; charset=utf-8"}
    response = client.post("/search?count=2&path=*/a.txt&previews=true", content=LINES[2].encode(), headers=plain)
    assert places(response)[0] == "a.txt:2"
    assert response.json()["hits"][0]["snippet"] == LINES[2]


def test_a_picture_as_it_is_or_in_base64(tmp_path: Path) -> None:
    encoders.save(tmp_path / "vision", "vision", 2)
    (tmp_path / "files").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp_path / "files" / f"{name}.png")
    Index.build(d2v.load(tmp_path / "vision", device="cpu"), [tmp_path / "files"], tmp_path / "index")
    client = TestClient(App(Source(str(tmp_path / "vision")).load(), index=tmp_path / "index"))
    file = (tmp_path / "files" / "b.png").read_bytes()
    coded = ask(client, questions=[{"image": base64.b64encode(file).decode()}], count=1)
    raw = client.post("/search?count=1&previews=true", content=file, headers={"Content-Type": "image/png"})
    assert places(coded) == places(raw) == ["b.png:None"]
    preview = raw.json()["hits"][0]["preview"]
    assert Image.open(io.BytesIO(base64.b64decode(preview["base64"]))).size[0] > 0
    text = client.post("/search", content=b"a red letter", headers={"Content-Type": "text/plain"})
    assert text.status_code == 400


VECTOR = [0.1, 0.2]
BAD: dict[str, tuple[Any, int, str]] = {
    "no question": ({}, 400, '"questions" is not a list'),
    "an empty list": ({"questions": []}, 400, '"questions" is not a list'),
    "no object": ([1], 400, "The body is a list"),
    "a question that is text": ({"questions": ["to be"]}, 400, r"Question 0 \(from 0\) is a string"),
    "another key": ({"questions": [{"txt": "a"}]}, 400, 'did you mean "text"'),
    "another filter": ({"questions": [{"text": "a"}], "labl": "x"}, 400, 'did you mean "label"'),
    "too many questions": ({"questions": [{"text": "a"}] * 6}, 400, "6 questions, above max_items 5"),
    "too many items": ({"questions": [{"text": "a"}], "count": 6}, 400, '"count" is 6: send a number from 1 to'),
    "no items": ({"questions": [{"text": "a"}], "count": 0}, 400, '"count" is 0'),
    "a count that is none": ({"questions": [{"text": "a"}], "count": True}, 400, '"count" is True'),
    "a weight that is none": ({"questions": [{"text": "a", "weight": "1"}]}, 400, "The weight of question 0"),
    "a huge weight": ({"questions": [{"text": "a", "weight": 1e300}]}, 400, "The weight of question 0"),
    "a vector that is none": ({"questions": [{"vector": "abc"}]}, 400, "The vector of question 0 .* is a string"),
    "a vector of texts": ({"questions": [{"vector": ["a"]}]}, 400, "A number of the vector of question 0"),
    "another width": ({"questions": [{"text": "a"}, {"vector": VECTOR}]}, 400, 'question 1 .* has 2 numbers.*"search"'),
    "a vector and a text": ({"questions": [{"vector": VECTOR, "text": "a"}]}, 400, "send them as two questions"),
    "nothing": ({"questions": [{"text": "a"}, {"weight": 1}]}, 400, 'Question 1 .* has neither "text" nor "vector"'),
    "empty text": ({"questions": [{"text": "a"}, {"text": None}]}, 400, r"Item 1 \(from 0\).*its text is empty"),
    "a long text": ({"questions": [{"text": "a" * 201}]}, 400, "201 characters, above max_characters 200"),
    "what cancels": ({"questions": [{"text": "a"}, {"text": "a", "weight": -1}]}, 400, "cancel each other"),
    "no time": ({"questions": [{"text": "a"}], "after": "noon"}, 400, '"after": .*give a date'),
    "a path that is none": ({"questions": [{"text": "a"}], "path": 7}, 400, '"path" is 7: send a short string'),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_question_is_told_what_to_send(client: TestClient, case: str) -> None:
    body, status, said = BAD[case]
    response = client.post("/search", json=body)
    assert response.status_code == status, response.text
    assert response.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert re.search(said, response.json()["message"]), response.json()["message"]


def test_nan_and_other_types(client: TestClient) -> None:
    json_type = {"Content-Type": "application/json"}
    nan = client.post("/search", content=b'{"questions": [{"vector": [NaN]}]}', headers=json_type)
    assert (nan.status_code, "NaN is no number" in nan.text) == (400, True)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/search", content=b"x", headers=form).status_code == 415
    assert client.post("/search", content=b"", headers={"Content-Type": "text/plain"}).status_code == 400
    assert client.post("/search?k=3", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 400
    assert client.post("/search?count=x", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 400
    assert client.post("/search?count=3", json={"questions": [{"text": "a"}]}).status_code == 400
    assert client.post("/search", content=b"x" * 30_000, headers=json_type).status_code == 413
    assert client.get("/search").status_code == 405


def test_without_an_index_there_is_no_search(app: App, client: TestClient) -> None:
    app.index = None
    response = ask(client, questions=[{"text": "to be"}])
    assert (response.status_code, "--index" in response.text) == (404, True)


def test_an_index_of_another_encoder_is_a_conflict_until_it_is_made_anew(
    app: App, client: TestClient, made: Path, tmp_path: Path
) -> None:
    app.index = tmp_path / "index"
    shutil.copytree(made / "index", app.index)
    app.loaded = Source(str(made / "other")).load()  # as after a promotion
    response = ask(client, questions=[{"text": "to be"}])
    assert (response.status_code, response.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert "another encoder" in response.json()["message"]
    shutil.rmtree(app.index)
    gone = ask(client, questions=[{"text": "to be"}])
    assert (gone.status_code, "cannot be read now" in gone.text) == (503, True)
    assert str(tmp_path) not in gone.text
    Index.build(d2v.load(made / "other", device="cpu"), [made / "files"], app.index)
    assert places(ask(client, questions=[{"text": LINES[1]}], count=1)) == ["b.txt:1"]


def test_a_fine_tuned_model_searches_by_its_encoder(tmp_path: Path) -> None:
    folder = encoders.save_finetuned(tmp_path / "tuned", "vision", 2, {"name": "classification"})
    Image.new("RGB", (24, 24), "red").save(tmp_path / "red.png")
    Index.build(d2v.load(folder, device="cpu"), [tmp_path / "red.png"], tmp_path / "index")
    client = TestClient(App(Source(str(folder)).load(), index=tmp_path / "index"))
    file = (tmp_path / "red.png").read_bytes()
    found = client.post("/search", content=file, headers={"Content-Type": "application/octet-stream"})
    assert found.json()["hits"][0]["similarity"] == pytest.approx(1.0, abs=1e-4)
    words = client.post("/search", content=b"red", headers={"Content-Type": "text/plain"})
    assert words.status_code == 400
    assert "finds nothing by words" in words.json()["message"]


@pytest.mark.parametrize(
    "time", ["1970-01-01T02:16:41+02:00", "1970-01-01T02:16:41%2B02:00", "1969-12-31T22:16:41-02:00"]
)
def test_a_time_in_an_address_may_have_a_zone(client: TestClient, time: str) -> None:
    found = client.post(f"/search?after={time}&count=5", content=b"a", headers={"Content-Type": "text/plain"})
    assert set(places(found)) == {"b.txt:1", "b.txt:2"}


def test_embeddings_in_the_space_to_search_in(client: TestClient, made: Path) -> None:
    model = d2v.load(made / "encoder", device="cpu")
    for space in ("plain", "search"):
        body = {"inputs": LINES[:3], "params": {"space": space}}
        response = client.post("/invocations", json=body)
        expected = model.encode(LINES[:3], space=space)
        np.testing.assert_allclose(response.json()["predictions"], expected, rtol=1e-4, atol=1e-5)
    for params, said in (({"spce": "search"}, "space"), ({"space": "other"}, "plain or search"), ([1], "an object")):
        refused = client.post("/invocations", json={"inputs": LINES[:1], "params": params})
        assert (refused.status_code, said in refused.text) == (400, True), refused.text


def test_an_encoder_without_a_space_says_so(made: Path) -> None:
    client = TestClient(App(Source(str(made / "other")).load()))
    refused = client.post("/invocations", json={"inputs": ["to be"], "params": {"space": "search"}})
    assert (refused.status_code, "d2v space" in refused.text) == (400, True)


def test_a_server_does_not_start_with_an_index_of_another_encoder(made: Path) -> None:
    started = CliRunner().invoke(command, ["serve", str(made / "other"), "--index", str(made / "index"), "--port", "0"])
    assert type(started.exception).__name__ == "CheckpointError"
    none = CliRunner().invoke(command, ["serve", str(made / "other"), "--index", str(made), "--port", "0"])
    assert type(none.exception).__name__ == "DataError"
