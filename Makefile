# `make demo` and `make test` need only Python 3.11 or newer: they create the environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo space test chaos conformity matrix docs notebooks lint format clean

demo: $(VENV)/.run
	$(BIN)/kinoclip demo

space: $(VENV)/.space
	$(BIN)/kinoclip space

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations 25 $(TESTS)

# Attacks on the reader, files, jobs, memory and the Space; .github/RELIABILITY.md holds the results.
CHAOS := tests/chaos tests/end_to_end/test_ray.py tests/end_to_end/test_slurm.py tests/end_to_end/test_scale.py \
	tests/end_to_end/test_signals.py tests/end_to_end/test_space.py \
	tests/unit/space tests/unit/test_storage.py tests/unit/inference/test_record_output.py tests/unit/methods/test_auto.py \
	tests/unit/modeling/test_checkpoints.py tests/unit/training/test_checkpoints.py tests/unit/hub/test_publish.py \
	$(addprefix tests/unit/video/test_,refusals.py damage.py download.py pictures.py sources.py resources.py isolation.py)

# A Ray cluster takes two minutes, so `make test` skips it.
chaos: $(VENV)/.dev
	$(INSTALL) --editable '.[ray]'
	KINOCLIP_CHAOS=full OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope -p chaos.table $(CHAOS)

# The common test suites of the installed transformers, from its source distribution, over every method.
conformity: $(VENV)/.dev
	$(BIN)/python tests/conformity/run.py

# The site in site/: each link is checked, and a warning is an error. The variable hides an advertisement of the theme.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Run the notebooks and store their outputs, which the tests compare with.
notebooks: $(VENV)/.docs $(VENV)/.dev
	$(BIN)/python docs/hooks/notebooks.py docs/notebooks/*.ipynb

# The wheel with the oldest, middle and newest dependencies, each in an environment of its own; `make matrix SETS=oldest` runs one.
matrix:
	$(PYTHON) tests/matrix/run.py $(SETS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo site .pytest_cache .ruff_cache .mypy_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable .
	touch $@

$(VENV)/.space: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[demo]'
	touch $@ $(VENV)/.run

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[dev]'
	touch $@ $(VENV)/.run

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[docs]'
	touch $@ $(VENV)/.run
