# Every target prepares what it needs: on a machine with only Python, `make demo` and `make test` just run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DATA ?=
TASK ?=

.PHONY: help install test quality demo clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(INSTALLED) ## prepare .venv with the package and everything its tests need

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

quality: $(INSTALLED) ## lint, format check and type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: quality ## quality, then the whole CPU suite
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

demo: $(INSTALLED) ## fine-tune a tiny model on real video files and look; DATA=DIR: your own clips; TASK=questions
	$(BIN)/python demo/$(or $(TASK),demo).py $(if $(DATA),--data "$(DATA)")

clean: ## remove .venv and what tests and demo left
	rm -rf $(VENV) demo_output .pytest_cache .mypy_cache .ruff_cache
