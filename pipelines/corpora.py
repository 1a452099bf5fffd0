"""The corpora of an environment in DVC: `python -m pipelines.corpora push|pull <environment> <modality>...`.

The corpora of conf/base are outputs of the stages `ingest@<modality>`. Those of other environments are made outside
DVC: `dvc add` records them in a file of their own beside the folder, which belongs into git.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from kedro.config import OmegaConfigLoader
from omegaconf.resolvers import oc

from d2v.errors import ConfigError, D2vError
from d2v.progress import log

PROJECT = Path(__file__).resolve().parents[1]
BASE = "base"


def targets(environment: str, modalities: Sequence[str]) -> dict[str, str]:
    """What DVC calls each modality's corpus: a stage, or a folder below the project.

    Raises:
        ConfigError: there is no such environment.
    """
    names = {one: _names(one) for one in dict.fromkeys((BASE, environment))}
    found = {}
    for modality in modalities:
        corpus = names[environment][modality]["corpus"]
        is_stage = corpus == names[BASE][modality]["corpus"]
        found[modality] = f"ingest@{modality}" if is_stage else f"data/02_intermediate/{modality}/{corpus}"
    return found


def _names(environment: str) -> dict[str, dict[str, str]]:
    if not (PROJECT / "conf" / environment).is_dir():
        raise ConfigError(f"there is no environment {environment!r} in {PROJECT / 'conf'}: give CONF one that is there")
    loader = OmegaConfigLoader(
        str(PROJECT / "conf"), env=environment, base_env=BASE, custom_resolvers={"oc.env": oc.env}
    )
    names: dict[str, dict[str, str]] = loader["globals"]
    return names


def push(environment: str, modalities: Sequence[str], remote: Sequence[str]) -> None:
    """Record corpora, and copy them to the remote."""
    found = list(targets(environment, modalities).values())
    stages = [name for name in found if "@" in name]
    folders = [name for name in found if "@" not in name]
    if stages:
        _dvc("commit", "--force", *stages)
    for folder in folders:
        if not (PROJECT / folder).is_dir():
            raise ConfigError(f"{folder} is not there: ingest it first (kedro run --env={environment})")
        _dvc("add", folder)
    _dvc("push", *remote, *found)


def pull(environment: str, modalities: Sequence[str], remote: Sequence[str]) -> None:
    """Bring the recorded corpora here. One that was never recorded is left out with a line: it is still to be made."""
    found = targets(environment, modalities)
    recorded = []
    for modality, name in found.items():
        if "@" in name or (PROJECT / f"{name}.dvc").is_file():
            recorded.append(name)
        else:
            log(f"pull: {name} was never recorded: `make push CONF={environment} MODALITIES={modality}` does that")
    if recorded:
        _dvc("pull", "--allow-missing", *remote, *recorded)


def _dvc(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=PROJECT, check=False)
    if done.returncode:
        raise D2vError(f"`dvc {' '.join(arguments)}` failed: see above")


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.corpora")
    parser.add_argument("what", choices=("push", "pull"))
    parser.add_argument("environment")
    parser.add_argument("modalities", nargs="+")
    parser.add_argument("--remote")
    asked = parser.parse_args(arguments)
    remote = ("--remote", asked.remote) if asked.remote else ()
    try:
        {"push": push, "pull": pull}[asked.what](asked.environment, asked.modalities, remote)
    except D2vError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
