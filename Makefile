RUN := python3 bootstrap.py

.PHONY: help setup fmt check test test-slow bench bench-scale lock

help:       ## list these targets
	@grep -E '^[a-z-]+: +##' $(MAKEFILE_LIST) | sed -E 's/: +## /\t/' | expand -t 12

setup:      ## make .venv with the locked packages
	@$(RUN)

fmt:        ## format and mend what ruff can mend
	@$(RUN) ruff format . && $(RUN) ruff check --fix .

check:      ## lint, format, types, import layers
	@$(RUN) pre-commit run --all-files

test:       ## the tests without the slow ones
	@$(RUN) pytest

test-slow:  ## the slow tests, the main job among them
	@$(RUN) pytest -m slow

bench:      ## speed of a training step on this machine
	@$(RUN) d2v bench

bench-scale: ## memory, traffic and time of every ZeRO stage on two ranks, into docs/scale.md
	@$(RUN) d2v bench-scale --write docs/scale.md

lock:       ## renew requirements.lock from pyproject.toml
	@$(RUN) uv pip compile pyproject.toml --universal --generate-hashes --extra dev --python-version 3.11 \
		--output-file requirements.lock --upgrade --quiet
