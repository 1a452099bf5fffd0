"""Writes `version_before/` with the code of git revision 1bc965c, and with no other:

    git worktree add ../before 1bc965c
    PYTHONPATH=../before/src:. python -m tests.compatibility.make_fixtures

Recipes, folders and calls are those of that revision, so this file does not follow when names change.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import wave
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tests.compatibility.items import ITEMS, MANIFEST, STORED, manifest_of, table_of

REVISION = "1bc965c"
PREPARED, START = Path("prepared"), Path("finished/encoder")
TRAIN = {
    "optimizer": {"lr": 2e-3, "eps": 1e-6},
    "schedule": {"warmup_updates": 2},
    "batch_size": 4,
    "max_updates": 8,
    "seed": 3,
    "precision": "fp32",
    "float32_products": "blas",
    "log_every_updates": 1,
    "checkpoint": {"every_updates": 100},
    "monitor": {"grace_updates": 1000},
}
OBJECTIVE = {
    "name": "data2vec2",
    "masks_per_sample": 2,
    "decoder": {"layers": 1, "width": 8, "kernel": 3, "groups": 1},
    "targets": {"top_k_layers": 1},
    "ema": {"decay_start": 0.9, "decay_end": 0.99, "anneal_updates": 10},
}
RECIPES: dict[str, dict[str, Any]] = {
    "vision": {
        "ingest": {"source": "glyphs", "options": {"count": 32, "test_count": 8, "px": 16, "characters": "ABCD"}},
        "prepare": {"store_px": 16, "probe_train_images": 16, "probe_test_images": 8},
        "train": TRAIN
        | {
            "objective": OBJECTIVE | {"cls_loss": 0.5},
            "encoder": {"image_px": 16, "patch_px": 4, "width": 8, "depth": 1, "heads": 2, "drop_path": 0.1},
            "mask": {"kind": "block", "ratio": 0.75, "adjust": 0.07, "block": 2},
            "augment": {"flip": 0.5, "colour_jitter": 0.2},
        },
        "finetune": {
            "task": {"name": "classification", "label_smoothing": 0.1},
            "optimizer": {"lr": 3e-3, "eps": 1e-6, "clip_norm": None},
            "batch_size": 4,
            "max_updates": 6,
            "precision": "fp32",
            "float32_products": "blas",
            "log_every_updates": 1,
            "checkpoint": {"every_updates": 100},
            "layer_decay": 0.7,
            "encoder": {"drop_path": 0.1},
            "mix": {"mixup": 0.7, "cutmix": 1.0, "probability": 0.9},
        },
    },
    "speech": {
        "ingest": {"source": "source", "test_fraction": 0.3},
        "prepare": {"min_seconds": 0.1, "probe_train_items": 8, "probe_test_items": 4, "probe_max_seconds": 0.15},
        "train": TRAIN
        | {
            "objective": OBJECTIVE,
            "encoder": {
                "convs": [[8, 10, 5], [8, 8, 5], [8, 8, 8]],
                "width": 8,
                "depth": 1,
                "heads": 2,
                "position_layers": 1,
                "position_kernel": 5,
                "position_groups": 2,
            },
            "mask": {"kind": "block", "ratio": 0.5, "block": 2},
            "augment": {"max_seconds": 0.2},
            "batch_size": None,
            "batch_budget": {"positions": 4 * 3200, "multiple_of": 2},
        },
    },
    "text": {
        "ingest": {"source": "source", "test_fraction": 0.3},
        "prepare": {
            "vocab_size": 300,
            "block_tokens": 24,
            "packing": "documents",
            "probe": "labels",
            "probe_train_items": 12,
            "probe_test_items": 6,
            "probe_max_tokens": 24,
        },
        "train": TRAIN
        | {
            "objective": OBJECTIVE | {"loss": {"scale": 1.0}},
            "encoder": {"vocab_size": 300, "max_tokens": 24, "width": 8, "depth": 1, "heads": 2},
            "mask": {"kind": "random", "ratio": 0.48},
        },
    },
}


# ------------------------------------------------------------------------------------------- sources


def write_tones(folder: Path) -> None:
    """16 recordings of a tenth to a fifth of a second in two class folders."""
    for name, pitch_hz in (("high", 1800.0), ("low", 250.0)):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            draw = np.random.default_rng([number, int(pitch_hz)])
            time_s = np.arange(int(16_000 * draw.uniform(0.1, 0.2))) / 16_000
            tone = np.sin(2 * np.pi * pitch_hz * draw.uniform(0.8, 1.2) * time_s) + draw.normal(0, 0.2, len(time_s))
            with wave.open(str(folder / name / f"{number}.wav"), "wb") as file:
                file.setparams((1, 2, 16_000, len(tone), "NONE", ""))
                file.writeframes((8000 * tone).astype("<i2").tobytes())


def write_documents(folder: Path) -> None:
    """40 short labelled documents."""
    words = {"animals": ("the cat", "a dog", "one owl"), "weather": ("the rain", "a storm", "some fog")}
    draw = random.Random(0)
    folder.mkdir()
    with (folder / "documents.jsonl").open("w") as file:
        for number in range(40):
            label = list(words)[number % 2]
            text = f"{draw.choice(words[label])} goes by {draw.randrange(9)}."
            file.write(json.dumps({"text": text, "label": label}) + "\n")


SOURCES = {"speech": write_tones, "text": write_documents}


# ---------------------------------------------------------------------------------------------- runs


def make(name: str, out: Path) -> None:
    """A modality's fixtures in `out`, made in the current folder, which is empty."""
    from d2v.config import parse
    from d2v.modalities import registry

    modality, values = registry.get(name), RECIPES[name]
    if name in SOURCES:
        SOURCES[name](Path("source"))
    recipe = parse(modality.recipe, values, at=name)
    modality.ingest(recipe.ingest, Path("corpus"))
    modality.prepare(recipe.prepare, Path("corpus"), PREPARED)
    expected = pretrain_all(modality, recipe)
    kept = [PREPARED, Path("finished"), Path("unfinished")]
    if recipe.finetune is not None:
        expected |= finetune_all(modality, recipe)
        expected |= register(name, START, Path("tuned/model"), Path("registered"))
        kept += [Path("tuned"), Path("tuned_unfinished"), Path("registered")]
    for folder in kept:
        shutil.copytree(folder, out / folder.name)
    (out / "recipe.json").write_text(json.dumps(values, indent=1) + "\n")
    (out / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def pretrain_all(modality: Any, recipe: Any) -> dict[str, Any]:
    """A run to its end, one that is stopped after 5 updates, and one of 2 updates that starts from the encoder."""
    from d2v.errors import Interrupted
    from d2v.loading.model import load
    from d2v.pretrain import pretrain

    pretrain(modality, recipe.train, PREPARED, Path("finished"), recipe.evaluate)
    with suppress(Interrupted):
        pretrain(modality, recipe.train, PREPARED, Path("unfinished"), recipe.evaluate, stops_itself(5))
    onwards = recipe.train.model_copy(update={"max_updates": 2, "start": str(START)})
    pretrain(modality, onwards, PREPARED, Path("onwards"), recipe.evaluate, start=START)
    shutil.rmtree("finished/checkpoints")  # nothing reads them again
    model, items = load(START), ITEMS[modality.name]
    return {
        "losses": losses(Path("finished")),
        "losses_onwards": losses(Path("onwards")),
        "features": model.encode(items).tolist(),
        "features_of_layers": model.encode(items, layers="all").tolist(),
        "features_of_teacher": load(START, teacher=True).encode(items).tolist(),
    }


def finetune_all(modality: Any, recipe: Any) -> dict[str, Any]:
    """A tuning to its end, and one that is stopped after 3 updates."""
    from d2v.errors import Interrupted
    from d2v.finetuning.run import finetune
    from d2v.loading.model import load

    what = (modality, recipe.finetune, recipe.train, PREPARED, START)
    finetune(*what, Path("tuned"))
    with suppress(Interrupted):
        finetune(*what, Path("tuned_unfinished"), stops_itself(3))
    shutil.rmtree("tuned/checkpoints")
    model, items = load("tuned/model"), ITEMS[modality.name]
    return {
        "tuned_losses": losses(Path("tuned")),
        "outputs": model.outputs(items).tolist(),
        "predictions": model.predict(items),
    }


def stops_itself(after: int) -> Any:
    """A tracker that ends its own process's training, as Ctrl-C does, when an update is logged."""
    from d2v.training.tracker import NullTracker

    class StopsItself(NullTracker):
        def log_metrics(self, metrics: dict[str, float], update: int) -> None:
            if update == after:
                signal.raise_signal(signal.SIGTERM)

    return StopsItself()


def losses(run: Path) -> list[float]:
    """Of every update."""
    from d2v.training.history import History

    return [row["train/loss"] for row in History.read(run / "history.csv").rows]


def register(name: str, encoder: Path, tuned: Path, out: Path) -> dict[str, Any]:
    """Registered models' folders under `out`, and what the models say.

    The whole library that MLflow puts beside a model is left out: a process that has imported the project does not
    look there. What runs is the file that MLflow executes, and that stays.
    """
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    import mlflow
    from mlflow.tracking import MlflowClient

    from d2v.tracking.registry import register_encoder, register_tuned

    uri = f"sqlite:///{Path('mlflow.db').resolve()}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    mlflow.set_experiment(experiment_id=MlflowClient().create_experiment("d2v", Path("artifacts").resolve().as_uri()))
    with mlflow.start_run():
        register_encoder(name, encoder, {}, "champion")
        register_tuned(name, tuned, {}, "champion")
    said = {}
    for key, registered in (("encoder", f"d2v-{name}"), ("tuned", f"d2v-{name}-tuned")):
        folder = out / key
        mlflow.artifacts.download_artifacts(f"models:/{registered}@champion", dst_path=str(folder))
        answer = mlflow.pyfunc.load_model(str(folder)).predict(table_of(name))
        said[f"registered_{key}"] = answer.tolist() if isinstance(answer, np.ndarray) else answer
        shutil.rmtree(folder / "code")
        _scrub(folder)
    return said


def _scrub(folder: Path) -> None:
    """No path of this machine, and no library to look for."""
    lines = (folder / "MLmodel").read_text().splitlines()
    kept = [line for line in lines if not line.strip().startswith(("code: ", "artifact_path: file:"))]
    text = re.sub(r"(model_code_path: ).*/", r"\1", "\n".join(kept))
    (folder / "MLmodel").write_text(text + "\n")


def main() -> None:
    import torch

    import d2v

    torch.set_num_threads(1)
    print(f"with {Path(d2v.__file__).parent}, which must be of revision {REVISION}", file=sys.stderr)
    out = STORED.resolve()
    shutil.rmtree(out, ignore_errors=True)
    for name in RECIPES:
        with tempfile.TemporaryDirectory() as scratch:
            os.chdir(scratch)
            make(name, out / name)
    here = os.fspath(Path(d2v.__file__).parents[2])
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for wrong in (b"/tmp/", here.encode(), os.fspath(Path.home()).encode()):
            assert wrong not in content, (path, wrong)
    (out / MANIFEST).write_text(json.dumps(manifest_of(out), indent=1) + "\n")


if __name__ == "__main__":
    main()
