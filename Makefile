# Two commands do all set-up: `make quickstart` and `make test`. With LOCKED=1 either installs the very versions of
# requirements.lock, which are those that were tested last. From Python 3.13 on MeCab is another package, which finds
# other morphemes: see README, "Installing".
PYTHON ?= python3
BIN := .venv/bin
TOOLS := .tools/bin
LOCKED ?=
ALL ?=
STAMP := .venv/installed$(if $(LOCKED),-locked)

.PHONY: help quickstart demo test check format lock audit test-oldest test-newest clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is newer than pyproject.toml when everything it names is installed.
$(STAMP): pyproject.toml $(if $(LOCKED),requirements.lock)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "korbert needs Python 3.10 or newer; give another one with PYTHON=python3.12")'
	@echo "Creating .venv and installing korbert (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(LOCKED),-c requirements.lock) -e '.[dev]'
	@touch $@

# What works on dependencies has an environment of its own, so that it is none of them.
$(TOOLS)/uv:
	@$(PYTHON) -m venv .tools
	@$(TOOLS)/python -m pip install --quiet --disable-pip-version-check uv pip-audit

quickstart: $(STAMP) ## Install, then run the whole path on the bundled sample and show scores
	$(BIN)/python experiments/quickstart.py

demo: $(STAMP) ## Install, then serve a page to play with the quickstart's models, at http://127.0.0.1:8000
	$(BIN)/python experiments/demo.py $(DEMO_FLAGS)

test: $(STAMP) ## Install, then run the tests; with ALL=1 those that take long, too, as CI does
	$(BIN)/python -m pytest -n auto --dist loadfile $(if $(ALL),,-m 'not slow') $(PYTEST_FLAGS)

check: $(STAMP) ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(TOOLS)/uv ## Choose the newest versions that fit each other, for every platform, and write requirements.lock
	$(TOOLS)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-annotate --extra dev \
	    --custom-compile-command 'make lock' pyproject.toml -o requirements.lock

audit: $(TOOLS)/uv ## Look up requirements.lock among known vulnerabilities (asks PyPI's advisory service)
	$(TOOLS)/pip-audit --no-deps --disable-pip -r requirements.lock

test-oldest: $(TOOLS)/uv ## Quick tests with the oldest packages that pyproject.toml allows (PYTHON=python3.10)
	$(TOOLS)/python experiments/stress/versions.py oldest --python $(PYTHON)

test-newest: $(TOOLS)/uv ## Quick tests with the newest ones (PYTHON=python3.13)
	$(TOOLS)/python experiments/stress/versions.py newest --python $(PYTHON)

clean: ## Remove the environments and caches; runs/ and data/ stay
	rm -rf .venv .tools .versions .mypy_cache .ruff_cache .pytest_cache build *.egg-info
