"""align: encoders and pairs -> features -> heads of a space that modalities share -> recall table, registered space.

It is one step of all modalities, so its nodes stand in a namespace of its own beside theirs.
"""

import warnings
from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config.alignment import AlignConfig
from d2v.modalities import registry

NAMESPACE = "align"
CORPORA, RUNS = (tuple(f"{name}.{kind}_dir" for name in registry.MODALITIES) for kind in ("corpus", "run"))


def create_pipeline() -> Pipeline:
    """Align the encoders that pretraining left, or those that the recipe names."""
    return _pipeline(
        (encode_pairs, ["params:align", "align.features_dir", *CORPORA, *RUNS], "align.features"),
        (train_heads, ["params:align", "align.features", "align.run_dir", *RUNS], "align.run_folder"),
        (evaluate_aligned, ["params:align", "align.features", "align.run_folder", "align.report_dir"], "align.report"),
        (register_aligned, ["align.run_folder", "align.report"], "align.registered"),
    )


def create_promotion_pipeline(after_registering: bool = False) -> Pipeline:
    """Decide on the registered challenger; in a chain with `create_pipeline`, once that has registered one."""
    inputs = ["params:align", "align.features", "align.promotion_dir", *CORPORA]
    inputs += ["align.registered"] if after_registering else []
    return _pipeline((promote_aligned, inputs, "align.promotion"))


def _pipeline(*nodes: tuple) -> Pipeline:
    with warnings.catch_warnings():  # Kedro warns of a node that takes from several namespaces, as these are to
        warnings.simplefilter("ignore", UserWarning)
        made = [
            Node(function, inputs, outputs, name=function.__name__, namespace=NAMESPACE, tags=[NAMESPACE])
            for function, inputs, outputs in nodes
        ]
        return Pipeline(made)


def _by_modality(folders: tuple[Path, ...]) -> dict[str, Path]:
    return dict(zip(registry.MODALITIES, folders, strict=True))


def encode_pairs(config: AlignConfig, out: Path, *folders: Path) -> Path:
    """Encode every item of the recipe's pairs once, under `out`; the encoders stay as they are."""
    from d2v.lifecycle.aligned import encode_corpora

    count = len(registry.MODALITIES)
    return encode_corpora(config, _by_modality(folders[:count]), _by_modality(folders[count:]), out)


def train_heads(config: AlignConfig, features: Path, out: Path, *run_dirs: Path) -> Path:
    """Train the heads on these features and write the aligned space under `out`."""
    from d2v.alignment.run import train_space
    from d2v.lifecycle.aligned import encoders_of
    from pipelines.tracking import active_tracker

    tracker = active_tracker()
    tracker.log_params({NAMESPACE: config.model_dump(mode="json")})
    return train_space(config, features, encoders_of(config, _by_modality(run_dirs)), out, tracker)


def evaluate_aligned(config: AlignConfig, features: Path, run: Path, out: Path) -> Path:
    """Recall of held-out pairs in all directions, beside a bag of words and chance; report and metrics under `out`."""
    from d2v.alignment.run import evaluate_space
    from pipelines.tracking import active_tracker

    return evaluate_space(config, features, run, out, active_tracker())


def register_aligned(run: Path, report: Path) -> str:
    """Register the space with its encoders as `d2v-aligned` with the alias `challenger`; its version."""
    from d2v.lifecycle.aligned import register_aligned as run_registration

    return run_registration(run, report)


def promote_aligned(config: AlignConfig, features: Path, out: Path, *corpora: Path | str) -> Path:
    """Measure challenger and champion on the held-out pairs, move aliases, and leave a report under `out`."""
    from d2v.lifecycle.aligned import promote_aligned as run_promotion
    from pipelines.tracking import active_tracker

    folders = tuple(Path(one) for one in corpora[: len(registry.MODALITIES)])
    run_promotion(config, _by_modality(folders), features, out, active_tracker())
    return out
