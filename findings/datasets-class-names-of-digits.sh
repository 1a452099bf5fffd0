#!/usr/bin/env bash
# A column of the digits 1 to 3, cast to a ClassLabel with the names "1" to "4", says 2 to 4 afterwards.
#
# Guess:    casting a column to the class names that it consists of keeps what the rows say.
# Versions: datasets 5.2.0
# Instead:  integers are taken for positions in the list of names, strings for names: [1, 2, 3] becomes "2", "3", "4", ["1", "2",
#           "3"] stays. With as many names as there are digits the last one is an error; a split without it is shifted silently.
# Means:    numbered classes that begin at 1 (speakers, severity, months) move by one when a reader has made integers of them, as
#           CSV and JSON readers do, and the model is scored on the wrong names. Cast to string first, or use class_encode_column.
# Seen:     2026-11-30
#           integers 1, 2, 3: ['2', '3', '4']
#           strings 1, 2, 3: ['1', '2', '3']
#           a CSV file with 1, 2, 3: ['2', '3', '4']
#           class_encode_column: ['1', '2', '3']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datasets==5.2.0
cd "$work"
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
venv/bin/python - <<'PY'
from pathlib import Path

from datasets import ClassLabel, Dataset, disable_progress_bars, load_dataset

disable_progress_bars()
Path("rows.csv").write_text("label\n1\n2\n3\n")
names = ClassLabel(names=["1", "2", "3", "4"])


def said(rows: Dataset) -> list[str]:
    return [rows.features["label"].int2str(number) for number in rows["label"]]


seen = {
    "integers 1, 2, 3": said(Dataset.from_dict({"label": [1, 2, 3]}).cast_column("label", names)),
    "strings 1, 2, 3": said(Dataset.from_dict({"label": ["1", "2", "3"]}).cast_column("label", names)),
    "a CSV file with 1, 2, 3": said(load_dataset("csv", data_files="rows.csv", split="train").cast_column("label", names)),
    "class_encode_column": said(Dataset.from_dict({"label": [1, 2, 3]}).class_encode_column("label")),
}
for name, labels in seen.items():
    print(f"{name}: {labels}")
right, shifted = ["1", "2", "3"], ["2", "3", "4"]
raise SystemExit(0 if list(seen.values()) == [shifted, right, shifted, right] else 1)
PY
