# Every target does its own set-up: Python >= 3.11, git and make are all a machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test deep lint docs bench lock clean

demo: $(READY)  ## place a million VMs on hosts, run, verify and report into ./fleetsim-demo
	rm -rf fleetsim-demo
	$(BIN)/fleetsim demo -o fleetsim-demo

test: $(READY)  ## the nets that run at every commit
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)  ## style, types and import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

deep: $(READY)  ## the long nets: every planted bug, thousands of drawn fleets
	$(BIN)/python -m pytest -n auto --dist worksteal -m "deep or not deep" --hypothesis-profile=deep
	$(BIN)/python -m tests.mutants --all

# Strictly: each link and anchor leads somewhere. Nothing is fetched.
docs: $(READY)  ## the site, into ./site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)  ## kernels, runs, opponents and the limits of the machine, as one table: half an hour
	$(BIN)/python -m benches

# uv installs from the hashed lock and byte-compiles: imports take three times as long without.
$(READY): requirements/dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $(READY)

lock:  ## resolve the locked dependencies anew
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --universal --python-version 3.11 --extra page --extra ray --extra search --extra url --group dev --no-annotate pyproject.toml requirements/build.in -o requirements/dev.txt

clean:
	rm -rf $(VENV) fleetsim-demo site
