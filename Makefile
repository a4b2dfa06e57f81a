# Everything runs in .venv, which the first command sets up.
PYTHON ?= python3
BIN := .venv/bin
# The oldest that the trainer runs on: Python 3.10 with TensorFlow 2.17.
PYTHON_OLDEST ?= $(shell python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null || \
	ls "$$(pyenv root 2>/dev/null)"/versions/3.10.*/bin/python3.10 2>/dev/null | tail -1)

# Where `make runners` puts what Beam's runners run on, and the tests look for it.
export RUNNERS ?= $(CURDIR)/.runners

# Where the tests are that need no build and no training.
QUICK := tests/test_boundaries.py tests/test_habits.py tests/beam_pipelines/contract tests/beam_pipelines/inputs tests/beam_pipelines/label_drafts tests/beam_pipelines/pixels \
	tests/beam_pipelines/test_options.py tests/trainer/objective tests/trainer/test_config.py

.PHONY: demo runners test quick test-oldest torture lint format docs benchmark clean

demo: .venv/installed
	$(BIN)/python -m beam_pipelines.build --runner=DirectRunner --labels=cityscapes7 --image_size=128x256
	$(BIN)/python -m beam_pipelines.verify out/scenes
	$(BIN)/python -m trainer.task --dataset=out/scenes --output=out/run --recipe=demo

runners: .venv/installed
	sh tests/runners/bring.sh $(RUNNERS) $(BIN)/python

# Three on two cores: tests of buckets, jobs and signals wait for a good part of their time.
test: .venv/installed
	$(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

# The rules of the code and the pure functions, in less than a minute.
quick: .venv/installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -m "not slow and not torture" $(QUICK)

# The trainer and the contract without Beam; what the tests read is built by .venv.
test-oldest:
ifeq ($(PYTHON_OLDEST),)
	@echo "skipped: there is no Python 3.10 on the PATH or in pyenv; name one with PYTHON_OLDEST=..."
else
	$(MAKE) .venv/installed .venv-oldest/installed
	PIPELINE_PYTHON=$(CURDIR)/$(BIN)/python .venv-oldest/bin/python -m pytest tests/trainer tests/beam_pipelines/contract
endif

# A hundred thousand damaged inputs for every reader, commands that are killed or disturbed, and what the tests leave
# out of long products of cases: hours.
torture: .venv/installed
	$(BIN)/python -m pytest -m torture
	$(BIN)/python -m tests.torture

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The tables of options in the README files.
docs: .venv/installed
	$(BIN)/python tests/support/option_tables.py

benchmark: .venv/installed
	$(BIN)/python -m tests.benchmarks.build
	$(BIN)/python tests/benchmarks/duplicates.py --beam
	$(BIN)/python tests/benchmarks/evaluate.py
	$(BIN)/python tests/benchmarks/inference.py
	$(BIN)/python tests/benchmarks/read.py
	$(BIN)/python -m tests.benchmarks.steps
	$(BIN)/python tests/benchmarks/train.py

clean:
	rm -rf .runners .venv .venv-oldest build dist *.egg-info

# Of foolbox a test needs 20 pictures of ImageNet, and not the SciPy that its code needs.
.venv/installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pipelines,trainer,weights,export,tracking,video,launch,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps foolbox
	touch $@

.venv-oldest/installed: setup.py
	$(PYTHON_OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --use-pep517 --editable '.[trainer,weights]' 'keras==3.5.*' 'tensorflow==2.17.*' \
		cityscapesscripts hypothesis psutil pytest pytest-timeout
	touch $@
