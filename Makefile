# Two commands do all set-up: `make quickstart` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help quickstart demo test check format clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# The stamp is newer than pyproject.toml when everything it names is installed.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "korbert needs Python 3.10 or newer; give another one with PYTHON=python3.12")'
	@echo "Creating .venv and installing korbert (a few minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

quickstart: .venv/installed ## Install, then run the whole path on the bundled sample and show scores
	$(BIN)/python experiments/quickstart.py

demo: .venv/installed ## Install, then serve a page to play with the quickstart's models, at http://127.0.0.1:8000
	$(BIN)/python experiments/demo.py $(DEMO_FLAGS)

test: .venv/installed ## Install, then run all tests
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_FLAGS)

check: .venv/installed ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and caches; runs/ and data/ stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
