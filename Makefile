# `make run` and `make test` set everything up by themselves on a machine with Python 3.11 to 3.14.
.PHONY: run versioned check test lint bench ui docs setup lock clean

# What cannot work is said before anything is installed.
ifneq ($(words $(CURDIR))$(findstring :,$(CURDIR)),1)
$(error $(CURDIR): make and PATH take no folder with a space or a colon in its path; move the checkout to another one)
endif

VENV := .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
# Container images often set it, and then every process compiles torch, timm, MLflow and Ray anew: seconds in each of 34 stages.
unexport PYTHONDONTWRITEBYTECODE
export RAY_USAGE_STATS_ENABLED = 0
export MLFLOW_DISABLE_TELEMETRY = true

# The first interpreter of a supported version; `make PYTHON=/path/to/python3.12 ...` chooses another.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.14 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$python && break; done)

# The main job: every stage of dvc.yaml that is not up to date, on embedded data by default.
run: versioned setup
	dvc repro
	@$(LOGGED) || { invad-pipe runs sync && touch .invad/synced; }
	@echo "Open reports/index.html; 'make ui' compares the runs in MLflow."

# Whether MLflow's own database has everything already: nothing has changed since it was last asked, which takes three seconds.
LOGGED = test -z "$$MLFLOW_TRACKING_URI" && test -e mlflow.db && test -e .invad/synced && \
	test -z "$$(find dvc.lock .invad/runs -newer .invad/synced 2>/dev/null)"

# DVC needs git beneath it, unless its settings say `no_scm`.
versioned:
	@test -e .git || git rev-parse --git-dir >/dev/null 2>&1 || grep -qis 'no_scm *= *true' .dvc/config.local .dvc/config || { echo \
		"$(CURDIR): not a git repository, and DVC needs one: git clone the project, or say 'git init' here first" >&2; exit 2; }

# Two files of tests at a time; those that take longest begin.
PYTEST := pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Within a minute: lint and the fast tests.
check: lint
	$(PYTEST) -m "not slow and not ray and not browser" tests/unit tests/reference tests/contract

# Lint and all tests, on the real slices too where INVAD_REAL_DATA names their folder.
test: lint
	$(PYTEST)

lint: setup
	ruff check .
	ruff format --check .
	pyrefly check --summary=none

# Speed and memory on this machine, into reports/benchmarks; batch 32 takes 12 GB of main memory without a GPU.
bench: setup
	python benchmarks/training_step.py
	python benchmarks/training_step.py --batch 32 --rounds 3 --variants naive,ours,bfloat16
	python benchmarks/throughput.py
	python benchmarks/overlap.py
	python benchmarks/metrics.py
	python benchmarks/export.py
	python benchmarks/imports.py
	python benchmarks/synthesis.py

ui: setup
	invad-pipe ui

# The page of all commands, after a change of them.
docs: setup
	typer invad.cli utils docs --name invad-pipe --output docs/cli.md

setup: $(VENV)/.installed

# What stages and tests import, in two processes: compiled here once, so that nobody waits for it later, whatever is set.
# Compiling all that is installed would take two minutes.
COMPILED := 'import torch, timm, mlflow.tracking, matplotlib.pyplot' 'import ray.train.torch, ray.tune, ray.data, dvc.cli, dvc.repo'

# The virtual environment holds exactly the lock file's versions.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed; none was found (make PYTHON=... names one)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q invad stages
	@printf '%s\n' $(COMPILED) | tr '\n' '\0' | xargs -0 -n 1 -P 2 $(BIN)/python -c
	@touch $@

# After a change of the dependencies in pyproject.toml: choose and write the exact versions.
lock: setup
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --all-extras \
		--no-emit-index-url --no-header --no-annotate pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
