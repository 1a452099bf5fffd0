"""A scratch git repository with this project in it, and recipes that train in seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

FOLDERS = (".dvc", ".github", "conf", "pipelines", "src")
FILES = (".dvcignore", ".gitignore", ".pre-commit-config.yaml", ".telemetry", "Makefile", "dvc.yaml", "pyproject.toml")
TINY: dict[str, dict[str, Any]] = {
    "vision": {
        "ingest.options": {"count": 200, "test_count": 60, "characters": "ABCD", "seed": 1},
        "prepare": {"store_px": 32, "probe_train_images": 60, "probe_test_images": 40},
        "train.encoder": {"image_px": 32, "patch_px": 8, "width": 32, "depth": 4, "heads": 2},
        "train.batch_size": 8,
        "finetune.labels.share": 0.5,
    },
    "speech": {
        "ingest.options": {"sentences": "short", "count": 80, "test_count": 40, "seed": 1},
        "prepare.probe_train_items": 60,
        "prepare.probe_test_items": 40,
        "train.batch_budget": {"positions": 128000, "multiple_of": 4},
    },
    "text": {
        "prepare": {
            "vocab_size": 400,
            "block_tokens": 32,
            "probe_max_tokens": 32,
            "probe_train_items": 60,
            "probe_test_items": 40,
        },
        "train.encoder.vocab_size": 400,
        "train.encoder.max_tokens": 32,
        "train.batch_size": 8,
    },
}
"""What makes conf/base a matter of seconds, beside fewer updates."""
SHORT = {
    "train.max_updates": 30,
    "train.schedule.warmup_updates": 5,
    "train.log_every_updates": 5,
    "train.probe_every_updates": 15,
    "train.checkpoint.every_updates": 10,
    "evaluate.bootstrap_resamples": 100,
    "finetune.max_updates": 20,
    "finetune.schedule.warmup_updates": 5,
    "finetune.log_every_updates": 5,
    "finetune.bootstrap_resamples": 100,
}


def changed(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with some set by their dotted keys."""
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        inner = values
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return values


@dataclass(frozen=True)
class Checkout:
    """A git repository to run commands in.

    Attributes:
        folder: its root.
        scratch: where its MLflow store is.
    """

    folder: Path
    scratch: Path

    @property
    def environment(self) -> dict[str, str]:
        """Commands take the checkout's own code, as an installation of another one would not, and write into its own
        data/."""
        dropped = ("D2V_", "DVC_", "AWS_", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {
            **kept,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.scratch / 'mlflow.db'}",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "user.name",
            "GIT_CONFIG_VALUE_0": "nobody",
            "GIT_CONFIG_KEY_1": "user.email",
            "GIT_CONFIG_VALUE_1": "nobody@localhost",
        }

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        """A command in a session of its own."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, timeout_s: float = 600, **more: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def dvc(self, *arguments: str, **more: str) -> str:
        """What `dvc` prints."""
        return self.run("dvc", *arguments, **more)

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "a state")

    def set(self, modality: str, changes: Mapping[str, Any]) -> None:
        """Change keys of the modality's base recipe."""
        file = self.folder / "conf" / "base" / f"parameters_{modality}.yml"
        recipe = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({modality: changed(recipe[modality], changes)}, sort_keys=False))

    def clone(self, folder: Path) -> Checkout:
        """Another clone of what is committed."""
        self.run("git", "clone", "--quiet", str(self.folder), str(folder))
        return Checkout(folder, self.scratch)


def make_checkout(scratch: Path) -> Checkout:
    """The project as it lies in the working tree, with tiny recipes, committed."""
    checkout = Checkout(scratch / "checkout", scratch)
    ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache", "local")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, checkout.folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, checkout.folder)
    for modality, changes in TINY.items():
        checkout.set(modality, SHORT | changes)
    checkout.run("git", "init", "--quiet", "--initial-branch=main")
    checkout.commit()
    return checkout
