#!/usr/bin/env bash
# datasets.map returns yesterday's result after the function was edited, if the function lives in a module.
#
# Guess:    the cache key of map hashes the function's code, so an edited function runs again (the documentation speaks
#           of the function's hash; a function of the script itself is hashed by its code).
# Versions: datasets 5.2.0
# Instead:  what can be imported is hashed by its name alone. In a new process, with the module changed from x * 2 to x
#           * 100, map(module.function) returns x * 2 from the cache, and so does map(lambda row: module.function(row)).
#           The same edit to a function of the script itself is noticed.
# Means:    a fix in a project's own preprocessing package does not reach the data on any machine that has run it
#           before, and nothing is logged. Pass new_fingerprint with a version or a hash of the source, or
#           load_from_cache_file=False.
# Seen:     2026-11-30
#           factor 2: function of a module [2, 4], lambda around it [2, 4], own [2, 4]
#           factor 100: function of a module [2, 4], lambda around it [2, 4], own [100, 200]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet datasets==5.2.0
cd "$work"
venv/bin/python - <<'PY'
import os
import pathlib
import shutil
import subprocess
import sys

pathlib.Path("rows.jsonl").write_text('{"x": 1}\n{"x": 2}\n')
script = """
import datasets, preparing
datasets.disable_progress_bars()
rows = datasets.load_dataset("json", data_files="rows.jsonl", split="train", cache_dir="cache")
def own(row):
    return {"y": row["x"] * FACTOR}
for function in (preparing.scale, lambda row: preparing.scale(row), own):
    print(rows.map(function)["y"][:])
"""
seen = {}
for factor in (2, 100):
    pathlib.Path("script.py").write_text(script.replace("FACTOR", str(factor)))
    pathlib.Path("preparing.py").write_text(f"def scale(row):\n    return {{'y': row['x'] * {factor}}}\n")
    shutil.rmtree("__pycache__", ignore_errors=True)
    environment = {**os.environ, "HF_HOME": os.path.abspath("home"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True, check=True)
    seen[factor] = done.stdout.strip().splitlines()[-3:]
    print(
        f"factor {factor}: function of a module {seen[factor][0]}, lambda around it {seen[factor][1]}, own "
        f"{seen[factor][2]}"
    )
raise SystemExit(0 if seen[100] == ["[2, 4]", "[2, 4]", "[100, 200]"] and seen[2] == ["[2, 4]"] * 3 else 1)
PY
