#!/usr/bin/env bash
# A page's text in trafilatura with deduplicate=True depends on the pages that were read before it.
#
# Guess:    it removes repeated paragraphs within a page. The same page gives the same text, whenever it is read.
# Versions: trafilatura 2.3.1, lxml-html-clean 0.4.6
# Instead:  the memory of paragraphs is the process's. A paragraph is kept the first three times and left out from the
#           fourth page on; a page that is read a fourth time gives nothing at all.
# Means:    a corpus depends on the order of its pages and on how they were split among processes; a test that reads a
#           page again, or a server that runs for long, gets None for a good page. Pass a memory of
#           the page's own: deduplicate=LRUCache(), from trafilatura.deduplication.
# Seen:     2026-12-01
#           six pages, the common paragraph is in: [True, True, True, False, False, False]
#           one page five times, characters: [428, 428, 428, None, None]
#           with a memory of its own each time: [536, 536, 536, 536, 536]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet trafilatura==2.3.1 lxml-html-clean==0.4.6
cd "$work"
venv/bin/python - <<'PY'
from trafilatura import extract
from trafilatura.deduplication import LRUCache

NOTE = "We thank all of the authors for their kind words about this collection, which would not exist without them."


def page(number: int) -> str:
    own = "".join(f"<p>On day {number} walker {i} met {number * 7 + i} foxes and told us so.</p>" for i in range(9))
    return f"<html><body><article><h1>Day {number}</h1>{own}<p>{NOTE}</p></article></body></html>"


has_note = [NOTE in (extract(page(number), deduplicate=True) or "") for number in range(6)]
print(f"six pages, the common paragraph is in: {has_note}")
again = [extract(page(9), deduplicate=True) for _ in range(5)]
print(f"one page five times, characters: {[text and len(text) for text in again]}")
own = [extract(page(9), deduplicate=LRUCache()) for _ in range(5)]
print(f"with a memory of its own each time: {[text and len(text) for text in own]}")
lost = has_note[0] and not has_note[5] and again[0] is not None and again[4] is None
raise SystemExit(0 if lost and len(set(own)) == 1 and own[0] else 1)
PY
