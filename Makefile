# BiMediX reproducibility kit. `make` alone prints this list.
SHELL := /bin/bash
comma := ,
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODE ?= smoke
NB ?=
RUN ?=
RAW_DIR ?=
MODEL ?=
DATA ?=
SET ?=
TORCH_INDEX ?=
EXTRAS ?=
SOURCE ?=
ROLE ?=
RENEW ?=
PORT ?= 8000
LAPTOP ?=
ROWS ?= 1300000
GPU ?=
USD_PER_HOUR ?=
# Only what was given is passed on: everything else comes from the preset.
GIVEN = $(if $(RUN),RUN=$(RUN)) $(if $(RAW_DIR),"RAW_DIR=$(RAW_DIR)") $(if $(MODEL),"MODEL=$(MODEL)") $(if $(DATA),"DATA=$(DATA)") $(SET)
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval.cfg -p no:cacheprovider -q
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup run report test test-fast lab lint refresh sources weights serve bench-teacher bench-checks bench-mix bench-train bench-memory bench-speed plan launch-files stress ablations orphans rekey missing lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo '  variables: MODE=smoke|laptop|gpu|paper  NB="06 07"  RUN=name  RAW_DIR=folder  MODEL=hub-id-or-folder  DATA=folder  SET="NAME=VALUE ..."'

setup: $(STAMP) ## create .venv and install everything (TORCH_INDEX=<wheel index> for a GPU build, EXTRAS=ray for a cluster)

$(STAMP): pyproject.toml requirements/cpu.txt requirements/torch_build.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 13), "Python 3.11 or 3.12 is needed: make setup PYTHON=python3.11"'
	$(BIN)/python -m pip install --quiet -c requirements/cpu.txt $$($(BIN)/python requirements/torch_build.py "$(TORCH_INDEX)")
	$(BIN)/python -m pip install --quiet -c requirements/cpu.txt -e '.[test$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	touch $@

run: setup ## run the notebooks of MODE that are not fresh, then the report
	@$(BIN)/python -m bimedix_utils.pipeline run --mode "$(MODE)" --nb "$(NB)" --set $(GIVEN)

report: setup ## render a finished run as HTML
	@$(BIN)/python -m bimedix_utils.pipeline report --mode "$(MODE)" --set $(GIVEN)

test: setup ## lint, unit tests, the smoke chain, strict check of the committed notebook outputs
	$(BIN)/ruff check . && $(BIN)/ruff format --check bimedix_utils tests requirements
	@scratch=$$(mktemp -d) && trap "rm -rf $$scratch" EXIT && export BIMEDIX_RUNS=$$scratch && \
	$(BIN)/python -m pytest && \
	echo "the committed notebook outputs, cell by cell:" && $(BIN)/python -m pytest $(NBVAL) notebooks

test-fast: setup ## lint and unit tests only
	$(BIN)/ruff check . && $(BIN)/ruff format --check bimedix_utils tests requirements
	$(BIN)/python -m pytest -m unit

lab: setup ## open JupyterLab at the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks 00_check_environment.ipynb

lint: setup ## check and format the code
	$(BIN)/ruff check --fix . && $(BIN)/ruff format bimedix_utils tests requirements

refresh: setup ## execute the notebooks in smoke mode and store their outputs in them (ALL=1: machine-dependent cells too)
	$(BIN)/python -m bimedix_utils.refresh $(if $(ALL),--all)

sources: setup ## fetch published sources into data/raw (SOURCE="medmcqa medqa" or ROLE=train|validation|test; RENEW=1 accepts a new revision)
	@$(BIN)/python -m bimedix_utils.hub $(SOURCE) $(if $(ROLE),--role $(ROLE)) $(if $(RENEW),--renew)

weights: setup ## fetch the small real model of laptop mode into data/raw/weights (0.6 GB)
	@$(BIN)/python -m bimedix_utils.weights

serve: setup ## serve that model, or MODEL, as an OpenAI-compatible teacher on this machine (PORT=8000)
	@$(BIN)/python -m bimedix_utils.serve --model "$(MODEL)" --port $(PORT)

bench-teacher: setup ## measure the teacher engine, about 6 minutes; writes runs/bench/teacher.json
	@$(BIN)/python tests/benchmarks/teacher.py

bench-checks: setup ## measure the translation checks, about 5 minutes; writes runs/bench/checks.json (STUDY=1 renews data/studies too)
	@$(BIN)/python tests/benchmarks/checks.py $(if $(STUDY),--study)

bench-mix: setup ## measure the mix at full size, about 12 minutes; writes runs/bench/mix.json (ROWS=50000: a quick look)
	@$(BIN)/python tests/benchmarks/mix.py --rows $(ROWS)

bench-train: setup ## measure the training step against TRL, about 20 minutes, needs EXTRAS=bench; writes runs/bench/train.json (LAPTOP=1: also the 373M model)
	@$(BIN)/python tests/benchmarks/train.py $(if $(LAPTOP),--laptop)

bench-memory: setup ## hold the plan's memory model against measured peaks, about 10 minutes; renews data/studies/memory.csv
	@$(BIN)/python tests/benchmarks/memory.py

bench-speed: setup ## sparse against dense, measured and predicted, about 10 minutes; writes runs/bench/speed.json (STUDY=1 renews data/studies too)
	@$(BIN)/python tests/benchmarks/speed.py $(if $(STUDY),--study)

plan: setup ## memory, steps, hours and cost of MODE's training, no GPU needed (GPU="A100 80GB" for another one, USD_PER_HOUR=price)
	@$(BIN)/python -m bimedix_utils.plan --mode "$(MODE)" --run "$(RUN)" $(if $(GPU),--gpu "$(GPU)") $(if $(USD_PER_HOUR),--usd-per-hour $(USD_PER_HOUR))

launch-files: setup ## write the files that start MODE's training on many GPUs: torchrun, accelerate, Slurm
	@$(BIN)/python -m bimedix_utils.launch --mode "$(MODE)" --run "$(RUN)"

stress: setup ## kill -9 a run of 2,000 rows at twenty random moments
	@$(BIN)/python tests/benchmarks/stress.py

ablations: setup ## train and score seven arms with three seeds (at most 20 minutes); renews data/studies/ablations.*
	@$(BIN)/python -m bimedix_utils.ablations

orphans: setup ## list recordings that no prompt or row of the smoke run asks for
	@$(BIN)/python -m bimedix_utils.recordings orphans

rekey: setup ## adopt recordings of an older prompt text that still have the wanted structure
	@$(BIN)/python -m bimedix_utils.recordings rekey

missing: setup ## print skeletons of the recordings the smoke run asks for and does not find
	@$(BIN)/python -m bimedix_utils.recordings missing

lock: setup ## write the installed versions to requirements/cpu.txt
	(head -1 requirements/cpu.txt; $(BIN)/python -m pip freeze --exclude-editable | sed -E "s/\+cpu$$//") > requirements/cpu.new && mv requirements/cpu.new requirements/cpu.txt

clean: ## remove runs and caches; downloads in data/raw and paid answers in data/answers stay
	rm -rf runs .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
