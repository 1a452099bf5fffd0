"""The keys of a recipe that DVC watches: `python -m pipelines.watched <modality> <folder>` writes those that shape the
weights. (The code that it watches is in `dvc.yaml`, and why in `tests/test_dvc_matches_kedro.py`.)

DVC can watch a whole block, or keys one by one. A block holds keys that change nothing (ranks, workers, intervals),
and a list misses defaults and later keys. So stages that train depend on the files of this command: the
parsed recipe, without the keys of `d2v.config.RESULT_NEUTRAL`. Keys have their first names, so that DVC does not train
again for a new name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from d2v.config import RESULT_NEUTRAL, Block, first_names, read_recipe
from d2v.errors import ConfigError, D2vError
from pipelines.recipes import parse_all

CONF = Path(__file__).resolve().parents[1] / "conf"
MEASURES = "bootstrap_resamples"
"""It does not change weights, but the report of a stage that also evaluates."""


def watched(modality: str) -> dict[str, dict[str, Any]]:
    """The keys that shape the weights, of each block of the base recipe that trains.

    Raises ConfigError, also for a value from the environment: DVC would not see another one.
    """
    file = CONF / "base" / f"parameters_{modality}.yml"
    if "${oc.env:" in file.read_text(encoding="utf-8"):
        raise ConfigError(f"{file} takes a value from the environment, which DVC cannot watch: write the value")
    recipe = parse_all({modality: read_recipe(CONF, "base", modality)})[modality]
    blocks = {name: getattr(recipe, name, None) for name in ("train", "finetune")}
    return {name: _shaping(block) for name, block in blocks.items() if block is not None}


def _shaping(block: Block) -> dict[str, Any]:
    values = block.model_dump(mode="json", exclude={key for key in RESULT_NEUTRAL if key != MEASURES})
    return first_names(type(block), values)


def main(modality: str, folder: str) -> int:
    """Write `<folder>/<block>.json` for each block; returns the exit status."""
    try:
        blocks = watched(modality)
    except D2vError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, values in blocks.items():
        (Path(folder) / f"{name}.json").write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
