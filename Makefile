# Everything runs in .venv, which the first command sets up.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format benchmark clean

demo: .venv/installed
	$(BIN)/python -m beam_pipelines.build --runner=DirectRunner
	$(BIN)/python -m beam_pipelines.verify out/scenes

test: .venv/installed
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: .venv/installed
	$(BIN)/python tests/benchmarks/build.py

clean:
	rm -rf .venv out build dist *.egg-info

.venv/installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pipelines,trainer,dev]'
	touch $@
