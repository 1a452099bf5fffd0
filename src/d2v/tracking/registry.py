"""Registration of models: encoders as `d2v-<modality>`, fine-tuned models as `d2v-<modality>-tuned`."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from d2v.alignment.space import HEADS, is_space, read_space
from d2v.config import first_names
from d2v.data import fingerprint
from d2v.errors import DataError
from d2v.finetuning.model import HEAD, THRESHOLDS, load_finetuned
from d2v.modalities import registry
from d2v.modalities.requests import Request
from d2v.model_folder import CONFIG, ENCODER, read_config
from d2v.tracking.schema import schema_of
from d2v.tracking.store import registering
from d2v.tracking.versions import LINEAGE, has_files

ENCODER_DIGEST, FINETUNED_DIGEST, ALIGNED_DIGEST = "encoder_sha256", "model_sha256", "aligned_sha256"
ALIGNED_NAME = "d2v-aligned"
"""The registered name of aligned spaces."""
SERVING_PACKAGES = (
    *("fsspec", "mlflow", "numpy", "pandas", "pillow", "pyarrow", "pydantic", "rich", "safetensors", "torch"),
)
FINETUNED_PACKAGES = ("deepspeed", "jiwer", "scikit-learn", "scipy")
DESCRIPTION_CHARACTERS = 5000
"""The most that every registry store keeps."""


@dataclass(frozen=True)
class Notes:
    """Notes that a version keeps beside its weights and metrics.

    Attributes:
        card: the model card, in markdown.
        tags: facts to find it by, such as fingerprints.
        lineage: a folder that is kept with it.
    """

    card: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    lineage: Path | None = None


def encoder_name(modality: str) -> str:
    """The registered name of a modality's encoders."""
    return f"d2v-{modality}"


def finetuned_name(modality: str) -> str:
    """The registered name of a modality's fine-tuned models."""
    return f"d2v-{modality}-tuned"


def register_encoder(
    modality: str, folder: Path, metrics: Mapping[str, float], alias: str = "challenger", notes: Notes = Notes()
) -> str:
    """Have the encoder in the registry, once, under an alias. A new one is logged into the active MLflow run.

    Args:
        modality: the model is called `d2v-<modality>`.
        folder: run folder's `encoder` with config.json and encoder.safetensors.
        metrics: kept as tags of the version, so that versions can be compared without their runs.
        alias: moved to the encoder's version.
        notes: card, tags and lineage.

    Returns:
        The version: a new one, or the one that holds these very weights.

    Raises:
        DataError: the folder holds no encoder.
    """
    _check(folder, (CONFIG, ENCODER), "encoder", "train first, then evaluate again")
    name, digest = encoder_name(modality), digest_of(folder, (ENCODER,))
    return _have(name, {ENCODER_DIGEST: digest}, alias, metrics, folder, notes, _log_encoder)


def register_finetuned(
    modality: str, folder: Path, metrics: Mapping[str, float], alias: str = "challenger", notes: Notes = Notes()
) -> str:
    """The same of a fine-tuned model, called `d2v-<modality>-tuned`, whose `predict` gives class names, texts or
    numbers.

    Raises:
        DataError: the folder holds no fine-tuned model.
    """
    files = (CONFIG, ENCODER, HEAD)
    _check(folder, files, "fine-tuned model", f"fine-tune first (kedro run --pipeline=finetune_{modality})")
    name, digest = finetuned_name(modality), digest_of(folder, finetuned_files(folder))
    return _have(name, {FINETUNED_DIGEST: digest}, alias, metrics, folder, notes, _log_finetuned)


def finetuned_files(folder: Path) -> tuple[str, ...]:
    """The files that make two fine-tuned models the same: of several labels, their thresholds too."""
    return (ENCODER, HEAD, THRESHOLDS) if (folder / THRESHOLDS).is_file() else (ENCODER, HEAD)


def register_aligned(
    folder: Path, metrics: Mapping[str, float], alias: str = "challenger", notes: Notes = Notes()
) -> str:
    """The same of an aligned space with its encoders, called `d2v-aligned`, whose `predict` takes a table with the
    columns of one of its modalities and gives vectors of the space.

    Raises:
        DataError: the folder holds no aligned space.
    """
    _check(folder, (CONFIG, HEADS), "aligned space", "align first (kedro run --pipeline=align)")
    digest = {ALIGNED_DIGEST: digest_of(folder, (HEADS,))}
    return _have(ALIGNED_NAME, digest, alias, metrics, folder, notes, _log_aligned)


def digest_of(folder: Path, files: Iterable[str]) -> str:
    """SHA-256 of some files one after the other."""
    digest = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as file:
            while chunk := file.read(2**24):
                digest.update(chunk)
    return digest.hexdigest()


def _check(folder: Path, files: Iterable[str], what: str, fix: str) -> None:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise DataError(f"{folder} holds no {what} (no {' and no '.join(missing)}): {fix}")


def _have(
    name: str,
    digest: Mapping[str, str],
    alias: str,
    metrics: Mapping[str, float],
    folder: Path,
    notes: Notes,
    log_model: Callable[[Path, Notes], str],
) -> str:
    """The version with these weights, a new one if there is none with its files; then card, tags and at last the alias.

    A version begins with its digest, and all else is written again, so that whenever the process is killed the same
    call finds what is there and ends in the same state. Who finds a challenger finds all of it.
    """
    client = MlflowClient()
    with registering(mlflow.get_registry_uri()):
        version = _version_with(name, digest)
        if version is None:
            version = str(mlflow.register_model(log_model(folder, notes), name, tags=dict(digest)).version)
    about = client.get_model_version(name, version)
    facts = {
        "run_id": about.run_id or "none",
        "git_commit": about.tags.get("git_commit") or _git_commit(client, about.run_id),
    }
    facts |= {"recipe_digest": fingerprint.of_values(_recipe_of(folder))[:16]}
    shown = {key: f"{value:g}" for key, value in sorted(metrics.items())}
    for key, text in {**digest, **facts, **notes.tags, **shown}.items():
        client.set_model_version_tag(name, version, key, text)
    if notes.card:
        client.update_model_version(name, version, _shortened(notes.card))
    client.set_registered_model_alias(name, alias, version)
    return version


def _recipe_of(folder: Path) -> Mapping[str, object]:
    """The recipe of a model, with the first names of its keys."""
    if is_space(folder):
        return dict(read_space(folder).about["recipe"])
    config = read_config(folder)
    blocks = {"train": config["recipe"], "finetune": config.get("finetune")}
    first = first_names(registry.recipe_type(config["modality"]), blocks)
    return {"recipe": first["train"], "finetune": first["finetune"]}


def _version_with(name: str, digest: Mapping[str, str]) -> str | None:
    """The newest version of these weights whose files are still there."""
    ((tag, value),) = digest.items()
    found = MlflowClient().search_model_versions(f"name = '{name}' and tags.{tag} = '{value}'")
    versions = sorted((str(one.version) for one in found), key=int, reverse=True)
    return next((version for version in versions if has_files(name, version)), None)


def _git_commit(client: MlflowClient, run_id: str | None) -> str:
    """The commit that the run named, or `unknown`: runs may be deleted, versions outlive them, and a version that was
    registered outside of a run has none."""
    if run_id is None:
        return "unknown"
    try:
        return client.get_run(run_id).data.tags.get("git_commit", "unknown")
    except MlflowException:
        return "unknown"


def _shortened(card: str) -> str:
    """Whole lines of a card, with a word on where the rest is."""
    if len(card) <= DESCRIPTION_CHARACTERS:
        return card
    end = f"\n\n(The whole card is the version's artifact {LINEAGE}/model_card.md.)\n"
    kept = card[: DESCRIPTION_CHARACTERS - len(end)]
    return kept[: kept.rfind("\n")] + end


# ------------------------------------------------------------------------------------------- flavours


def _log_encoder(folder: Path, notes: Notes) -> str:
    width = int(read_config(folder)["recipe"]["encoder"]["width"])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, width))])
    params = ParamSchema([ParamSpec("space", "string", "plain")])
    return _log("encoder", folder, outputs, SERVING_PACKAGES, notes, params)


def _log_finetuned(folder: Path, notes: Notes) -> str:
    outputs = schema_of(load_finetuned(folder).task)
    return _log("model", folder, outputs, SERVING_PACKAGES + FINETUNED_PACKAGES, notes)


def _log(
    kind: str,
    folder: Path,
    outputs: Schema,
    packages: tuple[str, ...],
    notes: Notes,
    params: ParamSchema | None = None,
) -> str:
    """Log a model that answers requests into the active run; its URI."""
    config = read_config(folder)
    modality = registry.get(config["modality"])
    files = {kind: str(folder)} | ({LINEAGE: str(notes.lineage)} if notes.lineage else {})
    code = {"encoder": "pyfunc_encoder.py", "model": "pyfunc_finetuned.py"}[kind]
    logged = mlflow.pyfunc.log_model(
        name=kind,
        python_model=str(Path(__file__).with_name(code)),
        artifacts=files,
        code_paths=[str(Path(__file__).parents[1])],
        signature=ModelSignature(_schema_of(modality.request), outputs, params),
        input_example=pd.DataFrame([modality.request.example(config)]),
        pip_requirements=pinned(packages + modality.packages),
    )
    return str(logged.model_uri)


def _log_aligned(folder: Path, notes: Notes) -> str:
    space = read_space(folder)
    modalities = {name: registry.get(name) for name in space.heads}
    columns = [column for one in modalities.values() for column in one.request.columns]
    packages = SERVING_PACKAGES + FINETUNED_PACKAGES + sum((one.packages for one in modalities.values()), ())
    name, modality = next(reversed(modalities.items()))
    logged = mlflow.pyfunc.log_model(
        name="aligned",
        python_model=str(Path(__file__).with_name("pyfunc_aligned.py")),
        artifacts={"aligned": str(folder)} | ({LINEAGE: str(notes.lineage)} if notes.lineage else {}),
        code_paths=[str(Path(__file__).parents[1])],
        signature=ModelSignature(_schema(columns), Schema([TensorSpec(np.dtype(np.float32), (-1, space.width))])),
        input_example=pd.DataFrame([modality.request.example(read_config(space.encoder_folder(name)))]),
        pip_requirements=pinned(tuple(dict.fromkeys(packages))),
    )
    return str(logged.model_uri)


def _schema_of(request: Request) -> Schema:
    """Columns of text. Files are base64 in them, and no column is required: `d2v.tracking.requests` checks them. A
    `binary` column MLflow would decode on its own, and a required one it would miss on its own, and say neither which
    item is wrong nor what to send."""
    return _schema(request.columns)


def _schema(columns: Iterable[str]) -> Schema:
    return Schema([ColSpec("string", column, required=False) for column in columns])


def pinned(packages: tuple[str, ...]) -> list[str]:
    """`name==version` of installed packages, without local build suffixes, which no index has."""
    return [f"{package}=={importlib.metadata.version(package).split('+')[0]}" for package in packages]
