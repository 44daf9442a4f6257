# Each target sets up its own environment (.venv) first; `make help` lists them.
SHELL := /bin/bash
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup study test lint figures gpu-bundle doctor clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 - /p' $(MAKEFILE_LIST)

setup:  ## make or update the environment in .venv (PYTHON=/path/to/python chooses the interpreter)
	@PYTHON='$(PYTHON)' bash tools/setup.sh

study: setup  ## run the shipped torsion study into out/torsion
	$(BIN)/shapewright run studies/torsion.yaml --out out/torsion

# One thread a process: the tests' problems are too small for more to pay. A file's tests share a process,
# and files are handed out in the order of tests/conftest.py, long ones first.
test: export OMP_NUM_THREADS ?= 1
test: lint  ## ruff, import rules, types and all tests (ARGS="-m 'not slow'" is handed to pytest)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup  ## ruff, the import rules and the type checker
	$(BIN)/ruff check .
	cd $$($(BIN)/python tools/link_tree.py) && $(CURDIR)/$(BIN)/lint-imports --config $(CURDIR)/pyproject.toml
	cd build/tree && MYPYPATH=. $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml

figures: setup  ## measure the figures of the README into benchmarks/results
	$(BIN)/python -m benchmarks.figures
	$(BIN)/python -m benchmarks.held_out
	$(BIN)/python -m benchmarks.studies

gpu-bundle: setup  ## data, meshes and configurations for a run on a GPU machine, into gpu-bundle
	$(BIN)/python -m benchmarks.gpu.make_bundle

doctor: setup  ## say what is installed and what is missing
	$(BIN)/shapewright doctor

clean:  ## remove caches and build products; results in out/ and the environment stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
