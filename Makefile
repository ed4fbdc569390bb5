# Two commands: `make demo` and `make test`. Both set everything up on first use.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all bench lint format clean

# The set-up runs again when what it installs from has changed.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/cutline demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

test-all: lint
	$(BIN)/pytest -m 'not gpu and not network'

bench: .venv/installed
	$(BIN)/python benchmarks/caption.py --short

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache cutline.egg-info
