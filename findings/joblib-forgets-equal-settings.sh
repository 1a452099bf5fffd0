#!/usr/bin/env bash
# joblib.Memory computes again for equal settings, if a list or tuple that occurs in them twice was one object before.
#
# Guess:    the cache's key is the value of the arguments: equal settings, made in code or read from a file, are found.
# Versions: joblib 1.6.0, dask 2026.8.0
# Instead:  joblib.hash is that of the pickle, which writes a second mention of the same object as a reference. Settings
#           that use one list in two places have another hash than the same settings read from JSON. dask's tokenize
#           gives both the same.
# Means:    features are computed again, and stored twice, by whoever builds the settings in another way; a hash in a
#           file name or a manifest says "changed" for what is equal. Hash json.dumps(settings, sort_keys=True).
# Seen:     2026-12-01
#           settings equal: True; calls: 4, computed: 2
#           different hashes of the three: joblib 2, dask 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet joblib==1.6.0 dask==2026.8.0
cd "$work"
venv/bin/python - <<'PY'
import json

import joblib
from dask.base import tokenize

window = [25, 10]
settings = {"mel": window, "stft": window}
read = json.loads(json.dumps(settings))
apart = {"mel": [25, 10], "stft": [25, 10]}
runs = []


@joblib.Memory("cache", verbose=0).cache
def features(settings: dict) -> int:
    runs.append(settings)
    return len(settings)


for case in (settings, settings, read, apart):
    features(case)
equal = settings == read == apart
print(f"settings equal: {equal}; calls: 4, computed: {len(runs)}")
hashes = [len({function(case) for case in (settings, read, apart)}) for function in (joblib.hash, tokenize)]
print(f"different hashes of the three: joblib {hashes[0]}, dask {hashes[1]}")
raise SystemExit(0 if equal and len(runs) == 2 and hashes == [2, 1] else 1)
PY
