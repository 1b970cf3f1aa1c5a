# What a developer types; CI runs the same targets (.ci/run installs what they need and calls them).

PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: help demo check lint types test test-long bench clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST)

demo: ## make a datastore of real files, mount it, read it, print latencies
	sh .ci/demo

check: lint types ## before every commit, under a minute: lint, types, layers, unit tests
	$(PYTHON) -m pytest -q tests/unit

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test: ## everything but what takes minutes; needs root and the packages that .ci/run installs
	$(PYTHON) -m pytest -m "not long"

test-long: ## what takes minutes: the largest trees, a Slurm array, 200,000 objects
	$(PYTHON) -m pytest -m long

bench: ## side by side with what people use instead; writes docs/benchmarks.md
	$(PYTHON) -m benchmarks

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache gridfs/_zero_open.so
	find . -name __pycache__ -prune -exec rm -rf {} +
