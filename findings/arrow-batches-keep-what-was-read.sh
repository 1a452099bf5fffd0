#!/usr/bin/env bash
# pyarrow's iter_batches, the way to read a Parquet file piece by piece, ends with the whole file in memory.
#
# Guess:    memory holds the batch at hand and the row group it comes from, whatever the size of the file.
# Versions: pyarrow 26.0.1, numpy 2.3.5
# Instead:  ParquetFile has pre_buffer=True by default, and the ranges that it has fetched stay with the reader until it is closed.
#           4 million rows of 32 bytes in 40 row groups: 128 MB are held at the last batch, and still after it, on a local disk.
#           pre_buffer=False holds one row group, with the same rows.
# Means:    a corpus larger than the memory cannot be walked through by iter_batches as its examples show it; the process grows to
#           the size of the columns read and is killed late. Pass pre_buffer=False, or call iter_batches once per row group.
# Seen:     2026-11-30
#           the file: 128 MB
#           default: 32, 64, 96, 128 MB after each quarter, 128 MB when done, 0 MB when closed
#           pre_buffer=False: 4, 4, 4, 4 MB after each quarter, 0 MB when done, 0 MB when closed
#           the same rows: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pyarrow==26.0.1 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import hashlib
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

random = np.random.default_rng(0)
digest = pa.binary(32)
with pq.ParquetWriter("rows.parquet", pa.schema([("digest", digest)]), compression="none", use_dictionary=False) as writer:
    for _ in range(40):
        data = pa.py_buffer(random.bytes(32 * 100_000))
        writer.write_table(pa.table({"digest": pa.Array.from_buffers(digest, 100_000, [None, data])}))
del data
print(f"the file: {os.path.getsize('rows.parquet') // 1_000_000} MB")


before = pa.total_allocated_bytes()


def megabytes() -> int:
    return round((pa.total_allocated_bytes() - before) / 1e6)


def walked(name: str, **options) -> tuple[list[int], str]:
    file, held, rows = pq.ParquetFile("rows.parquet", **options), [], hashlib.sha256()
    for number, batch in enumerate(file.iter_batches(10_000), 1):
        rows.update(b"".join(batch["digest"].to_pylist()))
        if number % 100 == 0:
            held.append(megabytes())
    del batch
    held.append(megabytes())
    file.close()
    del file
    held.append(megabytes())
    quarters = ", ".join(map(str, held[:4]))
    print(f"{name}: {quarters} MB after each quarter, {held[4]} MB when done, {held[5]} MB when closed")
    return held, rows.hexdigest()


kept, rows = walked("default")
flat, same = walked("pre_buffer=False", pre_buffer=False)
print("the same rows:", rows == same)
raise SystemExit(0 if min(kept[3:5]) > 120 and max(flat) < 10 and kept[5] == 0 and rows == same else 1)
PY
