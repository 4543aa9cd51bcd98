# Two commands do all set-up: make train, make test.
PYTHON ?= python3
CONSTRAINTS ?= -c constraints.txt
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY := $(BIN)/python
PACKAGE := $(VENV)/.package
READY := $(VENV)/.installed
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal
QUICK := -m "not slow and not network"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow coverage reproduce lint format typecheck packages docs notebooks speedrun bench torture golden clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv and install the package with all extras; CONSTRAINTS= for the newest versions

$(PACKAGE): pyproject.toml constraints.txt
	@echo "installing into $(VENV); on Linux torch's CUDA build alone is about 5 GB: minutes, the first time"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(CONSTRAINTS) -e .
	@touch $@

$(READY): $(PACKAGE)
	$(PY) -m pip install --quiet $(CONSTRAINTS) -e '.[dev]'
	@touch $@

train: $(PACKAGE)  ## train (the default: a nano network on synthetic images); ARGS="model=... data=..."
	$(PY) train.py $(ARGS)

test: $(READY)  ## run the tests; ARGS="-k name"
	$(PYTEST) $(QUICK) $(ARGS)

test-slow: $(READY)  ## run the tests marked slow, which take minutes each; ARGS="-k name"
	$(PYTEST) -m "slow and not network" $(ARGS)

coverage: $(READY)  ## run the tests of make test and print the lines that they cover
	$(PYTEST) $(QUICK) --cov --cov-report=term $(ARGS)

lint: $(READY)  ## ruff, the import contracts and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

format: $(READY)  ## let ruff format and fix
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

typecheck: $(READY)  ## mypy
	$(BIN)/mypy

packages: $(READY)  ## print the packages and what each imports
	$(PY) docs/draw_packages.py

docs: $(READY)  ## build the site in site/, warnings and broken links as errors
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet

notebooks: $(READY)  ## write the notebooks of examples/ from their scripts; ARGS=--run executes them
	$(PY) docs/make_notebooks.py $(ARGS)

reproduce: $(PACKAGE)  ## train as RUN=<run folder> did and compare the metrics
	$(PY) -m mambavision_lab.runs.reproduce $(RUN) $(ARGS)

speedrun: $(PACKAGE)  ## Fashion-MNIST in a quarter of an hour on two cores with AVX-512: accuracy against seconds; ARGS="--seeds 0 1 2"
	$(PY) benchmarks/speedrun.py $(ARGS)

bench: $(READY)  ## time what is worth timing (half an hour); each file in benchmarks/ prints a table
	for name in selective_scan first_call training_step long_images models launching export predict; do \
		$(PY) benchmarks/$$name.py || exit 1; done

torture: $(READY)  ## fault injection: kills, damaged files, random configs (hours); ARGS="configs --count 100 --seed 1"
	$(PY) -m benchmarks.torture $(ARGS)

golden: $(READY)  ## make the golden outputs of our own networks again
	$(PY) tests/golden/make_plain_toy.py

clean:  ## remove .venv and caches; logs and data stay
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache site
