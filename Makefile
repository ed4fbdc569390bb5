# `make demo`, `make test` and every other target set up .venv on first use.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-all coverage bench docs wheel lint format clean

# The set-up runs again when the files that it installs from change.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[dev]'
	touch $@

.venv/installed-docs: .venv/installed
	$(INSTALL) --editable '.[docs]'
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

# The report goes to the terminal and to htmlcov/index.html.
coverage: .venv/installed
	$(BIN)/pytest -p pytest_cov --cov --cov-report=term --cov-report=html

bench: .venv/installed
	$(BIN)/python benchmarks/caption.py --short

# NO_MKDOCS_2_WARNING hides a notice of mkdocs-material about MkDocs 2, which the extra excludes.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# build/ is removed because setuptools would pack modules that an earlier build left there.
wheel: .venv/installed
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation
	CUTLINE_WHEEL=$$(echo dist/*.whl) $(BIN)/pytest -n 0 -rs -m network tests/test_package.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache cutline.egg-info
	rm -rf build dist site htmlcov .coverage .coverage.*
