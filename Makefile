# Every target first installs its requirements; `make` alone prints the list of targets.
# ARGS passes options to the command of a target: make test ARGS="tests/cli -x"

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVERS_READY := .servers/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARGS ?=
PYTHON ?=

# Python keeps what it has compiled; without that, each of the tests' processes compiles all anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test-quick test test-rest test-all test-wheel coverage chaos lint bench bench-growth bench-scaling bench-throttle bench-memory bench-mass bench-wide servers docs clean

help: ## print this list of targets
	@echo "usage: make TARGET [ARGS=...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## create .venv with the pinned tools and chromasync

# A new environment uses the first Python of at least 3.11 that runs (the shim of a version manager
# may not). If its venv module has no pip, the pip of that Python installs pip into the environment.
$(BIN)/python:
	@set -eu; \
	for python in $${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "Python 3.11 or newer is required; name it with: make $(MAKECMDGOALS) PYTHON=..." >&2; exit 1; fi; \
	echo "creating $(VENV) with $$("$$found" --version)"; \
	rm -rf $(VENV); \
	"$$found" -m venv $(VENV) >/dev/null 2>&1 || { \
	  rm -rf $(VENV); \
	  "$$found" -m venv --without-pip $(VENV); \
	  "$$found" -m pip --python $(VENV) install --quiet pip; }

$(READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the pinned packages into $(VENV)"
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation -e '.[dev,demo]'
	@touch $@

demo: $(READY) ## make two real Chroma servers with real text identical, and keep them so
	$(BIN)/chromasync demo $(ARGS)

# More workers than processors, because many tests wait for leases and servers; the long ones most.
PROCESSORS := $$(getconf _NPROCESSORS_ONLN)
ALL_BUSY := -n $(PROCESSORS) --dist worksteal
IN_PARALLEL := -n $$(( $(PROCESSORS) + 1 )) --dist worksteal
MOSTLY_WAITING := -n $$(( $(PROCESSORS) + 2 )) --dist worksteal
PYTEST := $(BIN)/python -m pytest $(IN_PARALLEL)
MEASURED_PYTEST := $(BIN)/python -m coverage run -m pytest $(IN_PARALLEL)
QUICK := tests/unit tests/property tests/cli tests/docs/test_project.py tests/docs/test_reference.py

test-quick: $(READY) ## run the tests without a server, in less than a minute
	CHROMASYNC_PROPERTIES=quick $(BIN)/python -m pytest $(ALL_BUSY) $(QUICK) -m "not long and not slower" $(ARGS)

# With COVERAGE=yes in the environment, the tests of `make coverage` are measured on the way.
test: $(READY) $(SERVERS_READY) ## run all tests except the long ones, in a few minutes
ifdef COVERAGE
	$(BIN)/python -m coverage erase
	CHROMASYNC_PROPERTIES=short $(MEASURED_PYTEST) -m "not long" $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
else
	CHROMASYNC_PROPERTIES=short $(PYTEST) -m "not long" $(ARGS)
endif

test-rest: $(READY) $(SERVERS_READY) ## run the long tests that `make test` leaves out
	$(BIN)/python -m pytest $(MOSTLY_WAITING) -m long $(ARGS)

test-all: $(READY) $(SERVERS_READY) ## run all tests
	CHROMASYNC_LEAVE_NOTHING_OUT=yes $(PYTEST) $(ARGS)

test-wheel: $(READY) ## install the wheel into an empty environment and test it there
	$(BIN)/python -m pytest tests/deploy/test_wheel.py $(ARGS)

coverage: $(READY) ## measure the branch coverage of the engine's core by the quick tests; fails below the limit
	$(BIN)/python -m coverage erase
	$(MEASURED_PYTEST) tests/unit tests/property -m "not long" $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

chaos: $(READY) ## test with kills, faults and random writes for over an hour, with a new seed each time
	CHROMASYNC_CHAOS=nightly $(BIN)/python -m pytest tests/chaos tests/distributed tests/store tests/mirror tests/selftest $(ARGS)

lint: $(READY) ## check style, format, types and import contracts
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY) ## compare the speed with raw requests and the official client
	$(BIN)/python -m bench $(ARGS)

bench-growth: $(READY) ## measure cycles and commands at several numbers of records
	$(BIN)/python -m bench.growth $(ARGS)

bench-scaling: $(READY) ## measure several workers, with latency between them and the servers
	$(BIN)/python -m bench.scaling $(ARGS)

bench-throttle: $(READY) ## measure what a query loop on the primary feels while everything is read
	$(BIN)/python -m bench.throttle $(ARGS)

bench-memory: $(READY) ## measure the memory of a first copy and of a re-check of one million ids (half an hour)
	$(BIN)/python -m bench.memory $(ARGS)

bench-mass: $(READY) ## walk ten million ids in 512 MB, lose 60 % of them, and delete those on the replica (up to two hours)
	$(BIN)/python -m bench.mass $(ARGS)

bench-wide: $(READY) ## copy, read again and verify wide records and one of 20 MB, in 512 MB (ten minutes)
	$(BIN)/python -m bench.wide $(ARGS)

servers: $(SERVERS_READY) ## install the older Chroma servers for the compatibility tests

$(SERVERS_READY): tests/compat_servers.py $(READY)
	$(BIN)/python tests/compat_servers.py
	@mkdir -p $(@D)
	@touch $@

docs: $(READY) ## generate the reference pages again
	$(BIN)/python -m tools.reference docs
	$(BIN)/python -m tools.keywords src/chromasync/keywords.py

clean: ## remove all files that these targets made
	rm -rf $(VENV) .servers build dist bench/out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
	find src tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
