# make demo: set-up and a first run.  make test: set-up and every check.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Two streams of test files, each with a Ray session and a store of its own. The slow files come
# first, as they are collected.
STREAMS := -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint bench clean

help:
	@echo "make demo    set up, then train, stack and score on the built-in benchmark in runs/demo"
	@echo "make test    set up, then lint, types, layers and tests"
	@echo "make lint    set up, then lint, types and layers"
	@echo "make bench   set up, then every benchmark"
	@echo "make clean   remove caches and build output"
	@echo "PYTHON=...   the interpreter to set up with, 3.11 or newer [python3]"

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: '$(PYTHON)' is not on the PATH; install Python 3.11 or newer," \
	       "or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version 2>&1) is too old; Python 3.11 or newer is needed," \
	       "name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module; install it (Debian: apt install python3-venv)" >&2; \
	  exit 1; }
	@echo "Setting up $(VENV); the first time takes some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[serve,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/tokenfocus demo --out runs/demo

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -q --durations=20 $(STREAMS)

bench: $(STAMP)
	@set -e; for file in benchmarks/[a-z]*.py; do \
	  echo "== $$file"; $(BIN)/python "$$file"; done

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache \
	  .hypothesis
	find tokenfocus_ray tests benchmarks jobs -name __pycache__ -type d -prune -exec rm -rf {} +
