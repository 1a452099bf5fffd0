#!/usr/bin/env bash
# LanceDB's merge_insert ("upsert") adds the same new key twice; once the key is there, the same batch is an error.
#
# Guess:    an upsert leaves one row a key: of two rows with one key in a batch the last wins, or both are refused.
# Versions: lancedb 0.40.0, pyarrow 25.0.1, numpy 2.3.5
# Instead:  two rows with a key that the table lacks are both inserted. The same call again is refused as ambiguous, and
#           an upsert of one row with that key changes both.
# Means:    a repeated item in the first batch makes twins that every search answers with twice; a retry of the same
#           batch, which an upsert is made for, then fails for good. Drop repeated keys from every batch before.
# Seen:     2026-11-30
#           first time: 2 rows with the key
#           again: ValueError
#           one row with that key: 2 rows, all new: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet lancedb==0.40.0 pyarrow==25.0.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import lancedb
import pyarrow as pa

schema = pa.schema([("id", pa.int64()), ("value", pa.string())])
table = lancedb.connect("store").create_table("items", schema=schema)


def upsert(*values: str) -> None:
    rows = pa.Table.from_pylist([{"id": 1, "value": value} for value in values], schema=schema)
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)


upsert("a", "b")
twins = table.count_rows("id = 1")
print(f"first time: {twins} rows with the key")
try:
    upsert("a", "b")
    refused = None
except Exception as error:
    refused = type(error).__name__
print(f"again: {refused}")
upsert("c")
values = table.to_arrow()["value"].to_pylist()
print(f"one row with that key: {len(values)} rows, all new: {set(values) == {'c'}}")
raise SystemExit(0 if twins == 2 and refused and values == ["c", "c"] else 1)
PY
