"""Credentials of a source are used and not written down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from d2v.config import parse
from d2v.config.credentials import without_credentials
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionIngestConfig


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"options": {"key": "AK", "secret": "s", "anon": False}}, {"key": "***", "secret": "***", "anon": False}),
        ({"options": {"client_kwargs": {"aws_session_token": "t"}}}, {"client_kwargs": {"aws_session_token": "***"}}),
        (
            {"options": {"connection_string": "c", "account_name": "a"}},
            {"connection_string": "***", "account_name": "a"},
        ),
        ({"options": {"count": 64, "keywords": ["a"], "token": None}}, {"count": 64, "keywords": ["a"], "token": None}),
    ],
)
def test_options_that_are_credentials_are_hidden(given: dict[str, object], written: dict[str, object]) -> None:
    assert without_credentials(given) == {"options": written}


def test_a_password_in_a_url_is_hidden_and_nothing_else() -> None:
    assert without_credentials("folder sftp://me:pass:word@host/data") == "folder sftp://me:***@host/data"
    others = {"source": "s3://bucket/a:b@c", "train": {"key": "stays", "token": 3}, "labels": ["x", None, 1.5]}
    assert without_credentials(others) == others


def test_a_corpus_holds_none_and_another_key_is_no_other_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = []
    monkeypatch.setattr(LocalFileSystem, "__init__", lambda self, **options: given.append(options))
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        pixels = np.full((40, 40, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    for secret in ("first-secret", "second-secret"):
        config = parse(VisionIngestConfig, {"source": f"file://{tmp_path}/pictures", "options": {"secret": secret}})
        registry.get("vision").ingest(config, tmp_path / "corpus")
    assert {"secret": "first-secret"} in given
    assert "is unchanged" in capsys.readouterr().err
    for file in (tmp_path / "corpus").rglob("*"):
        assert file.is_dir() or b"-secret" not in file.read_bytes(), file
