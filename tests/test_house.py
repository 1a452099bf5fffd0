"""What the house promises in words: README commands, make targets, lock, checks in one place."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_readme_sets_up_with_exactly_two_commands() -> None:
    block = re.search(r"```\n(.*?)```", README, re.DOTALL).group(1)
    commands = block.strip().splitlines()
    assert commands == [
        "python3 bootstrap.py kedro run --pipeline=pretrain_vision",
        "python3 bootstrap.py pytest",
    ]


def test_ci_runs_the_checks_and_the_readmes_test_command() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "python3 bootstrap.py pytest" in script.read_text().splitlines()
    assert "pre-commit run --all-files" in script.read_text()


def test_checks_are_defined_once() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"].split()[0] for repository in hooks for hook in repository["hooks"]]
    assert entries == ["ruff", "ruff", "mypy", "lint-imports", "check-jsonschema", "zizmor", "hadolint"]
    elsewhere = (ROOT / "Makefile").read_text() + (ROOT / ".ci" / "run").read_text()
    assert "mypy" not in elsewhere
    assert "lint-imports" not in elsewhere


def test_readme_links_and_folders_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    layout = README.split("## Layout")[1].split("```")[1]
    for name in re.findall(r"^(\S+/|\S+\.yaml)", layout, re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_every_make_target_is_listed() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"\.PHONY: (.*)", text).group(1).split()
    assert targets == re.findall(r"^([a-z-]+): +##", text, re.MULTILINE)


def test_lock_has_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    packages = re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", lock, re.MULTILINE)
    assert {"torch", "torchvision", "torchaudio", "deepspeed", "kedro", "mlflow", "dvc"} <= set(packages)
    assert lock.count("--hash=sha256:") >= len(packages)


def test_data_and_tracking_stay_out_of_git() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/data/**", "!/data/**/", "!.gitkeep", "!*.dvc", "/mlflow.db*", "/mlartifacts/", "/uv.lock"} <= set(ignored)
    layers = sorted(path.name[:2] for path in (ROOT / "data").iterdir() if path.is_dir())
    assert layers == [f"0{number}" for number in range(1, 9)]
