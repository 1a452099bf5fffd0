#!/usr/bin/env bash
# In grain the number of worker processes decides which samples share a batch, and how many batches there are.
#
# Guess:    worker processes make loading faster and leave the batches as they are, as in a data set by index.
# Versions: grain 0.2.18, numpy 2.3.5
# Instead:  mp_prefetch gives each worker every n-th sample and runs all steps before it in the worker, so each worker
#           makes batches of its own and drops a remainder of its own. Of ten samples in batches of four, none arrives
#           from four workers. DataLoader with a Batch operation does the same. Batching before to_iter_dataset is safe.
# Means:    a machine with more cores trains on other batches, and on less data; an evaluation set smaller than workers
#           times batch is empty, so its mean is of nothing. Batch the MapDataset, or batch after mp_prefetch.
# Seen:     2026-12-01
#           0 workers: [[0, 1, 2, 3], [4, 5, 6, 7]], DataLoader: [[0, 1, 2, 3], [4, 5, 6, 7]]
#           2 workers: [[0, 2, 4, 6], [1, 3, 5, 7]], DataLoader: [[0, 2, 4, 6], [1, 3, 5, 7]]
#           4 workers: [], DataLoader: []
#           4 workers, batched by index: [[0, 1, 2, 3], [4, 5, 6, 7]]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grain==0.2.18 numpy==2.3.5
cd "$work"
cat > script.py <<'PY'
import grain


def batches(workers: int, before: bool) -> list[list[int]]:
    samples = grain.MapDataset.range(10)
    if before:
        stream = samples.batch(4, drop_remainder=True).to_iter_dataset()
    else:
        stream = samples.to_iter_dataset().batch(4, drop_remainder=True)
    if workers:
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return [batch.tolist() for batch in stream]


def loaded(workers: int) -> list[list[int]]:
    sampler = grain.samplers.IndexSampler(
        num_records=10, shuffle=False, num_epochs=1, shard_options=grain.sharding.NoSharding()
    )
    operations = [grain.transforms.Batch(4, drop_remainder=True)]
    loader = grain.DataLoader(
        data_source=list(range(10)), sampler=sampler, operations=operations, worker_count=workers
    )
    return [batch.tolist() for batch in loader]


if __name__ == "__main__":
    for workers in (0, 2, 4):
        print(f"{workers} workers: {batches(workers, before=False)}, DataLoader: {loaded(workers)}")
    print(f"4 workers, batched by index: {batches(4, before=True)}", flush=True)
PY
venv/bin/python script.py > out.txt 2> log.txt || { cat log.txt; exit 1; }
cat out.txt
all="[[0, 1, 2, 3], [4, 5, 6, 7]]"
striped="[[0, 2, 4, 6], [1, 3, 5, 7]]"
grep -qF "0 workers: $all, DataLoader: $all" out.txt && grep -qF "2 workers: $striped, DataLoader: $striped" out.txt &&
    grep -qF "4 workers: [], DataLoader: []" out.txt && grep -qF "by index: $all" out.txt
