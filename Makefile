# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile

.PHONY: demo test test-long check format bench proto wheel-edge models clean

demo: $(VENV)/.demo
	@exec $(BIN)/python -m deploy.demo $(ARGS)

test: $(VENV)/.dev
	@sh tests/install_system_parts.sh
	$(BIN)/pytest -m "not long and not bench" $(ARGS)

test-long: $(VENV)/.dev
	@sh tests/install_system_parts.sh
	$(BIN)/pytest -m long $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m deploy.proto --check

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench $(ARGS)

proto: $(VENV)/.dev
	$(BIN)/python -m deploy.proto

wheel-edge: $(VENV)/.dev
	$(BIN)/python -m deploy.wheel_edge --out dist

models: $(VENV)/.dev
	$(BIN)/cloud-service model compress deploy/demo/models.toml

clean:
	rm -rf $(VENV) build dist .cache runs *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Tandem needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[edge,cloud,demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[edge,cloud,demo,compress,dev,tracing]'
	@touch $@ $(VENV)/.demo
