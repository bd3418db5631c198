# keras_nas_plugin: `make help` lists the targets. Needs GNU make, sh and Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The first interpreter that is new enough; `make PYTHON=/path/to/python` takes another.
IS_NEW := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(firstword $(foreach name,python3.11 python3 python, \
	$(shell $(name) $(IS_NEW) 2>/dev/null && echo $(name))))

# The extras to install: `make EXTRAS=gpu,test` for a machine with a GPU.
EXTRAS ?= cpu,test
# In the order of the files: else those with few but long tests come last, and one worker waits.
PYTEST_FLAGS ?= -n 3 --dist loadfile --no-loadscope-reorder
STORE := sqlite:///mlflow.db

export TF_CPP_MIN_LOG_LEVEL ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo test test-ui docs lint format bench dist clean distclean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

install: $(INSTALLED)  ## create .venv with the package, TensorFlow and the test tools

$(INSTALLED): setup.py pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || \
		{ echo "make: needs Python 3.11 or newer; name one with PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# No notice about oneDNN from TensorFlow. Weights are drawn anew each time, so that scores differ
# from run to run; `--deterministic` would fix them.
demo: export TF_ENABLE_ONEDNN_OPTS ?= 0
demo: $(INSTALLED)  ## search, track, register and evaluate a classifier of digits
	$(BIN)/keras-nas search recipes/image_classification.py \
		--strategy evolution --max-trials 12 --epochs 3 \
		--tracking-uri $(STORE) --experiment digits --register digits-classifier \
		--seed 0 --overwrite
	@$(BIN)/python recipes/image_classification.py \
		--evaluate models:/digits-classifier@challenger --tracking-uri $(STORE)
	@echo "See every trial: $(BIN)/mlflow ui --backend-store-uri $(STORE)"

# oneDNN compiles kernels in each process, which takes longer than the trainings of tests.
test: export TF_ENABLE_ONEDNN_OPTS ?= 0
# Tests start many processes, which else compile the package anew.
test: export PYTHONDONTWRITEBYTECODE :=
# Processes of tests share the cores: threads of BLAS that wait for one another take from these.
test: export OPENBLAS_NUM_THREADS ?= 1
test: export OMP_NUM_THREADS ?= 1
test: lint  ## lint, then run the tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# The tests skip themselves, and say so in a line, where there is no Chromium in the end.
test-ui: $(INSTALLED)  ## look at the MLflow UI in Chromium
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS),ui]'
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq chromium >/dev/null; } || \
		echo "make: Chromium is not there and cannot be installed; the tests are skipped" >&2
	$(BIN)/python -m pytest tests/ui

docs: export NO_MKDOCS_2_WARNING ?= 1
docs: $(INSTALLED)  ## build the documentation into build/site; warnings are errors
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS),docs]'
	$(BIN)/mkdocs build --strict

lint: $(INSTALLED)  ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## fix style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## measure what the performance claims rest on
	@for file in benchmarks/[!_]*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

dist: $(INSTALLED)  ## build the sdist and the wheel into dist/
	rm -rf build dist *.egg-info
	$(BIN)/python -m build

clean:  ## remove what building and testing leave behind
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## remove .venv and the egg-info too
	rm -rf $(VENV) *.egg-info
