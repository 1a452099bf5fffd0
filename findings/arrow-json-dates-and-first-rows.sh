#!/usr/bin/env bash
# Rows on the way into Arrow: a JSON string turns into a time if it looks like one, and a list of dictionaries loses what its first lacks.
#
# Guess:    a string in JSON is a string; rows of which some have a label become a table with a label column and nulls.
# Versions: pyarrow 26.0.1, datasets 5.2.0, polars 2.1.0, pandas 3.1.1
# Instead:  pyarrow.json and datasets read "2024-01-05" as a timestamp, so the clip's id comes back as a date object and prints with
#           00:00:00; one id of another form anywhere in the file, and all are strings. polars and pandas keep strings. pyarrow's
#           Table.from_pylist and datasets' from_list and from_generator take the columns of the first row: 2 of 3 rows have a
#           label, the table has no such column. Neither warns. polars and pandas have it.
# Means:    joins on the id find nothing, files named after it are not found, and only for the shards in which every id is a date.
#           Give a schema (explicit_schema, features) in both cases.
# Seen:     2026-11-30
#           JSON string 2024-01-05: pyarrow timestamp[s], datasets timestamp[s], polars String, pandas str
#           the same with one more id, clip-7: pyarrow string
#           columns of 3 rows, 2 with a label: pyarrow ['path'], datasets ['path'], from_generator ['path'], polars ['path', 'label'], pandas ['path', 'label']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow==26.0.1 datasets==5.2.0 polars==2.1.0 pandas==3.1.1
cd "$work"
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
venv/bin/python - <<'PY'
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.json
from datasets import Dataset, disable_progress_bars, load_dataset

disable_progress_bars()
lines = '{"id": "2024-01-05"}\n{"id": "2024-01-06"}\n'
Path("rows.jsonl").write_text(lines)
Path("more.jsonl").write_text(lines + '{"id": "clip-7"}\n')
types = [
    str(pyarrow.json.read_json("rows.jsonl").schema.field("id").type),
    load_dataset("json", data_files="rows.jsonl", split="train").features["id"].dtype,
    str(pl.read_ndjson("rows.jsonl")["id"].dtype),
    str(pd.read_json("rows.jsonl", lines=True)["id"].dtype),
]
print("JSON string 2024-01-05: pyarrow {}, datasets {}, polars {}, pandas {}".format(*types))
more = str(pyarrow.json.read_json("more.jsonl").schema.field("id").type)
print("the same with one more id, clip-7: pyarrow", more)
rows = [{"path": "1.wav"}, {"path": "2.wav", "label": "yes"}, {"path": "3.wav", "label": "no"}]
columns = [
    pa.Table.from_pylist(rows).column_names,
    Dataset.from_list(rows).column_names,
    Dataset.from_generator(lambda: iter(rows)).column_names,
    pl.DataFrame(rows).columns,
    pd.DataFrame(rows).columns.tolist(),
]
names = "pyarrow {}, datasets {}, from_generator {}, polars {}, pandas {}"
print("columns of 3 rows, 2 with a label:", names.format(*columns))
first, all_of_them = ["path"], ["path", "label"]
raise SystemExit(
    0
    if types == ["timestamp[s]", "timestamp[s]", "String", "str"]
    and more == "string"
    and columns == [first, first, first, all_of_them, all_of_them]
    else 1
)
PY
