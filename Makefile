# Two commands do all set-up: make train, make test.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train test reproduce lint format typecheck bench golden clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv and install the package with all it needs

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

train: $(READY)  ## train (the default: a nano network on drawn images); ARGS="model=... data=..."
	$(PY) train.py $(ARGS)

test: $(READY)  ## run the tests; ARGS="-k name"
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m "not slow and not network" $(ARGS)

lint: $(READY)  ## ruff and the import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports --no-logo

format: $(READY)  ## let ruff format and mend
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

typecheck: $(READY)  ## mypy
	$(VENV)/bin/mypy

reproduce: $(READY)  ## train as RUN=<run folder> did and compare the figures
	$(PY) -m mambavision_lab.runs.reproduce $(RUN) $(ARGS)

bench: $(READY)  ## time what is worth timing (half an hour); each file in benchmarks/ prints a table
	for name in selective_scan first_call training_step long_images models launching export predict; do \
		$(PY) benchmarks/$$name.py || exit 1; done

golden: $(READY)  ## make the golden outputs of our own networks again
	$(PY) tests/golden/make_plain_toy.py

clean:  ## remove .venv and caches; logs and data stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
