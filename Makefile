# make install | demo | test | check
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
INSTALLED := .venv/.installed

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

install: $(INSTALLED) ## make .venv with sllm and all it needs, at the tested versions

$(INSTALLED): pyproject.toml constraints.txt
	@python=$$(for name in python3 python3.11 python3.12 python3.13 python; do \
	  $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
	done); \
	[ -n "$$python" ] || { echo "make install: needs Python 3.11 or newer (with venv) on the PATH" >&2; exit 2; }; \
	[ -x $(BIN)/python ] || $$python -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(INSTALLED)

demo: install ## run the whole path on this machine: corpus, shards, three models, evaluation, text
	$(BIN)/sllm run demo

test: install ## run the tests, in two processes: one for those on Ray clusters, then both for the others
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

soak: install ## run the long tests: 50 kills of prepare at random moments, 1000 stops of the stream, a million damaged inputs
	SLLM_SOAK_KILLS=50 $(BIN)/python -m pytest tests/jobs/test_prepare_reruns.py -k kills
	SLLM_SOAK_STOPS=1000 $(BIN)/python -m pytest tests/pipeline/stream/test_order.py -k stop
	SLLM_SOAK_FUZZ=1000000 $(BIN)/python -m pytest tests/fuzz

faults: install ## strike real jobs on a real local Ray cluster at random moments, and judge what they wrote: MOMENTS=20 SEED=1
	$(BIN)/python -m tests.faults --moments $(or $(MOMENTS),3) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.faults.detached

tutorial: install ## run the tutorial from a wheel in a fresh environment, and its commands for a cluster on one of this machine
	SLLM_TUTORIAL=1 $(BIN)/python -m pytest -n 2 tests/docs/test_wheel.py tests/docs/test_cluster.py

docs: install ## write the documentation as a site to site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

matrix: install ## run the tests with the oldest and the newest supported dependencies, in environments below .matrix
	$(BIN)/python -m tests.matrix

check: install ## check formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: help install demo test soak faults tutorial docs matrix check
