# `make demo` and `make test` need Python 3.11 or newer and nothing else: they make the environment themselves.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo space test chaos lint format clean

demo: $(VENV)/.run
	$(BIN)/kinoclip demo

space: $(VENV)/.space
	$(BIN)/kinoclip space

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(TESTS)

# attacks on the reader, on files, jobs, memory and the Space; .github/RELIABILITY.md holds its table
CHAOS := tests/chaos tests/end_to_end/test_scale.py tests/end_to_end/test_space.py tests/unit/space \
	tests/unit/video/test_refusals.py tests/unit/video/test_damage.py tests/unit/video/test_download.py \
	tests/unit/video/test_sources.py tests/unit/video/test_resources.py tests/unit/test_conversion.py \
	tests/unit/training/test_checkpoints.py tests/unit/training/test_loop.py tests/unit/hub/test_publish.py

chaos: $(VENV)/.dev
	KINOCLIP_CHAOS=full OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope -p chaos.table $(CHAOS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .mypy_cache

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
