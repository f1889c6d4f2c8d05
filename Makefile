# The targets that people use: install, run, test. Needs Python 3.11 or newer and make; everything else goes into .venv.
# With a C compiler ingest/compiled is built too. POSTBACK_COMPILED=require: fail without; =no: leave it out.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CONFIG := $(wildcard config.toml)
AGAIN := $(if $(wildcard ingest/compiled/*.so),$(if $(filter no,$(POSTBACK_COMPILED)),again),again)
COMPILED := hatch_build.py $(wildcard ingest/compiled/*.pyx ingest/compiled/*.pxi)

.PHONY: help install run test sanitize soak lint format types unit integration bench profile clean again

help:
	@echo "make run      build the environment, start everything with a sample campaign on http://127.0.0.1:8080"
	@echo "make test     build the environment, run every check and test on real embedded engines"
	@echo "make install  only build the environment: the command is then .venv/bin/postback"

install: .venv/compiled

.venv/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/python requirements.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements.txt
	POSTBACK_COMPILED=no $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# Of its own, not within pip, which would not show what it says. Where it could not be built, the next make tries again.
.venv/compiled: .venv/installed $(COMPILED) $(AGAIN)
	$(BIN)/python hatch_build.py
	@touch $@

.venv/tested: .venv/installed requirements-dev.txt
	$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

run: install
	$(BIN)/postback serve --sample $(if $(CONFIG),--config $(CONFIG))

test: lint types .venv/compiled
	$(BIN)/python -m pytest -n 2 --dist worksteal

sanitize: .venv/tested
	$(BIN)/python -m tests.compiled_sanitized $(SANITIZE)

soak: .venv/tested .venv/compiled
	$(BIN)/python -m tests.fault.soak $(SOAK)

lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/vulture

format: .venv/tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/tested
	$(BIN)/mypy

unit: .venv/tested .venv/compiled
	$(BIN)/python -m pytest tests/unit tests/property

integration: .venv/tested .venv/compiled
	$(BIN)/python -m pytest tests/integration

bench: install
	$(BIN)/python -m benchmarks.run $(BENCH)

profile: install
	$(BIN)/python -m benchmarks.profile $(BENCH)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache ingest/compiled/*.so
