# Two commands do everything on a fresh machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
GEOSSL_HOME ?= $(CURDIR)/.geossl
DEMO ?= demo
# minutes of pretraining in the demo
MINUTES ?= 4
export GEOSSL_HOME

.PHONY: env demo demo-short test test-slow lint bench

env: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[flows,dev]'
	@touch $@

demo: env
	BIN=$(BIN) scripts/demo.sh $(DEMO) $(MINUTES)

demo-short: env
	BIN=$(BIN) GEOSSL_HOME=$(GEOSSL_HOME)-short scripts/demo.sh $(DEMO)-short 0.5 4.8

test: env
	$(BIN)/python -m pytest

test-slow: env
	$(BIN)/python -m pytest -m slow

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: env
	$(BIN)/python -m tests.benchmarks
