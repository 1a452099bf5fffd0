"""Aligned spaces in the lifecycle: which encoders they are made of, registration, promotion."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from d2v.alignment.measure import NEW, encode, mean_recall, measure
from d2v.alignment.pair_features import PairFeatures, read_pair_features
from d2v.alignment.report import CARD
from d2v.alignment.run import SPACE
from d2v.alignment.space import HEADS, TRAINED_ON, read_space, text_digests
from d2v.config.alignment import AlignConfig
from d2v.data.disk import one_at_a_time, read_json
from d2v.data.ingest import CORPUS
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.evaluation.metrics_file import METRICS
from d2v.interchange.aligned import load_aligned
from d2v.interchange.encode_pairs import encode_pairs
from d2v.interchange.load import Model, load
from d2v.lifecycle.gate import Decision, Measured, MetricScore
from d2v.lifecycle.promotion import Unfinished, decide, write_decisions
from d2v.model_folder import ENCODER
from d2v.progress import log
from d2v.tracker import Tracker
from d2v.tracking import registry
from d2v.tracking.models import REGISTERED, registered_model
from d2v.tracking.versions import CHALLENGER, Fetched, Version

UNFINISHED = ".unfinished.json"


def encoders_of(config: AlignConfig, run_dirs: Mapping[str, Path]) -> dict[str, Path]:
    """The model folders of the modalities that the recipe's pairs name.

    Args:
        config: the recipe.
        run_dirs: modality -> folder that its pretraining leaves.

    Raises:
        CheckpointError: an encoder is missing; the message names the command that makes it.
        ConfigError: `align.encoders` names what is no modality.
    """
    found, missing = {}, []
    sides = dict.fromkeys(side for kind in config.pairs.values() for side in (kind.first, kind.second))
    if unknown := config.encoders.keys() - run_dirs.keys():
        raise ConfigError(
            f"align.encoders names {', '.join(sorted(unknown))}, which is no modality: the pairs are of "
            f"{', '.join(sides)}"
        )
    for name in sides:
        given = config.encoders.get(name)
        if given is None and name not in run_dirs:
            raise CheckpointError(f"align.pairs names {name}, which is no modality: known are {', '.join(run_dirs)}")
        folder = registered_model(given) if given and given.startswith(REGISTERED) else Path(given or "")
        folder = run_dirs[name] / "encoder" if given is None else folder
        if (folder / ENCODER).is_file():
            found[name] = folder
        elif given is None:
            missing.append(f"  {name}: no encoder in {folder}; make it with kedro run --pipeline=pretrain_{name}")
        else:
            missing.append(f"  {name}: {given} holds no encoder; correct align.encoders.{name}")
    if missing:
        lines = "\n".join(missing)
        raise CheckpointError(
            f"alignment goes on from trained encoders, and some are not there:\n{lines}\nThen run kedro run "
            "--pipeline=align again, or name others in align.encoders"
        )
    return found


def corpora_of(config: AlignConfig, corpus_dirs: Mapping[str, Path]) -> dict[str, Path]:
    """The corpora that pairs without a table come from. Raises DataError if one is missing, with its command."""
    needed = dict.fromkeys(kind.first for kind in config.pairs.values() if kind.table is None)
    for name in needed:
        if not (corpus_dirs[name] / CORPUS).is_file():
            raise DataError(
                f"{corpus_dirs[name]} holds no corpus to take pairs from: make it with kedro run "
                f"--pipeline=ingest_{name}, or give align.pairs.<name>.table"
            )
    return {name: corpus_dirs[name] for name in needed}


def encode_corpora(
    config: AlignConfig, corpus_dirs: Mapping[str, Path], run_dirs: Mapping[str, Path], out: Path
) -> Path:
    """Features of all pairs, by the encoders that the recipe means."""
    encoders, corpora = encoders_of(config, run_dirs), corpora_of(config, corpus_dirs)
    models: dict[str, Model] = {name: load(folder) for name, folder in encoders.items()}
    return encode_pairs(config, corpora, models, out)


def register_aligned(run: Path, report: Path) -> str:
    """Register a space as `d2v-aligned` with the alias `challenger`; the version."""
    metrics = read_json(report / METRICS, DataError, "run kedro run --pipeline=align again")
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    shown = {name: value for name, value in numbers.items() if name.startswith("align/recall_at_5")}
    version = registry.register_aligned(run / SPACE, shown, notes=registry.Notes((report / CARD).read_text()))
    log(f"register: {registry.ALIGNED_NAME} version {version} is the challenger")
    return version


@one_at_a_time
def promote_aligned(
    config: AlignConfig, corpus_dirs: Mapping[str, Path], features: Path, out: Path, tracker: Tracker
) -> Decision:
    """Decide on the challenger by the mean recall at 5 on held-out pairs, where champion and challenger each read the
    same items through their own encoders; move the aliases, and leave a report in `out`.

    Raises:
        CheckpointError: nothing was registered.
    """
    corpora, found = corpora_of(config, corpus_dirs), read_pair_features(features)
    unfinished = Unfinished(out / UNFINISHED)

    def measure_both(
        challenger: Version, champion: Version | None, ours: Fetched, theirs: Fetched | None
    ) -> tuple[Measured, Measured | None]:
        first = measured(config, corpora, found, ours.model)
        return first, measured(config, corpora, found, theirs.model) if theirs else None

    decision = decide(registry.ALIGNED_NAME, measure_both, config.promote, unfinished)
    if decision is None:
        raise CheckpointError(
            f"no {registry.ALIGNED_NAME} has the alias {CHALLENGER}: train and register one with kedro run "
            "--pipeline=align, then promote"
        )
    write_decisions([decision], out, tracker)
    unfinished.end()
    return decision


def measured(config: AlignConfig, corpora: Mapping[str, Path], found: PairFeatures, space: Path) -> Measured:
    """Recall of an aligned space on the held-out pairs of now.

    Args:
        config: the recipe, which says the pairs.
        corpora: modality -> folder that ingest left.
        found: features of these pairs by some encoders; those of the space itself are computed if it has others.
        space: folder of an aligned space.
    """
    opened = read_space(space)
    wanted = {side for kind in config.pairs.values() for side in (kind.first, kind.second)}
    if missing := wanted - opened.heads.keys():
        raise CheckpointError(
            f"{space} aligns no {', '.join(sorted(missing))}, so it cannot be measured on align.pairs: take the alias "
            "champion from it, or take these pairs out"
        )
    reads = next(iter(opened.heads.values())).reads
    fingerprints = {name: head.fingerprint for name, head in opened.heads.items()}
    if found.identity["encoders"] != fingerprints or found.identity["reads"] != reads:
        with tempfile.TemporaryDirectory() as scratch:
            changed = config.model_copy(update={"features": reads})
            folder = encode_pairs(changed, corpora, load_aligned(space), Path(scratch) / "features")
            found = read_pair_features(folder)
    vectors = encode({name: aligned.head for name, aligned in opened.heads.items()}, found.features)
    directions = measure(vectors, found.features, found.held_out, found.texts, 1, with_baseline=False)
    score = MetricScore(mean_recall(directions))
    return Measured(
        {f"mean recall at 5, {NEW}": score}, {}, (space / HEADS).stat().st_size, 0.0, leaked=_leaked(found, space)
    )


def _leaked(found: PairFeatures, space: Path) -> int:
    """How many of the held-out texts a space was trained on."""
    trained_on = read_json(space / TRAINED_ON, CheckpointError, "register the space again", {"texts": list})["texts"]
    held = set[str]()
    for kind in found.held_out.values():
        if kind.test.second in found.texts:
            held |= {found.texts[kind.test.second][row] for row in kind.test.second_rows.tolist()}
    return len(text_digests(held) & set(trained_on))
