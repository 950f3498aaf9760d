# `make` alone lists the targets. Everything runs in .venv, which `make` sets up from pyproject.toml.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= results/enriched-simulated
MODEL ?= simulator

# Where it is set, each of the tests' many processes would compile everything again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup enrich test test-slow test-browser torture mutants figures benchmarks check format notebooks screenshots clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "enrichkit needs Python 3.11 or newer; try: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

setup: $(READY) ## make .venv with everything in it

enrich: $(READY) ## the main job: enrich data/funds.csv (MODEL=simulator, OUT=results/enriched-simulated)
	mkdir -p results
	$(BIN)/papermill --cwd notebooks notebooks/01_enrich.ipynb results/01_enrich.ipynb -p model '$(MODEL)' -p out '../$(OUT)' --kernel python3

test: $(READY) ## all quick tests
	$(BIN)/python -m pytest -n 4 --dist loadfile -m 'not slow and not live and not browser'

test-slow: $(READY) ## the slow tests
	$(BIN)/python -m pytest -n 2 -m slow

test-browser: $(READY) ## JupyterLab in a real Chromium, which must be installed
	$(BIN)/python -m pytest -m browser

torture: $(READY) ## the store's long proof: 1,000 kills and all crash states, about half an hour
	PYTHONPATH=tests $(BIN)/python -m proof.torture

mutants: $(READY) ## break the store's promises one by one; each must make a test fail
	PYTHONPATH=tests $(BIN)/python -m proof.mutants

figures: $(READY) ## how large the package is
	PYTHONPATH=tests $(BIN)/python -m proof.figures

benchmarks: $(READY) ## measure; benchmarks/README.md has the figures
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/cluster.py

check: $(READY) ## linter, formatter and strict types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(READY) ## run the notebooks and keep their outputs
	$(BIN)/python notebooks/keep_outputs.py

screenshots: $(READY) ## make the pictures of the README again, with a real Chromium
	PYTHONPATH=tests $(BIN)/python -m proof.screenshots

clean: ## remove what make made, but no results
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
