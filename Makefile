# make demo | test | test-unit | test-slow | test-lowest | docs | bench | lint | clean. Each target makes its virtual environment
# itself when it is missing or out of date: .venv, or .venv-lowest with the lowest versions of pyproject.toml.
# PYTHON=/path/to/python chooses the interpreter; else the first of python3.12, python3.13, python3 that fits.
.PHONY: demo test test-unit test-slow test-lowest docs bench gpu lint clean
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
PYTHON ?=
PYTEST_ARGS ?=
# The tests run side by side, each file in one process; WORKERS=0 runs them in one.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)
SIDE_BY_SIDE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
UNIT = -m "not slow and not integration" $(SIDE_BY_SIDE) $(PYTEST_ARGS)

# The tensors of the demo and of the tests are small: threads that wait for each other cost more
# than they bring, above all on shared cores. A value given from outside is kept.
demo test test-unit test-slow test-lowest: export OMP_NUM_THREADS ?= 1

demo: $(READY)
	$(BIN)/cnet-aihw experiment=demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-unit: $(READY)
	$(BIN)/python -m pytest $(UNIT)

test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest $(UNIT)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow $(SIDE_BY_SIDE) $(PYTEST_ARGS)

docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -d build/doctrees docs build/docs

bench: $(READY)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.page

gpu: $(READY)
	$(BIN)/python -m benchmarks.gpu

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(LOWEST) .ci-venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Of two pins of a package, the first counts.
$(READY): PINS := constraints.txt
$(READY): PYTHONS := 3.12 or 3.13
$(READY): WANTED := -e '.[dev]'
$(LOWEST)/.ready: PINS := constraints-lowest.txt constraints.txt
$(LOWEST)/.ready: PYTHONS := 3.12
$(LOWEST)/.ready: WANTED := -e '.[attacks,optuna]' cloudpickle hypothesis pytest pytest-xdist
$(LOWEST)/.ready: constraints-lowest.txt

# A virtual environment that already holds a fitting Python is brought up to date, not made again.
$(READY) $(LOWEST)/.ready: pyproject.toml constraints.txt
	@found=; fits='import sys, venv, ensurepip; sys.exit("%d.%d" % sys.version_info[:2] not in "$(PYTHONS)".split())'; \
	if ! $(@D)/bin/python -c "$$fits" 2>/dev/null; then \
	  for python in $(or $(PYTHON),python3.12 python3.13 python3); do \
	    if "$$python" -c "$$fits" 2>/dev/null; then found="$$python"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "cnet_aihw needs Python $(PYTHONS) with the modules venv and ensurepip, and none was found: install one and name it, as in make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.12." >&2; \
	    exit 1; \
	  fi; \
	  "$$found" -m venv --clear $(@D) || exit 1; \
	fi
	@awk -F == '!/^#/ && !seen[tolower($$1)]++' $(PINS) >$(@D)/pins.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/pins.txt $(WANTED)
	@touch $@
