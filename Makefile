# `make reproduce` and `make test` set up their own environment and do the whole job.

MODEL ?= tiny
BENCHMARK ?= alfworld
METHODS ?= grpo opd stepopsd
SEEDS ?= 0 1 2
OUT ?= results/reproduce
JOBS ?=
PYTHON ?= python3.11 python3.12

VENV := .venv
BIN := $(VENV)/bin
STEPCREDIT := $(BIN)/stepcredit
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test lint types paper demo bench

help:
	@echo 'make reproduce  train $(METHODS) on $(BENCHMARK) with $(MODEL), seeds $(SEEDS), then the paper'
	@echo 'make test       lint, types and tests'
	@echo 'make demo       the whole chain on toy sizes, a few minutes'
	@echo 'make paper      tables, figures and PDF from the results in OUT=$(OUT)'
	@echo 'make bench      our ALFWorld engine beside stock TextWorld, our rollouts beside plain generate()'
	@echo 'make lint       ruff'
	@echo 'make setup      the environment alone, in $(VENV)'

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@python=''; for candidate in $(PYTHON); do \
	  if $$candidate -c '' 2>/dev/null; then python=$$candidate; break; fi; done; \
	  if [ -z "$$python" ]; then echo 'none of these was found: $(PYTHON)' >&2; exit 2; fi; \
	  test -x $(BIN)/python || $$python -m venv $(VENV)
	@echo 'installing the packages of requirements.lock in $(VENV): minutes, the first time' >&2
	$(BIN)/python -m pip install -qq -r requirements.lock
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

reproduce: setup
	$(STEPCREDIT) reproduce --model $(MODEL) --benchmark $(BENCHMARK) --out $(OUT) $(if $(JOBS),--jobs $(JOBS)) \
	  $(addprefix --method ,$(METHODS)) $(addprefix --seed ,$(SEEDS))

test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

paper: setup
	$(STEPCREDIT) paper $(OUT)

demo: setup
	$(STEPCREDIT) demo $(if $(JOBS),--jobs $(JOBS))

bench: setup
	$(BIN)/python -m envs.alfworld.bench
	$(STEPCREDIT) bench
