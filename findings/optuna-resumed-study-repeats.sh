#!/usr/bin/env bash
# An Optuna study that is stopped and resumed with its seeded sampler tries the same values again.
#
# Guess:    a stored study goes on: the sampler knows the trials that are there and draws new ones, seed or not.
# Versions: optuna 5.0.0
# Instead:  the storage has the trials, not the state of the sampler. RandomSampler(seed=0) of a new process begins its sequence
#           anew: 3 sessions of 4 trials are 4 different trials, three times. TPESampler does so until its 10 random trials at the
#           start are full, and only then learns. No warning about duplicates.
# Means:    "12 trials" of a job that is preempted often, or of a grid of workers that start with one seed, are 4; the best value
#           stalls and looks converged. No seed for sampling across processes, or seed + the number of trials that are stored.
# Seen:     2026-11-30
#           RandomSampler(seed=0), 3 sessions of 4: 12 trials, 4 different
#           TPESampler(seed=0), 3 sessions of 4: 12 trials, 6 different
#           RandomSampler(), 3 sessions of 4: 12 trials, 12 different
#           RandomSampler(seed=0), 1 session of 12: 12 trials, 12 different
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet optuna==5.0.0
cd "$work"
cat > study.py <<'PY'
import sys

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
kind, name, seed, trials = sys.argv[1:]
sampler = getattr(optuna.samplers, kind)(seed=int(seed) if seed != "none" else None)
study = optuna.create_study(study_name=name, storage="sqlite:///studies.db", sampler=sampler, load_if_exists=True)
study.optimize(lambda trial: trial.suggest_float("rate", 1e-5, 1e-1, log=True), n_trials=int(trials))
values = [trial.params["rate"] for trial in study.trials]
print(f"{len(values)} trials, {len(set(values))} different")
PY
sessions() { for _ in 1 2 3; do venv/bin/python study.py "$1" "$2" "$3" 4; done | tail -1; }
random=$(sessions RandomSampler random 0)
tpe=$(sessions TPESampler tpe 0)
free=$(sessions RandomSampler free none)
once=$(venv/bin/python study.py RandomSampler once 0 12)
printf 'RandomSampler(seed=0), 3 sessions of 4: %s\nTPESampler(seed=0), 3 sessions of 4: %s\n' "$random" "$tpe"
printf 'RandomSampler(), 3 sessions of 4: %s\nRandomSampler(seed=0), 1 session of 12: %s\n' "$free" "$once"
[ "$random" = "12 trials, 4 different" ] && [ "$tpe" = "12 trials, 6 different" ] &&
    [ "$free" = "12 trials, 12 different" ] && [ "$once" = "12 trials, 12 different" ]
