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
BASE ?=
URL ?=
URL_MODEL ?=
ALLOW_REMOTE ?=
PRECISION ?=
TRANSCRIPT ?=
REPO ?=
WHAT ?=
DRY_RUN ?= 1
LAB_FLAGS ?=
LAPTOP ?=
ROWS ?=
GPU ?=
USD_PER_HOUR ?=
# Only what was given is passed on: everything else comes from the preset.
GIVEN = $(if $(RUN),RUN=$(RUN)) $(if $(RAW_DIR),"RAW_DIR=$(RAW_DIR)") $(if $(MODEL),"MODEL=$(MODEL)") $(if $(DATA),"DATA=$(DATA)") $(SET)
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval.cfg -p no:cacheprovider -q
# One stamp for each set of extras: a further extra is installed though the rest was.
STAMP := $(VENV)/.installed$(if $(EXTRAS),-$(subst $(comma),-,$(EXTRAS)))

.DEFAULT_GOAL := help
.PHONY: help setup run report publish test test-fast lab lint refresh sources weights serve chat answer-batch bench-teacher bench-checks bench-mix bench-train bench-eval bench-memory bench-rules bench-speed plan stress ablations orphans rekey missing lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo '  variables: MODE=smoke|laptop|gpu|paper  NB="06 07"  RUN=name  RAW_DIR=folder  MODEL=hub-id-or-folder  DATA=folder  SET="NAME=VALUE ..."'

setup: $(STAMP) ## create .venv and install everything (TORCH_INDEX=<wheel index> for a GPU build, EXTRAS=ray,chat for more)

$(STAMP): pyproject.toml requirements/cpu.txt requirements/chat.txt requirements/torch_build.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; assert (3, 11) <= sys.version_info[:2] < (3, 13), "Python 3.11 or 3.12 is needed: make setup PYTHON=python3.11"'
	$(BIN)/python -m pip install --quiet -c requirements/cpu.txt $$($(BIN)/python requirements/torch_build.py "$(TORCH_INDEX)")
	awk -F== '!seen[$$1]++' $(if $(findstring chat,$(EXTRAS)),requirements/chat.txt) requirements/cpu.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt -e '.[test$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	touch $(VENV)/.installed $@

run: setup ## run the notebooks of MODE that are not fresh, then the report
	@$(BIN)/python -m bimedix_utils.runner.pipeline run --mode "$(MODE)" --nb "$(NB)" --set $(GIVEN)

report: setup ## render a finished run as pages that open offline: notebooks, exercises, glossary, figures, cards
	@$(BIN)/python -m bimedix_utils.runner.pipeline report --mode "$(MODE)" --set $(GIVEN)

publish: setup ## show exactly what would be uploaded of a run (REPO=owner/name, WHAT="adapter merged mix testset"); DRY_RUN=0 uploads it
	@$(BIN)/python -m bimedix_utils.runner.publish --mode "$(MODE)" --run "$(RUN)" --repo "$(REPO)" --what "$(WHAT)" --dry-run "$(DRY_RUN)"

test: setup ## lint, unit tests, the smoke chain, strict check of the committed notebook outputs
	$(BIN)/ruff check . && $(BIN)/ruff format --check bimedix_utils tests requirements
	@scratch=$$(mktemp -d) && trap "rm -rf $$scratch" EXIT && export BIMEDIX_RUNS=$$scratch && \
	$(BIN)/python -m pytest && \
	echo "the committed notebook outputs, cell by cell:" && $(BIN)/python -m pytest $(NBVAL) notebooks

test-fast: setup ## lint and unit tests only
	$(BIN)/ruff check . && $(BIN)/ruff format --check bimedix_utils tests requirements
	$(BIN)/python -m pytest -m unit

lab: setup ## open JupyterLab at the start page (LAB_FLAGS="--no-browser" for a machine without a browser)
	$(BIN)/jupyter lab --notebook-dir=. --LabApp.app_settings_dir=notebooks/.lab --LabApp.default_url=/lab/tree/notebooks/START_HERE.md $(LAB_FLAGS)

lint: setup ## check and format the code
	$(BIN)/ruff check --fix . && $(BIN)/ruff format bimedix_utils tests requirements

refresh: setup ## execute the notebooks in smoke mode and store their outputs in them (ALL=1: machine-dependent cells too)
	$(BIN)/python -m bimedix_utils.runner.refresh $(if $(ALL),--all)

sources: setup ## fetch published sources into data/raw (SOURCE="medmcqa medqa" or ROLE=train|validation|test; RENEW=1 accepts a new revision)
	@$(BIN)/python -m bimedix_utils.sources.hub $(SOURCE) $(if $(ROLE),--role $(ROLE)) $(if $(RENEW),--renew)

weights: setup ## fetch the small real model of laptop mode into data/raw/weights (0.6 GB)
	@$(BIN)/python -m bimedix_utils.training.weights

serve: setup ## serve that model, or MODEL, as an OpenAI-compatible teacher on this machine (PORT=8000)
	@$(BIN)/python -m bimedix_utils.runner.serve --model "$(MODEL)" --port $(PORT)

chat: ## talk to MODE's tuned model, to MODEL or to the endpoint URL on a page in the browser (PORT=7860, TRANSCRIPT=file keeps what is said)
	@$(MAKE) --no-print-directory setup EXTRAS=chat
	@$(BIN)/python -m bimedix_utils.chat --mode "$(MODE)" --run "$(RUN)" --model "$(MODEL)" --base "$(BASE)" --url "$(URL)" --url-model "$(URL_MODEL)" \
	--transcript "$(TRANSCRIPT)" $(if $(filter-out file,$(origin PORT)),--port $(PORT)) $(if $(PRECISION),--precision $(PRECISION)) $(if $(ALLOW_REMOTE),--allow-remote)

answer-batch: setup ## answer request files of TEACHER=batch by `make serve` (PORT=8000): a stand-in for vllm run-batch
	@$(BIN)/python -m bimedix_utils.teacher.answer_files --url http://127.0.0.1:$(PORT)/v1

bench-teacher: setup ## measure the teacher engine, about 6 minutes; writes runs/bench/teacher.json
	@$(BIN)/python tests/benchmarks/teacher.py

bench-checks: setup ## measure the translation checks, about 5 minutes; writes runs/bench/checks.json (STUDY=1 renews data/studies too)
	@$(BIN)/python tests/benchmarks/checks.py $(if $(STUDY),--study)

bench-mix: setup ## measure the mix at full size, about 12 minutes; writes runs/bench/mix.json (ROWS=50000: a quick look)
	@$(BIN)/python tests/benchmarks/mix.py --rows $(or $(ROWS),1300000)

bench-train: setup ## measure the training step against TRL, about 20 minutes, needs EXTRAS=bench; writes runs/bench/train.json (LAPTOP=1: also the 373M model)
	@$(BIN)/python tests/benchmarks/train.py $(if $(LAPTOP),--laptop)

bench-eval: setup ## hold the scorer against lm-evaluation-harness, over an hour with all rows, goes on after a kill; writes runs/bench/eval.json (ROWS=20: that many of each set; STUDY=1 renews data/studies too)
	@$(BIN)/python tests/benchmarks/evaluation.py $(if $(ROWS),--rows $(ROWS)) $(if $(STUDY),--study)

bench-memory: setup ## hold the plan's memory model against measured peaks, about 10 minutes; renews data/studies/memory.csv
	@$(BIN)/python tests/benchmarks/memory.py

bench-rules: setup ## count what the form rules object to in published dialogues of RAW_DIR; renews data/studies/rules.csv
	@$(BIN)/python tests/benchmarks/rules.py "$(RAW_DIR)"

bench-speed: setup ## sparse against dense, measured and predicted, about 10 minutes; writes runs/bench/speed.json (STUDY=1 renews data/studies too)
	@$(BIN)/python tests/benchmarks/speed.py $(if $(STUDY),--study)

plan: setup ## memory, steps, hours and cost of MODE's training, no GPU needed (GPU="A100 80GB" for another one, USD_PER_HOUR=price)
	@$(BIN)/python -m bimedix_utils.training.plan --mode "$(MODE)" --run "$(RUN)" $(if $(GPU),--gpu "$(GPU)") $(if $(USD_PER_HOUR),--usd-per-hour $(USD_PER_HOUR))

stress: setup ## kill -9 a run of 2,000 rows at twenty random moments
	@$(BIN)/python tests/benchmarks/stress.py

ablations: setup ## train and score seven arms with three seeds (at most 20 minutes); renews data/studies/ablations.*
	@$(BIN)/python -m bimedix_utils.runner.ablations

orphans: setup ## list recordings that no prompt or row of the smoke run asks for
	@$(BIN)/python -m bimedix_utils.runner.recordings orphans

rekey: setup ## adopt recordings of an older prompt text that still have the wanted structure
	@$(BIN)/python -m bimedix_utils.runner.recordings rekey

missing: setup ## print skeletons of the recordings the smoke run asks for and does not find
	@$(BIN)/python -m bimedix_utils.runner.recordings missing

lock: setup ## write the installed versions to requirements/cpu.txt
	(head -1 requirements/cpu.txt; $(BIN)/python -m pip freeze --exclude-editable | sed -E "s/\+cpu$$//") > requirements/cpu.new && mv requirements/cpu.new requirements/cpu.txt

clean: ## remove runs and caches; downloads in data/raw and paid answers in data/answers stay
	rm -rf runs .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
