"""Registered models behind HTTP: files and texts in, as people have them; answers out, or what to send instead."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.tracking import MlflowClient
from PIL import Image
from starlette.testclient import TestClient

import d2v
from d2v.errors import ConfigError
from d2v.evaluation.search_space import SearchSpace
from d2v.modalities.requests import Limits
from d2v.modalities.text.tokenizer import train_tokenizer
from d2v.tracking.registry import register_encoder, register_finetuned
from d2v.tracking.requests import RequestRefused
from tests.interchange import encoders
from tests.modalities.speech.sounds import sound_file, tone

RNG = np.random.default_rng(0)
TOKENIZER = train_tokenizer(["to be or not to be"], 300).to_json()
LIMITS = {"ITEMS": 10, "ITEM_BYTES": 60_000, "PIXELS": 10_000, "SECONDS": 2, "CHARACTERS": 30}
COLUMN = {"vision": "image", "speech": "recording", "text": "text"}
TASKS: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "classes": ("vision", {"name": "classification"}, None),
    "several": ("speech", {"name": "multilabel"}, None),
    "letters": ("speech", {"name": "transcription"}, {"letters": ["A", "B"]}),
    "numbers": ("text", {"name": "regression"}, {}),
}


def photo(kind: str = "PNG", height: int = 30, width: int = 20) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def as_text(file: bytes) -> str:
    return base64.b64encode(file).decode()


ITEMS: dict[str, list[Any]] = {
    "vision": [photo("PNG"), photo("JPEG", 40, 50), photo("WEBP")],
    "speech": [
        sound_file(tone(0.3)),
        sound_file(tone(0.5, 44_100), 44_100, "FLAC"),
        sound_file(tone(0.4, 8_000), 8_000, "OGG"),
        sound_file(tone(0.4, 22_050), 22_050, "MP3"),
    ],
    "text": ["to be", "or not to be", ""],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """The folder of a store in which every modality has an encoder, and every task a fine-tuned model."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    before, uri = mlflow.get_tracking_uri(), f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(experiment_id=MlflowClient().create_experiment("d2v", (folder / "artifacts").as_uri()))
    with mlflow.start_run():
        for modality in COLUMN:
            encoder = encoders.save(folder / modality, modality, 2, plain(modality))
            if modality == "text":
                width = d2v.load(encoder, device="cpu").width
                SearchSpace.learned(torch.randn(40, width)).save(encoder)
            register_encoder(modality, encoder, {}, "champion")
        for name, (modality, task, says) in TASKS.items():
            tuned = encoders.save_finetuned(folder / name, modality, 2, task, says, plain(modality))
            register_finetuned(modality, tuned, {}, name)
    yield folder
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(before)


def plain(modality: str) -> dict[str, str]:
    return {"tokenizer": TOKENIZER} if modality == "text" else {}


@pytest.fixture(scope="module")
def models(store: Path) -> dict[str, PyFuncModel]:
    """Encoders by modality and fine-tuned models by task, with low limits."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LIMITS.items():
            patch.setenv(f"D2V_SERVE_MAX_{name}", str(value))
        names = {modality: f"d2v-{modality}@champion" for modality in COLUMN}
        names |= {task: f"d2v-{modality}-tuned@{task}" for task, (modality, *_) in TASKS.items()}
        return {key: mlflow.pyfunc.load_model(f"models:/{name}") for key, name in names.items()}


@pytest.fixture(scope="module")
def servers(models: dict[str, PyFuncModel]) -> dict[str, TestClient]:
    """MLflow's own scoring server for each."""
    return {key: TestClient(scoring_server.init(model)) for key, model in models.items()}


def post(server: TestClient, body: Any) -> tuple[int, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    response = server.post("/invocations", content=text, headers={"Content-Type": "application/json"})
    return response.status_code, response.json()


def rows(modality: str, items: list[Any]) -> list[dict[str, Any]]:
    return [{COLUMN[modality]: as_text(item) if isinstance(item, bytes) else item} for item in items]


# ---------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("modality", COLUMN)
def test_files_and_texts_are_embedded(
    servers: dict[str, TestClient], store: Path, tmp_path: Path, modality: str
) -> None:
    status, body = post(servers[modality], {"dataframe_records": rows(modality, ITEMS[modality])})
    assert status == 200, body
    np.testing.assert_allclose(body["predictions"], expected(store, tmp_path, modality), rtol=1e-4, atol=1e-5)
    table = {"columns": [COLUMN[modality]], "data": [[*row.values()] for row in rows(modality, ITEMS[modality])]}
    for other in ({"dataframe_split": table}, {"inputs": rows(modality, ITEMS[modality])}):
        assert post(servers[modality], other) == (200, body)


def expected(store: Path, tmp_path: Path, modality: str) -> np.ndarray:
    """What `d2v.load` says of the same files."""
    items = ITEMS[modality]
    for number, item in enumerate(items):
        if isinstance(item, bytes):
            (tmp_path / str(number)).write_bytes(item)
    files = [tmp_path / str(number) if isinstance(item, bytes) else item for number, item in enumerate(items)]
    return d2v.load(store / modality, device="cpu").encode(files)


@pytest.mark.parametrize("modality", ["vision", "speech"])
def test_python_and_parquet_send_bytes(
    models: dict[str, PyFuncModel], servers: dict[str, TestClient], modality: str
) -> None:
    table = pd.DataFrame({COLUMN[modality]: ITEMS[modality]})
    answers = models[modality].predict(table)
    assert answers.dtype == np.float32
    assert answers.shape == (len(table), 32)
    file = io.BytesIO()
    table.to_parquet(file)
    headers = {"Content-Type": "application/vnd.apache.parquet"}
    response = servers[modality].post("/invocations", content=file.getvalue(), headers=headers)
    np.testing.assert_allclose(response.json()["predictions"], answers, rtol=1e-6)


def test_pairs_stand_beside_single_texts(servers: dict[str, TestClient], store: Path) -> None:
    request = [{"text": "to be", "second": "or not"}, {"text": "to be"}, {"text": "to be", "second": None}]
    _, body = post(servers["text"], {"dataframe_records": request})
    own = d2v.load(store / "text", device="cpu").encode([("to be", "or not"), "to be", "to be"])
    np.testing.assert_allclose(body["predictions"], own, rtol=1e-4, atol=1e-5)


def test_vectors_of_the_space_to_search_in(servers: dict[str, TestClient], store: Path) -> None:
    body = {"dataframe_records": [{"text": "to be"}, {"text": "or"}], "params": {"space": "search"}}
    found = servers["text"].post("/invocations", json=body).json()["predictions"]
    own = d2v.load(store / "text", device="cpu").encode(["to be", "or"], space="search")
    np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-5)
    body = {"dataframe_records": [{"image": as_text(photo())}], "params": {"space": "search"}}
    refused = servers["vision"].post("/invocations", json=body)
    assert (refused.status_code, "no space to search in" in refused.text) == (400, True)


def test_more_items_than_are_computed_at_a_time(servers: dict[str, TestClient]) -> None:
    texts = [f"{'to be ' * (number % 4)}{number}" for number in range(10)]
    _, body = post(servers["text"], {"dataframe_records": rows("text", texts)})
    alone = [post(servers["text"], {"dataframe_records": rows("text", [text])})[1]["predictions"][0] for text in texts]
    np.testing.assert_allclose(body["predictions"], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_fine_tuned_models_say_what_d2v_load_says(
    models: dict[str, PyFuncModel], servers: dict[str, TestClient], store: Path, tmp_path: Path, task: str
) -> None:
    modality = TASKS[task][0]
    item = ITEMS[modality][0]
    if isinstance(item, bytes):
        (tmp_path / "item").write_bytes(item)
    said = d2v.load(store / task, device="cpu").predict(tmp_path / "item" if isinstance(item, bytes) else item)
    status, body = post(servers[task], {"dataframe_records": rows(modality, [item, item])})
    assert status == 200, body
    assert body["predictions"] == [pytest.approx(said, rel=1e-4) if not isinstance(said, str) else said] * 2
    (output,) = models[task].metadata.signature.outputs.inputs
    assert str(output.type) == {"numbers": "DataType.double", "several": "Map(str -> DataType.double)"}.get(
        task, "DataType.string"
    )


LONG_TEXTS = ["to be", "or not to be " * 30, "to"]


@pytest.mark.parametrize("task", ["text", "numbers"])
def test_long_texts_are_cut_with_a_line_or_read_in_windows_or_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    """As `d2v.load` does; what is cut off is said once a request, in the server's log."""
    uri = "models:/d2v-text@champion" if task == "text" else "models:/d2v-text-tuned@numbers"
    loaded = d2v.load(store / task, device="cpu")
    ask = loaded.encode if task == "text" else loaded.predict
    table = pd.DataFrame({"text": LONG_TEXTS})
    for long in ("cut", "windows"):
        monkeypatch.setenv("D2V_SERVE_LONG", long)
        model = mlflow.pyfunc.load_model(uri)
        right = ask(LONG_TEXTS, long=long)
        capsys.readouterr()
        np.testing.assert_allclose(model.predict(table), right, rtol=1e-4, atol=1e-5)
        said = [line for line in capsys.readouterr().err.splitlines() if "longer than the encoder takes" in line]
        assert len(said) == (long == "cut")
    monkeypatch.setenv("D2V_SERVE_LONG", "error")
    with pytest.raises(RequestRefused, match=r"Item 1 \(from 0\) has \d+ tokens more than .*: send a shorter one"):
        mlflow.pyfunc.load_model(uri).predict(table)
    monkeypatch.setenv("D2V_SERVE_LONG", "some")
    with pytest.raises(ConfigError, match=r"D2V_SERVE_LONG='some' .* cut, windows, error"):
        mlflow.pyfunc.load_model(uri)


# --------------------------------------------------------------------------------------------- refusals

PHOTO, SOUND = as_text(photo()), ITEMS["speech"][0]
BAD: dict[str, tuple[str, Any, str]] = {
    "no items": ("vision", [], 'no items, or no column "image": send'),
    "no column": ("vision", [{}], 'no items, or no column "image": send'),
    "unknown column": ("speech", [{"sound": as_text(SOUND)}], 'no column "recording": send'),
    "only a second": ("text", [{"second": "to be"}], 'no column "text": send'),
    "null": ("vision", [{"image": PHOTO}, {"image": None}], "Item 1 .* is empty: send the base64"),
    "missing cell": ("speech", [{"recording": as_text(SOUND)}, {}], "Item 1 .* is empty: send the base64"),
    "number": ("vision", [{"image": 7}], "Item 0 .* type int: send the base64"),
    "list": ("vision", [{"image": [1, 2]}], "Item 0 .* type list: send the base64"),
    "object": ("speech", [{"recording": {"a": 1}}], "Item 0 .* type dict: send the base64"),
    "not base64": ("vision", [{"image": PHOTO}, {"image": "a photo!"}], "Item 1 .* not base64: send the base64"),
    "a data URL": ("vision", [{"image": f"data:image/png;base64,{PHOTO}"}], "not base64: send the base64"),
    "bad padding": ("speech", [{"recording": "abcde"}], "Item 0 .* not base64: send the base64"),
    "empty file": ("vision", [{"image": ""}], "Item 0 .* file is empty: send another image"),
    "no image": (
        "vision",
        [{"image": as_text(b"hello")}],
        "Item 0 .* not an image of a format that is read .*: send another image",
    ),
    "no sound": ("speech", [{"recording": as_text(b"hello")}], "Item 0 .* not audio.*: send another recording"),
    "an image as a sound": ("speech", [{"recording": PHOTO}], "Item 0 .* not audio"),
    "cut image": ("vision", [{"image": as_text(photo()[:-60])}], "Item 0 .* truncated.*: send another image"),
    "cut sound": ("speech", [{"recording": as_text(SOUND[:-60])}], "Item 0 .* truncated.*: send another recording"),
    "short sound": ("speech", [{"recording": as_text(sound_file(tone(0.0005)))}], "Item 0 .* one frame takes"),
    "many bytes": ("vision", [{"image": as_text(bytes(60_001))}], "max_item_bytes 60,000: send a smaller image, or"),
    "many pixels": (
        "vision",
        [{"image": as_text(photo("JPEG", 100, 101))}],
        "send a smaller image, or .* D2V_SERVE_MAX_PIXELS",
    ),
    "long sound": ("speech", [{"recording": as_text(sound_file(tone(2.1, 8_000), 8_000))}], "D2V_SERVE_MAX_SECONDS"),
    "long text": ("text", [{"text": "a" * 20, "second": "b" * 11}], "31 characters.* D2V_SERVE_MAX_CHARACTERS"),
    "many items": ("text", [{"text": "a"}] * 11, "11 items, above max_items 10: send it in several requests"),
    "a number as text": ("text", [{"text": "a"}, {"text": 7}], "Item 1 .* text is of the type int: send a string"),
    "no text": ("text", [{"text": None}], "Item 0 .* text is empty: send a string"),
    "a number as second": ("text", [{"text": "a", "second": 7}], "Item 0 .* second is of the type .*: send a string"),
    "a list as text": ("text", [{"text": ["a", "b"]}], "Item 0 .* type list: send a string"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_told_what_to_send(servers: dict[str, TestClient], case: str) -> None:
    modality, records, said = BAD[case]
    status, body = post(servers[modality], json.dumps({"dataframe_records": records}))
    assert status == 400
    assert body.keys() == {"error_code", "message"}, "no stack trace"
    assert body["error_code"] == "INVALID_PARAMETER_VALUE"
    assert pd.Series(body["message"]).str.contains(said, regex=True).all(), body["message"]
    assert len(body["message"]) < 300
    assert "\n" not in body["message"]
    status, _ = post(servers[modality], {"dataframe_records": rows(modality, ITEMS[modality][:1])})
    assert status == 200


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "",
        "[1]",
        '{"images": []}',
        '{"dataframe_records": 7}',
        '{"dataframe_split": {"rows": []}}',
        '{"dataframe_records": [{"image": "\\ud800"}]}',
        '{"dataframe_records": [], "inputs": []}',
    ],
)
def test_what_mlflow_refuses_on_its_own(servers: dict[str, TestClient], text: str) -> None:
    status, body = post(servers["vision"], text)
    assert status == 400
    assert "stack_trace" not in body


@pytest.mark.parametrize("modality", ["vision", "speech"])
def test_damaged_files_are_refused_or_read(models: dict[str, PyFuncModel], modality: str) -> None:
    """Whatever is cut off or overwritten, the answer is a refusal or numbers."""
    refused = 0
    for file in ITEMS[modality]:
        for number in range(12):
            damaged = bytearray(file[: len(file) - number % 3 * len(file) // 4])
            for place in RNG.integers(0, len(damaged), number):
                damaged[place] ^= 0xFF
            try:
                assert np.isfinite(models[modality].predict(pd.DataFrame({COLUMN[modality]: [bytes(damaged)]}))).all()
            except RequestRefused:
                refused += 1
    assert refused > 12


def test_limits_come_from_the_environment() -> None:
    assert Limits.from_environment({}) == Limits()
    found = Limits.from_environment({"D2V_SERVE_MAX_SECONDS": "2.5", "D2V_SERVE_MAX_ITEMS": "3", "OTHER": "x"})
    assert found == Limits(seconds=2.5, items=3)
    for wrong in ("many", "0", "-1", "2.5", ""):
        with pytest.raises(ConfigError, match=r"D2V_SERVE_MAX_ITEMS=.* set it to a number above 0"):
            Limits.from_environment({"D2V_SERVE_MAX_ITEMS": wrong})
    for wrong in ("inf", "nan"):
        with pytest.raises(ConfigError, match="D2V_SERVE_MAX_SECONDS"):
            Limits.from_environment({"D2V_SERVE_MAX_SECONDS": wrong})


# -------------------------------------------------------------------------------------- the real command


@pytest.fixture
def address(store: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """`mlflow models serve` of a champion, on a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = ["-m", f"models:/d2v-{request.param}@champion", "--env-manager", "local"]
    uri = f"sqlite:///{store / 'mlflow.db'}"
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": programs, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", *model, "--host", "127.0.0.1", "--port", str(port)]
    with (store / f"{request.param}.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(server, f"http://127.0.0.1:{port}", Path(log.name))
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


def wait_for(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def send(address: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
@pytest.mark.parametrize("address", COLUMN, indirect=True)
def test_mlflow_models_serve_answers(
    address: str, request: pytest.FixtureRequest, models: dict[str, PyFuncModel]
) -> None:
    modality = request.node.callspec.params["address"]
    items = ITEMS[modality]
    expected = models[modality].predict(pd.DataFrame({COLUMN[modality]: items}))
    for _ in range(2):
        status, body = send(address, {"dataframe_records": rows(modality, items)})
        assert status == 200, body
        np.testing.assert_allclose(body["predictions"], expected, rtol=1e-4, atol=1e-5)
        status, body = send(address, {"dataframe_records": [{COLUMN[modality]: None}]})
        assert status == 400
        assert "Item 0 (from 0) cannot be used" in body["message"]
