#!/usr/bin/env bash
# tantivy and LanceDB do not find long words, and in Russian or Greek ordinary words are long.
#
# Guess:    a word of a document is found by a search for it.
# Versions: tantivy 0.27.0, lancedb 0.40.0, pyarrow 22.0.0, numpy 2.3.5
# Instead:  words of 40 bytes or more are left out of the index and of the query, by the default tokenizers of both. A
#           Cyrillic or Greek letter has two bytes, so that is 20 letters.
# Means:    checksums, identifiers, compounds and words of 20 letters are in the text and cannot be found; a query of
#           such a word alone finds nothing, with another word it finds what has the other. LanceDB:
#           max_token_length=None. tantivy: register an analyser without remove_long.
# Seen:     2026-12-01
#           internationalization (20 letters, 20 bytes): tantivy 1, lancedb 1, without limit 1
#           высокий (7 letters, 14 bytes): tantivy 1, lancedb 1, without limit 1
#           достопримечательность (21 letters, 42 bytes): tantivy 0, lancedb 0, without limit 1
#           ηλεκτροεγκεφαλογράφημα (22 letters, 44 bytes): tantivy 0, lancedb 0, without limit 1
#           da39a3ee5e6b4b0d3255bfef95601890afd80709 (40 letters, 40 bytes): tantivy 0, lancedb 0, without limit 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tantivy==0.27.0 lancedb==0.40.0 pyarrow==22.0.0 numpy==2.3.5
cd "$work"
venv/bin/python - <<'PY'
import lancedb
import pyarrow as pa
import tantivy
from lancedb.index import FTS

WORDS = [
    "internationalization",
    "высокий",
    "достопримечательность",
    "ηλεκτροεγκεφαλογράφημα",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
]
builder = tantivy.SchemaBuilder()
builder.add_text_field("text")
index = tantivy.Index(builder.build())
writer = index.writer()
for word in WORDS:
    writer.add_document(tantivy.Document(text=[word]))
writer.commit()
index.reload()
searcher = index.searcher()
store = lancedb.connect("store")
tables = {}
for name, settings in (("default", {}), ("max_token_length=None", {"max_token_length": None})):
    table = store.create_table(name.partition("=")[0], pa.table({"text": WORDS}))
    table.create_index("text", config=FTS(stem=False, **settings))
    tables[name] = table
seen = []
for word in WORDS:
    found = [len(searcher.search(index.parse_query(word, ["text"])).hits)]
    found += [len(table.search(word, query_type="fts").to_list()) for table in tables.values()]
    size = f"{len(word)} letters, {len(word.encode())} bytes"
    print(f"{word} ({size}): tantivy {found[0]}, lancedb {found[1]}, without limit {found[2]}")
    seen.append(found)
raise SystemExit(0 if seen == [[1, 1, 1]] * 2 + [[0, 0, 1]] * 3 else 1)
PY
