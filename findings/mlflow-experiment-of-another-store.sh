#!/usr/bin/env bash
# MLflow takes the number of the active experiment along to another store, where it is somebody else's.
#
# Guess:    after set_experiment("speech") and set_tracking_uri(another store), start_run records in that store's experiment
#           "speech" or in its default one.
# Versions: mlflow-skinny 3.17.2, SQLite stores
# Instead:  the experiment is remembered as the number that it has in the first store. In a store where another experiment has
#           that number, the run is recorded there without a word; in one that has none, start_run raises "No Experiment with
#           id=1 exists", which names nothing that the program said. set_experiment was never called for the second store.
# Means:    a script that compares with or copies to a second store mixes its runs into other people's experiments. Call
#           set_experiment after every set_tracking_uri, or give start_run the experiment_id.
# Seen:     2026-11-30
#           store with one other experiment: recorded in 'images'
#           new store: MlflowException: No Experiment with id=1 exists
#           set_experiment called again: recorded in 'speech'
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlflow-skinny==3.17.2 sqlalchemy==2.0.44 alembic==1.17.2
cd "$work"
venv/bin/python - <<'PY'
import logging

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

logging.disable(logging.WARNING)
ours, theirs, fresh = (f"sqlite:///{name}.db" for name in ("ours", "theirs", "fresh"))
MlflowClient(theirs).create_experiment("images")
mlflow.set_tracking_uri(ours)
mlflow.set_experiment("speech")


def recorded_in() -> str:
    try:
        with mlflow.start_run() as run:
            return f"recorded in {mlflow.get_experiment(run.info.experiment_id).name!r}"
    except MlflowException as error:
        return f"MlflowException: {error.message}"


mlflow.set_tracking_uri(theirs)
other = recorded_in()
mlflow.set_tracking_uri(fresh)
new = recorded_in()
mlflow.set_experiment("speech")
again = recorded_in()
print("store with one other experiment:", other)
print("new store:", new)
print("set_experiment called again:", again)
assert other == "recorded in 'images'"
assert new == "MlflowException: No Experiment with id=1 exists"
assert again == "recorded in 'speech'"
PY
