#!/usr/bin/env bash
# diskcache removes ten items when its limit is passed, however large they are, and the one just stored with them.
#
# Guess:    a cache of 10 MB with items of 1 MB holds about 10 of them; a new one takes the place of the oldest one or two,
#           and is there when it has been set.
# Versions: diskcache 5.6.3
# Instead:  once the limit is passed, a set removes cull_limit items (10), whatever their size: with items of a tenth of the
#           limit the whole cache. Of 40 items that were set and asked for at once, 4 were gone again. One item larger
#           than the limit empties the cache, too, and is not kept itself.
# Means:    a cache of few large files (weights, archives, features) is mostly empty, without an error, and `get` after `set`
#           can give None. Say cull_limit=1 and make room until volume() fits, and keep what exceeds the limit out.
# Seen:     2026-12-01
#           usual settings: items held after each set from the 8th on [8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, ...], 4 of 40
#           gone at once; cull_limit=1: [8, 9, 9, 9, ...], 0 of 40; after one item larger than the limit: []
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet diskcache==5.6.3
cd "$work"
venv/bin/python - <<'PY'
from diskcache import Cache


def fill(folder, **options):
    """How many items are held after each set, and how many of them were gone at once."""
    cache = Cache(folder, size_limit=10_000_000, eviction_policy="least-recently-used", **options)
    held, lost = [], 0
    for number in range(40):
        cache.set(number, bytes(1_000_000))
        lost += cache.get(number) is None
        held.append(len(cache))
    return held, lost, cache


held, lost, cache = fill("usual")
print(f"usual settings: items held after each set from the 8th on {held[7:24]}, {lost} of 40 gone at once")
others, gone, _ = fill("one", cull_limit=1)
print(f"cull_limit=1: {others[7:24]}, {gone} of 40 gone at once")
cache.clear()
cache.set("small", b"x")
cache.set("large", bytes(11_000_000))
print(f"after one item larger than the limit: {list(cache)}")
raise SystemExit(0 if min(held[9:]) <= 1 and lost and min(others[9:]) >= 8 and not gone and not len(cache) else 1)
PY
