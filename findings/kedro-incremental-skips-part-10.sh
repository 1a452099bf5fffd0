#!/usr/bin/env bash
# Kedro's IncrementalDataset never loads part-10 after part-9, nor anything else whose name is not last in the alphabet.
#
# Guess:    the partitions that were not there at the last confirm() are loaded.
# Versions: kedro 1.7.0, kedro-datasets 9.6.0
# Instead:  the checkpoint is the last name of what was loaded, and a partition is new if its name sorts after that, as
#           a string. The tenth shard, a recording that comes late with an earlier date, a speaker "ann" after "zoe":
#           they are left out for good. A load with nothing new is an empty dictionary, not an error.
# Means:    a pipeline that ingests what is new loses data without a word as soon as names are not in order. Pad numbers
#           and let names begin with the time of arrival, or give the checkpoint a comparison_func.
# Seen:     2026-12-01
#           arrived ['part-8', 'part-9'], loaded ['part-8', 'part-9']
#           arrived ['part-10', 'part-11'], loaded []
#           arrived ['late-7', 'part-9b'], loaded ['part-9b']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet kedro==1.7.0 kedro-datasets==9.6.0
cd "$work"
venv/bin/python - <<'PY'
from pathlib import Path

from kedro_datasets.partitions import IncrementalDataset

folder = Path("shards")
folder.mkdir()
seen = []
for arriving in (["part-8", "part-9"], ["part-10", "part-11"], ["late-7", "part-9b"]):
    for name in arriving:
        folder.joinpath(f"{name}.txt").write_text(name)
    shards = IncrementalDataset(path=str(folder), dataset="text.TextDataset", filename_suffix=".txt")
    seen.append(sorted(shards.load()))
    shards.confirm()
    print(f"arrived {arriving}, loaded {seen[-1]}")
raise SystemExit(0 if seen == [["part-8", "part-9"], [], ["part-9b"]] else 1)
PY
