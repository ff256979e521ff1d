# `make run` and `make test` do everything on a fresh machine with Python 3.11 to 3.13.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JAVASCRIPT := $(wildcard app/viewer/*.js reports/*.js)
# A namespace without routes, where the system lets users make one.
NO_NETWORK = $(shell unshare -rn true 2>/dev/null && echo unshare -rn)

.PHONY: golden run test test-slow pythons faults check docs fuzz bench baselines clean

run: $(VENV)/installed  ## the main job: baseline against SGDM under gaussian noise on the embedded data
	$(BIN)/robustbench run --model yolov8n-sgdm --noise gaussian

test: check  ## every check, then every test but the slow ones
	$(BIN)/python -m pytest

pythons: $(VENV)/installed  ## the oldest and the newest supported Python of this machine: which they are, and a few tests
	$(BIN)/python .ci/pythons.py

test-slow: $(VENV)/installed  ## the slow tests: long ones, and rare cases
	$(BIN)/python -m pytest -n 0 -m slow

faults: $(VENV)/installed  ## kill a small run a hundred times and more, on every executor; prints a table
	ROBUSTBENCH_KILLS=104 $(BIN)/python -m pytest -n 0 -q -s tests/faults

fuzz: $(VENV)/installed  ## 10,000 damaged files of each kind (hours); FUZZ=1000 for fewer
	ROBUSTBENCH_FUZZ=$(or $(FUZZ),10000) $(NO_NETWORK) $(BIN)/python -m pytest -q -s -n 0 tests/fuzz

check: $(VENV)/installed  ## ruff, mypy strict, types of the JavaScript, import-linter, the English of the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	DENO_NO_UPDATE_CHECK=1 $(BIN)/deno check -q --no-remote $(JAVASCRIPT)
	DENO_NO_UPDATE_CHECK=1 $(BIN)/deno lint -q $(JAVASCRIPT)
	$(BIN)/lint-imports
	$(BIN)/python tools/prose.py

docs: $(VENV)/installed  ## the site, strictly: site/index.html; nothing is fetched
	$(NO_NETWORK) $(BIN)/python -m sphinx -q -W --keep-going -j auto -d build/docs docs site
	@echo site/index.html

bench: $(VENV)/installed  ## measure speed, as ratios within one run
	for script in $(filter-out benchmarks/evidence.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

golden: $(VENV)/installed  ## writes anew what outputs on fixed inputs are compared with, after a version was raised
	$(BIN)/python tests/golden/make.py

baselines: $(VENV)/installed  ## draw the pictures that figures are compared with anew; look at them
	ROBUSTBENCH_BASELINES=write $(BIN)/python -m pytest -q -n 0 tests/figures/test_baselines.py -k looks

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -e '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-* build dist site docs/reference/generated .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
