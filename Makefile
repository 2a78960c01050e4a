# `make demo` and `make test` work on a fresh machine with Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: setup demo test test-all lint types bench

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,parquet,train,export,dev]'
	touch $@

demo: setup  ## train, export, serve and embed small real images, then write demo/gallery.html
	$(BIN)/python -m demo.demo

test: setup
	$(BIN)/pytest

test-all: setup
	$(BIN)/pytest -m ''

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile

types: setup
	$(BIN)/mypy

bench: setup  ## the figures of README.md, shortened; without --quick each script prints the full table
	$(BIN)/python -m benchmarks.training --quick
	$(BIN)/python -m benchmarks.embed_folder --quick
