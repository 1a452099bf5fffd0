RUN ?= python3 bootstrap.py
MODALITIES ?= vision speech text
CONF ?= base
SIZES ?= small
PRECISIONS ?= fp32,bf16
NEW ?= .bench/step.json
SEEDS ?= 3

.PHONY: help setup fmt check test test-slow chaos chaos-cluster retrain pull push bench bench-input bench-encode bench-search bench-growth bench-cluster bench-compare bench-scale readme-figures config-docs lock findings

help:       ## list these targets
	@grep -E '^[a-z-]+: +##' $(MAKEFILE_LIST) | sed -E 's/: +## /\t/' | expand -t 16

setup:      ## make .venv with the locked packages
	@$(RUN)

fmt:        ## format and mend what ruff can mend
	@$(RUN) ruff format . && $(RUN) ruff check --fix .

check:      ## lint, format, types, import layers, workflows, Dockerfile
	@$(RUN) pre-commit run --all-files

test:       ## the tests without the slow ones
	@$(RUN) pytest

test-slow:  ## the slow tests, the main job among them
	@$(RUN) pytest -m slow

chaos:      ## kill, starve, damage and double every step of every modality, 200 trials, into docs/chaos.md (half an hour)
	@$(RUN) python -m tests.chaos --write docs/chaos.md

chaos-cluster: ## kill workers, scheduler and command of an ingest on a cluster, ten times each, with a shared folder and a bucket (12 minutes)
	@D2V_KILLS=10 $(RUN) pytest -n0 -m slow tests/data/test_cluster_processes.py

retrain:    ## what a schedule calls: train on new data, promote what is better (MODALITIES="vision text" CONF=own_data)
	@exec 9> .retrain.lock; \
	if command -v flock > /dev/null && ! flock -n 9; then echo "another retraining is at work here" >&2; exit 1; fi; \
	for modality in $(MODALITIES); do \
		$(RUN) kedro run --env=$(CONF) --pipelines=retrain_$$modality || failed="$$failed $$modality"; \
	done; \
	if [ -n "$$failed" ]; then echo "retraining failed:$$failed" >&2; exit 1; fi

pull:       ## the corpora of MODALITIES that CONF trains on, from DVC's remote (DVC_REMOTE, else the default one)
	@$(RUN) python -m pipelines.corpora pull $(CONF) $(MODALITIES) $(if $(DVC_REMOTE),--remote $(DVC_REMOTE))

push:       ## record the corpora of MODALITIES that CONF trains on, and copy them to DVC's remote
	@$(RUN) python -m pipelines.corpora push $(CONF) $(MODALITIES) $(if $(DVC_REMOTE),--remote $(DVC_REMOTE))

bench:      ## speed, memory and breakdown of training steps, into .bench/step.json (SIZES=all PRECISIONS=fp32)
	@mkdir -p .bench
	@$(RUN) python -m benchmarks step --sizes $(SIZES) --precisions $(PRECISIONS) --json .bench/step.json

bench-input: ## ingest, prepare and loading beside their peers and as the data grows, into .bench/input.json and input.png
	@mkdir -p .bench
	@$(RUN) python -m benchmarks input --json .bench/input.json --picture .bench/input.png

bench-encode: ## folders encoded beside transformers, and beside another commit (REF=HEAD~1), by turns
	@$(RUN) python -m benchmarks encode $(if $(REF),--ref $(REF))

bench-search: ## libraries for vectors beside d2v index: recall, times, memory, size (SEARCH="--model MODEL --items FOLDER"; pip install faiss-cpu usearch for theirs)
	@$(RUN) python -m benchmarks search $(SEARCH)

bench-growth: ## cost of a step as images, recordings, texts, masks, batches and ranks grow, into .bench/
	@mkdir -p .bench
	@$(RUN) python -m benchmarks growth --json .bench/growth.json --picture .bench/growth.png

bench-cluster: ## ingest on a cluster of this machine beside one process, at 1,000 and 100,000 small images, into .bench/cluster.json
	@mkdir -p .bench
	@$(RUN) python -m benchmarks cluster --json .bench/cluster.json

bench-compare: ## steps of another commit and of this one by turns (REF=HEAD~1 SIZES=v2_image_32), or two of these files (OLD=before.json)
	@$(RUN) python -m benchmarks $(if $(REF),turns $(REF) --sizes $(SIZES) --precisions $(PRECISIONS),compare $(OLD) $(NEW))

bench-scale: ## memory, traffic and time of every ZeRO stage on two ranks, into docs/scale.md
	@$(RUN) python -m benchmarks scale --write docs/scale.md

readme-figures: ## the README's figures and pictures from runs of this commit, three seeds each (SEEDS=1)
	@$(RUN) python -m benchmarks readme --seeds $(SEEDS)

config-docs: ## tables of all keys of recipes, from the config classes, into docs/config.md
	@$(RUN) python -m d2v.modalities.reference docs/config.md

lock:       ## renew requirements.lock from pyproject.toml
	@$(RUN) uv pip compile pyproject.toml --universal --generate-hashes --extra dev --python-version 3.11 \
		--output-file requirements.lock --upgrade --quiet

findings:   ## every script of findings/: what other people's libraries do with valid input (needs a package index)
	@for script in findings/*.sh; do \
		echo "== $$script"; $$script || failed="$$failed $$script"; \
	done; \
	if [ -n "$$failed" ]; then echo "not as recorded:$$failed" >&2; exit 1; fi
