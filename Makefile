# Everything runs in a virtual environment of its own; only make and Python 3.11 to 3.14
# (with venv and pip) must be there.  `make PYTHON=python3.12 VENV=.venv312 test` uses another.

PYTHON  ?= python3
VENV    ?= .venv
SECONDS ?= 60
TOPOLOGY ?= single
ARGS    ?=
# What `make test-servers` runs: full or small, and which servers (all of them).
SIZE    ?= full
SERVERS ?=
# Much of a test is waiting, so four workers keep two cores busy.
JOBS    ?= 4

# Else each worker compiles all tests again, and each process that a test starts the package.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
PY  := $(BIN)/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check

# These go where the others go too, again and again, or look at what is no code of the package:
# tracing them shows hardly a line more, and takes more than twice as long.
UNTRACED := tests/model tests/faults tests/stateful tests/simulation tests/benchmarks tests/upgrade \
  tests/harness tests/servers tests/docs tests/test_exports.py tests/test_layers.py \
  tests/apps $(patsubst %,tests/unit/test_%.py,limiter_names observed) \
  $(patsubst %,tests/conformance/test_%.py,broken_stores check_store faulty_store own_store) \
  $(patsubst %,tests/behaviour/test_%.py,cancellation conditions defects defects_are_caught \
    error_answers fleet_view flow folding hold_fuzz hold_histories invariants limiter \
    limiter_cancellation limiter_turns operations) \
  $(patsubst %,tests/stores/test_%.py,lua_coverage lua_mutants lua_source odd_names reaping_agrees redis_agrees)

# What touches the modules that are compiled, see hatch_build.py. It runs where no source is.
COMPILED := tests/compiled/build.py tests/unit/test_write_buffer.py tests/unit/test_holds.py \
  $(patsubst %,tests/behaviour/test_%.py,bad_input batches bounds compiled faces handle hold lax parts)

# Coroutine functions with a task_status, for ASYNC113 and ASYNC114: a,b,c.
STARTABLE := run

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

.PHONY: help test test-browser test-compiled test-floor demo online lint format types docs examples ci soak test-clock test-servers modelcheck bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: $(VENV)/.test  ## run the tests; fails below 95 % branch coverage
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -n $(JOBS) --dist worksteal $(UNTRACED:%=--ignore=%)
	$(PY) -m pytest -n $(JOBS) --dist worksteal $(UNTRACED)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

test-floor:  ## run the tests with the oldest dependencies that are promised to work
	$(MAKE) VENV=.venv-floor .venv-floor/.floor
	.venv-floor/bin/python -m pytest

test-compiled:  ## compile what counts in memory, and test it; needs a C compiler
	$(MAKE) VENV=.venv-compiled .venv-compiled/.compiled
	rm -rf build/compiled/tests build/compiled/benchmarks
	mkdir -p build/compiled
	cp -r tests benchmarks pyproject.toml build/compiled
	cd build/compiled && ../../.venv-compiled/bin/python -m pytest -n $(JOBS) --dist worksteal $(COMPILED)

test-browser: $(VENV)/.browser docs  ## look at the example and at the documentation in a Chromium
	$(PY) -m tests.apps.chromium --cache $(VENV)/chromium
	DISTKIT_CHROMIUM_CACHE=$(VENV)/chromium $(PY) -m pytest -s tests/apps/browser.py tests/apps/pages.py

demo: $(VENV)/.demo  ## run the demo (ARGS="..." are passed on)
	@$(PY) -m distkit_actors demo $(ARGS)

online: $(VENV)/.examples  ## run the example app, with a Redis of its own (ARGS="..." are passed on)
	@$(PY) docs/examples/online $(ARGS)

lint: $(VENV)/.lint  ## check style, trio's rules with flake8-async, and the news
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8-async --enable=ASYNC --disable= --startable-in-context-manager=$(STARTABLE) \
	  $$(find distkit_actors -name '*.py')
	$(BIN)/towncrier build --draft --version next > /dev/null

format: $(VENV)/.lint  ## sort imports and format
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

types: $(VENV)/.types  ## check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(PY) --warnings

docs: $(VENV)/.docs  ## build the documentation into docs/_build
	$(BIN)/sphinx-build -W --keep-going -n -q -b html docs docs/_build

examples: $(VENV)/.test  ## run the examples of README.md and docs
	$(PY) -m pytest -p tests.examples README.md docs

ci:  ## everything that must pass
	.ci/run

soak: $(VENV)/.test  ## run processes against faults for SECONDS (60); TOPOLOGY=single|sentinel|cluster
	$(PY) -m tests.soak --topology $(TOPOLOGY) --seconds $(SECONDS)

test-clock: $(VENV)/.test  ## set the clock of a real server under load; needs a C compiler
	$(PY) -m pytest -s tests/clock/jumps.py

test-servers: $(VENV)/.test  ## run the store's tests on each server (SIZE=small, SERVERS="redis-7.0 ...")
	$(PY) -m tests.servers --cache $(VENV)/servers --servers "$(SERVERS)" --size $(SIZE) --jobs $(JOBS) \
	  $(if $(filter full,$(SIZE)),--table docs/servers_table.md)

modelcheck: $(VENV)/.test  ## explore the protocol's interleavings, the long way
	$(PY) -m tests.model.explore --long

bench: $(VENV)/.bench  ## measure beside peers; writes docs/performance_table.md (ARGS="..." are passed on)
	$(PY) -m benchmarks $(ARGS)

clean:  ## remove what the other targets made
	rm -rf .venv .venv-compiled .venv-floor $(VENV) docs/_build build dist htmlcov
	rm -rf .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null || { \
	  echo "distkit_actors needs Python 3.11 to 3.14, but '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing); try: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each extra: installed again only when pyproject.toml changes.
$(VENV)/.test $(VENV)/.demo $(VENV)/.lint $(VENV)/.types $(VENV)/.docs $(VENV)/.bench $(VENV)/.examples $(VENV)/.browser: $(VENV)/.%: pyproject.toml | $(PY)
	$(PIP) install -e '.[$*]'
	$(if $(filter test bench,$*),$(PY) -m tests.servers.provide)
	@touch $@

# The floors as pyproject.toml states them: "trio>=0.31" is installed as "trio==0.31.*".
$(VENV)/.floor: $(VENV)/.test
	$(PY) -c 'import re, tomllib; print(*(re.sub(r">=([\w.]+)", r"==\1.*", d, count=1) for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]), sep="\n")' > $@.txt
	$(PIP) install -r $@.txt
	@touch $@

# It takes the place of the editable one.
$(VENV)/.compiled: $(VENV)/.test hatch_build.py $(shell find distkit_actors -name '*.py' -o -name '*.lua')
	rm -rf build/compiled
	HATCH_BUILD_HOOKS_ENABLE=true $(PIP) wheel --no-deps --wheel-dir build/compiled .
	$(PIP) install --no-deps --force-reinstall build/compiled/*.whl
	@touch $@
