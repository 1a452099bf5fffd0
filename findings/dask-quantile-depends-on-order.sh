#!/usr/bin/env bash
# dask's median of the same numbers is another in another order: its 50th percentile may be the 70th.
#
# Guess:    an approximate quantile is off by a percent or so, and the order of the rows does not matter.
# Versions: dask 2026.8.0, pandas 2.3.3, numpy 2.3.5, pyarrow 22.0.0
# Instead:  each chunk is reduced to the quantiles that were asked for, and those are merged. If the chunks differ, as
#           those of a data set sorted by speaker, source or date do, nothing is left in between: of 50,000 quiet and
#           50,000 loud values "the median" lies above 70% of them. Shuffled, it is right. Asking for more quantiles
#           changes the median, too.
# Means:    cut-offs from dask (durations, loudness, scores at a percentile) filter other shares of the data than they
#           say. Shuffle first, or count values in a histogram with fixed edges.
# Seen:     2026-12-01
#           25th percentile: above 55% (array), 53% (frame); shuffled 26%, 26%
#           50th percentile: above 70% (array), 70% (frame); shuffled 51%, 51%
#           75th percentile: above 88% (array), 88% (frame); shuffled 76%, 76%
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet 'dask[array,dataframe]==2026.8.0' pandas==2.3.3 numpy==2.3.5 pyarrow==22.0.0
cd "$work"
venv/bin/python - <<'PY'
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd

generator = np.random.default_rng(0)
sources = np.concatenate([generator.lognormal(0, 1, 50_000), generator.lognormal(5, 1, 50_000)])
shuffled = generator.permutation(sources)


def share_below(values: np.ndarray, wanted: int) -> tuple[float, float]:
    array = np.ravel(da.percentile(da.from_array(values, chunks=10_000), wanted).compute())[0]
    frame = dd.from_pandas(pd.Series(values), npartitions=10).quantile(wanted / 100).compute()
    return np.mean(values < array), np.mean(values < frame)


apart = {}
for wanted in (25, 50, 75):
    by_source, mixed = share_below(sources, wanted), share_below(shuffled, wanted)
    apart[wanted] = by_source, mixed
    print(f"{wanted}th percentile: above {by_source[0]:.0%} (array), {by_source[1]:.0%} (frame); ", end="")
    print(f"shuffled {mixed[0]:.0%}, {mixed[1]:.0%}")
wrong = all(min(by_source) * 100 > wanted + 10 for wanted, (by_source, _) in apart.items())
right = all(abs(share * 100 - wanted) < 3 for wanted, (_, mixed) in apart.items() for share in mixed)
raise SystemExit(0 if wrong and right else 1)
PY
