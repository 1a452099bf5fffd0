"""DVC on the stages that cost nothing: what a change of a recipe reruns, and remotes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml
from moto.server import ThreadedMotoServer

from d2v.errors import ConfigError
from pipelines import corpora
from pipelines.corpora import targets
from tests.dvc.checkout import Checkout, make_checkout

STAGE = "recipe@vision"
LEFT = "data/05_model_input/vision/recipe/train.json"
KEY = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The recipe's stage has run, and that is committed."""
    made = make_checkout(tmp_path_factory.mktemp("dvc"))
    made.dvc("repro", STAGE)
    made.commit()
    return made


def left(checkout: Checkout) -> str:
    """What DVC recorded of the stage's output."""
    return yaml.safe_load((checkout.folder / "dvc.lock").read_text())["stages"][STAGE]["outs"][0]["md5"]


def test_only_keys_that_shape_the_weights_reach_the_training(checkout: Checkout) -> None:
    before = left(checkout)
    checkout.set("vision", {"train.log_every_updates": 7, "train.distributed.timeout_s": 60})
    assert STAGE in checkout.dvc("repro", STAGE)
    assert left(checkout) == before
    checkout.set("vision", {"train.seed": 5})
    checkout.dvc("repro", STAGE)
    assert left(checkout) != before
    assert json.loads((checkout.folder / LEFT).read_text())["seed"] == 5
    checkout.run("git", "checkout", "--quiet", ".")
    assert "Stage 'recipe@vision' is cached - skipping run" in checkout.dvc("repro", STAGE)
    assert left(checkout) == before


def test_a_wrong_recipe_stops_the_stage_with_its_message(checkout: Checkout) -> None:
    checkout.set("vision", {"train.sead": 5})
    with pytest.raises(AssertionError, match=r"vision\.train\.sead"):
        checkout.dvc("repro", STAGE)
    checkout.run("git", "checkout", "--quiet", ".")
    checkout.dvc("checkout", STAGE)


def test_an_experiment_in_a_copy_runs_the_code_that_it_records(checkout: Checkout) -> None:
    """Its own `src` comes before that of the checkout that is installed, in processes that it starts too."""
    settings = checkout.folder / "src" / "d2v" / "config" / "training.py"
    before = settings.read_text()
    asks = """
import subprocess, sys
child = subprocess.check_output([sys.executable, "-c", "import d2v; print(d2v.__file__)"], text=True)
print("the code in", __file__, "a child has", child)
"""
    settings.write_text(before + asks)
    try:
        said = checkout.dvc("exp", "run", "--temp", "--name", "copied", STAGE)
    finally:
        settings.write_text(before)
    found = re.search(r"the code in (\S+) a child has (\S+)", said)
    assert found is not None, said
    assert all(".dvc/tmp/exps" in path for path in found.groups()), said
    assert left(checkout)


def test_data_elsewhere_is_left_aside_under_dvc(checkout: Checkout, tmp_path: Path) -> None:
    """DVC deletes a stage's outputs before it runs it, and would find none after it."""
    checkout.run("git", "checkout", "--quiet", ".")
    said = checkout.dvc("repro", "--force", "--single-item", "ingest@vision", D2V_DATA=str(tmp_path / "elsewhere"))
    assert f"D2V_DATA={tmp_path / 'elsewhere'} is left aside" in said
    assert not (tmp_path / "elsewhere").exists()
    assert (checkout.folder / "data" / "02_intermediate" / "vision" / "glyphs" / "corpus.json").is_file()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server with an empty bucket `models`."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="models")
    yield address
    server.stop()


def pushed_and_pulled(checkout: Checkout, other: Path, **environment: str) -> None:
    """What one clone pushes, another pulls."""
    checkout.dvc("push", STAGE, **environment)
    clone = checkout.clone(other)
    clone.run("cp", str(checkout.folder / ".dvc" / "config.local"), ".dvc")
    clone.dvc("pull", STAGE, **environment)
    assert (clone.folder / LEFT).read_text() == (checkout.folder / LEFT).read_text()
    assert "up to date" in clone.dvc("status", STAGE)


def test_a_folder_as_remote(checkout: Checkout, tmp_path: Path) -> None:
    checkout.dvc("remote", "add", "--local", "--default", "--force", "store", str(tmp_path / "store"))
    pushed_and_pulled(checkout, tmp_path / "clone")


def test_a_bucket_as_remote(checkout: Checkout, tmp_path: Path, bucket: str) -> None:
    checkout.dvc("remote", "add", "--local", "--default", "--force", "store", "s3://models/d2v")
    checkout.dvc("remote", "modify", "--local", "store", "endpointurl", bucket)
    pushed_and_pulled(checkout, tmp_path / "clone", **KEY)
    listed = boto3.client("s3", endpoint_url=bucket).list_objects_v2(Bucket="models", Prefix="d2v/")
    assert listed["KeyCount"] >= 2


def test_pull_and_push_take_the_corpora_that_an_environment_trains_on(checkout: Checkout, tmp_path: Path) -> None:
    checkout.dvc("remote", "add", "--local", "--default", "--force", "store", str(tmp_path / "store"))
    corpus = checkout.folder / "data" / "02_intermediate" / "vision" / "own_data"
    corpus.mkdir(parents=True)
    (corpus / "corpus.json").write_text("mine")
    shown = checkout.run("make", "--dry-run", "push", "CONF=own_data", "MODALITIES=vision text")
    assert "pipelines.corpora push own_data vision text" in shown
    command = (sys.executable, "-m", "pipelines.corpora")
    checkout.run(*command, "push", "own_data", "vision")
    checkout.commit()
    clone = checkout.clone(tmp_path / "clone")
    clone.run("cp", str(checkout.folder / ".dvc" / "config.local"), ".dvc")
    said = clone.run(*command, "pull", "own_data", "vision", "text")
    assert "data/02_intermediate/text/texts was never recorded: `make push CONF=own_data MODALITIES=text`" in said
    assert (clone.folder / "data" / "02_intermediate" / "vision" / "own_data" / "corpus.json").read_text() == "mine"
    assert not clone.run("git", "status", "--porcelain")


def test_corpora_of_environments() -> None:
    assert targets("base", ["vision", "text"]) == {"vision": "ingest@vision", "text": "ingest@text"}
    assert targets("own_data", ["speech"]) == {"speech": "data/02_intermediate/speech/recordings"}
    assert targets("cifar10", ["vision", "text"]) == {
        "vision": "data/02_intermediate/vision/cifar10",
        "text": "ingest@text",  # that environment has no text of its own
    }
    with pytest.raises(ConfigError, match="there is no environment 'nowhere'"):
        targets("nowhere", ["vision"])


def test_a_remote_may_be_called_as_a_modality(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(corpora, "_dvc", lambda *arguments: calls.append(arguments))
    assert corpora.main(["pull", "base", "vision", "text", "--remote", "vision"]) == 0
    assert calls == [("pull", "--allow-missing", "--remote", "vision", "ingest@vision", "ingest@text")]


def test_what_commands_leave_does_not_show_in_git(checkout: Checkout) -> None:
    for name in ("06_models/vision/x/result.json", "08_reporting/vision/x/metrics.json"):
        file = checkout.folder / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    assert not checkout.run("git", "status", "--porcelain", "--", "data")
