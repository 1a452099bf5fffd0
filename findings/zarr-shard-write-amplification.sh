#!/usr/bin/env bash
# Filling a zarr shard chunk by chunk writes every earlier chunk again, each time.
#
# Guess:    a write that is aligned to a chunk costs that chunk, sharded or not; shards only save files.
# Versions: zarr 3.1.6, numpy 2.3.5
# Instead:  the shard is the unit of writing. 100 aligned writes of one chunk into one shard hand 51 times the array's
#           bytes to the store (it grows with the number of chunks in a shard; a full one is read and written whole for
#           a one-chunk update). Reading is by chunk, as expected. Without shards the same loop writes the bytes once.
# Means:    appending features batch by batch into big shards, the layout that is recommended for object stores, turns 1
#           TB into tens of TB of requests and is quadratic in the shard. Collect a shard in memory and write it in one
#           assignment.
# Seen:     2026-11-30
#           shards None, 10 rows at once: 400,529 bytes written, 1.0 times the data
#           shards (1000, 100), 10 rows at once: 20,361,395 bytes written, 50.9 times the data
#           shards (1000, 100), 1000 rows at once: 402,599 bytes written, 1.0 times the data
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet zarr==3.1.6 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import numpy as np
import zarr


class Counting(zarr.storage.WrapperStore):
    written = 0

    async def set(self, key, value, *rest, **options):
        type(self).written += len(value)
        return await super().set(key, value, *rest, **options)


data = np.random.default_rng(0).standard_normal((1000, 100)).astype(np.float32)
times = {}
for shards, step in ((None, 10), ((1000, 100), 10), ((1000, 100), 1000)):
    Counting.written = 0
    array = zarr.create_array(
        Counting(zarr.storage.MemoryStore()),
        shape=data.shape,
        chunks=(10, 100),
        shards=shards,
        dtype="float32",
        compressors=None,
    )
    for start in range(0, 1000, step):
        array[start : start + step] = data[start : start + step]
    assert np.array_equal(array[:], data)
    times[shards, step] = Counting.written / data.nbytes
    print(
        f"shards {shards}, {step} rows at once: {Counting.written:,} bytes written, {times[shards, step]:.1f} "
        f"times the data"
    )
small, big, whole = times.values()
raise SystemExit(0 if small < 1.1 and big > 40 and whole < 1.1 else 1)
PY
