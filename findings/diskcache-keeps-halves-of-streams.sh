#!/usr/bin/env bash
# A download into diskcache that breaks off leaves what has come on the disk, and no limit of the cache ever counts or removes it.
#
# Guess:    Cache.set(key, stream, read=True) is all or nothing: if the stream raises, nothing is stored, and the disk is as before; and
#           volume() is what the folder holds, so that size_limit bounds it.
# Versions: diskcache 5.6.3
# Instead:  the key is not there, as guessed. The file is: of each try under a new random name, without a row in the database. volume()
#           does not count it, no eviction and no clear() removes it, and check() alone does, which also removes every other file
#           below the cache's folder that it does not know.
# Means:    a cache of models or archives with a limit of 20 GB fills a disk of any size when downloads break off and are tried again. Fetch
#           into a file of your own first, or give Cache a Disk whose store() removes its file when it fails.
# Seen:     2026-12-01
#           after 3 tries: key there False, volume 32768, bytes in .val files 15728640
#           after clear(): bytes in .val files 15728640
#           after check(fix=True): bytes in .val files 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet diskcache==5.6.3
cd "$work"
venv/bin/python - <<'PY'
import io
import warnings
from pathlib import Path

from diskcache import Cache

MB = 2**20
warnings.simplefilter("ignore")


class Broken(io.RawIOBase):
    """Gives 5 MB and then fails."""

    left = 5 * MB

    def read(self, size=-1):
        if self.left == 0:
            raise ConnectionError("reset")
        size = min(size if size > 0 else MB, self.left)
        self.left -= size
        return b"x" * size


def held():
    return sum(file.stat().st_size for file in Path("cache").rglob("*.val"))


cache = Cache("cache", size_limit=MB, disk_min_file_size=0)
for _ in range(3):
    try:
        cache.set("model", Broken(), read=True)
    except ConnectionError:
        pass
seen = [held()]
print(f"after 3 tries: key there {'model' in cache}, volume {cache.volume()}, bytes in .val files {seen[0]}")
was_counted = "model" in cache or cache.volume() > MB
cache.clear()
seen.append(held())
print("after clear(): bytes in .val files", seen[1])
cache.check(fix=True)
seen.append(held())
print("after check(fix=True): bytes in .val files", seen[2])
raise SystemExit(0 if seen == [15 * MB, 15 * MB, 0] and not was_counted else 1)
PY
