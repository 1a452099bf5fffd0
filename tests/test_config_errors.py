"""Wrong recipes stop before any work: a real `kedro run`, as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command

TYPOS = {
    "visoin.train.seed=1": "visoin: unknown modality; did you mean vision?",
    "vision.ingst.source=x": "did you mean ingest?",
    "vision.train.batchsize=3": "did you mean batch_size?",
    "vision.train.objective.decoder.layer=2": "objective.decoder.layer: unknown key (value 2); did you mean layers?",
    "vision.train.mask.blck=3": "vision.train.mask.blck: unknown key (value 3); did you mean block?",
    "vision.prepare.store_px=many": "vision.prepare.store_px: 'many' does not fit",
    "vision.ingest.source=2024": "number is a text: source: '2024', or --params \"vision.ingest.source='2024'\"",
    "vision.train.optimizer.lr=true": "vision.train.optimizer: lr is True: give a number, or put a text into quotes",
    "vision.train.augment.flip=.inf": "vision.train.augment.flip: inf does not fit; input should be a finite number",
}


def test_all_wrong_entries_are_reported_at_once(kedro: Command, tmp_path: Path) -> None:
    done = kedro("run", "--pipeline=pretrain_vision", "--params", ",".join(TYPOS))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert f"{len(TYPOS)} wrong entries" in done.stderr
    for line in TYPOS.values():
        assert line in done.stderr
    assert not list(tmp_path.iterdir()), "nothing may be written before the recipe is known to be right"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipeline=pretrain_visio"], "there is no pipeline 'pretrain_visio'; did you mean pretrain_vision?"),
        (["--env=cifar", "--pipelines=ingest_vision"], "there is no environment 'cifar'; did you mean cifar10?"),
        (["--pipelines=train_vision"], "kedro run --pipeline=prepare_vision"),
        (["--params", "vision.train.seed=010"], "--params vision.train.seed=010, line 1: 010 is octal"),
    ],
)
def test_one_paragraph_names_the_fix(kedro: Command, arguments: list[str], message: str) -> None:
    done = kedro("run", *arguments)
    assert done.returncode in (2, 3)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
