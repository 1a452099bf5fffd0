#!/usr/bin/env bash
# MLflow's value of a metric is that of the highest step, not the last logged, and infinity becomes a finite number.
#
# Guess:    run.data.metrics and the table of runs show what was logged last; inf is inf, as nan is nan.
# Versions: mlflow-skinny 3.17.2, SQLite store (the default)
# Instead:  a run that reached step 100, was set back to the checkpoint of step 50 and went on to step 60 still shows
#           the loss of step 100, also when it is resumed by id. inf is stored as 1.7976931348623157e+308 and isinf is
#           False; nan stays nan.
# Means:    "best run" tables show a loss of weights that no longer exist, until the run passes the old step. A diverged
#           run passes a check with isinf, spoils a mean by 1e308 and sorts first for "higher is better". Read the
#           history, sort by timestamp, and log nan for what diverged.
# Seen:     2026-11-30
#           logged last: loss 0.3; the run shows 0.5
#           inf: 1.7976931348623157e+308, isinf False; nan: nan
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlflow-skinny==3.17.2 sqlalchemy==2.0.44 alembic==1.17.2
cd "$work"
venv/bin/python - <<'PY'
import logging
import math

import mlflow

logging.disable(logging.WARNING)
mlflow.set_tracking_uri("sqlite:///runs.db")
with mlflow.start_run() as run:
    for step, loss in ((50, 0.6), (100, 0.5)):
        mlflow.log_metric("loss", loss, step=step)
with mlflow.start_run(run_id=run.info.run_id):
    for step, loss in ((51, 0.4), (60, 0.3)):
        mlflow.log_metric("loss", loss, step=step)
    mlflow.log_metric("diverged", math.inf)
    mlflow.log_metric("missing", math.nan)
metrics = mlflow.get_run(run.info.run_id).data.metrics
history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
last = max(history, key=lambda entry: entry.timestamp).value
print(f"logged last: loss {last}; the run shows {metrics['loss']}")
print(f"inf: {metrics['diverged']}, isinf {math.isinf(metrics['diverged'])}; nan: {metrics['missing']}")
raise SystemExit(0 if metrics["loss"] == 0.5 and last == 0.3 and metrics["diverged"] == 1.7976931348623157e308 else 1)
PY
