#!/usr/bin/env bash
# polars leaves out a field of JSON lines that does not occur in the first hundred rows.
#
# Guess:    a field that some rows lack is a column with nulls, or an error; pyarrow makes a column of it.
# Versions: polars 2.1.0, pyarrow 26.0.1
# Instead:  read_ndjson and scan_ndjson take the schema from 100 rows and drop what is not in it: 150 of 300 rows have a
#           label, and the table has no such column. No warning. A number that becomes fractional later is an error, as
#           expected.
# Means:    corpora sorted so that unlabelled rows come first, manifests with a later-added "speaker" or "split", lose
#           the field in whole. Pass infer_schema_length=None, or a schema.
# Seen:     2026-11-30
#           150 of 300 rows have a label; read_ndjson ['path'], scan_ndjson ['path'], infer_schema_length=None ['path', 'label'], pyarrow ['path', 'label']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet polars==2.1.0 pyarrow==26.0.1
cd "$work"
venv/bin/python - <<'PY'
import json

import polars as pl
import pyarrow.json

rows = [{"path": f"{number}.wav"} for number in range(150)] + [
    {"path": f"{number}.wav", "label": "yes"} for number in range(150)
]
with open("rows.jsonl", "w") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)
read, lazy = pl.read_ndjson("rows.jsonl").columns, pl.scan_ndjson("rows.jsonl").collect().columns
whole, other = (
    pl.read_ndjson("rows.jsonl", infer_schema_length=None).columns,
    pyarrow.json.read_json("rows.jsonl").column_names,
)
print(
    f"150 of 300 rows have a label; read_ndjson {read}, scan_ndjson {lazy}, infer_schema_length=None {whole}, "
    f"pyarrow {other}"
)
raise SystemExit(0 if read == lazy == ["path"] and whole == other == ["path", "label"] else 1)
PY
