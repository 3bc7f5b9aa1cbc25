# `make demo` and `make test` are all that a newcomer needs; both set up by themselves.
# They use the active virtual environment, or make .venv; nothing is installed elsewhere.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup demo zoo-demo rcdm-demo test test-slow test-faults lint docs clean

VENV := $(or $(VIRTUAL_ENV),.venv)
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.msn_mm_installed
PIP := $(PYTHON) -m pip --disable-pip-version-check --no-input
IS_SUPPORTED := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))

help:
	@echo "make demo       pre-train MSN on handwritten digits and print a table (about 8 minutes)"
	@echo "make zoo-demo   every method on the same digits, one table (kill it and it goes on)"
	@echo "make rcdm-demo  samples of digits from what MSN makes of them (about 12 minutes after the demo)"
	@echo "make test       the test suite"
	@echo "make test-slow  the test suite and the longer checks"
	@echo "make test-faults  kill trainings at random moments and resume them (about 3 minutes)"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the guides and the API reference as a site, build/docs/index.html"
	@echo "make clean      remove .venv and caches (work_dirs stays)"

setup: $(STAMP)

demo: $(STAMP)
	$(PYTHON) tools/demo.py

zoo-demo: $(STAMP)
	$(PYTHON) tools/sweep.py configs/sweeps/zoo_digits.py --out work_dirs/zoo

rcdm-demo: $(STAMP)
	$(PYTHON) tools/rcdm.py demo

test: $(STAMP)
	$(PYTHON) -m pytest -m "not slow"

test-slow: $(STAMP)
	$(PYTHON) -m pytest

test-faults: $(STAMP)
	$(PYTHON) -m pytest -m faults

lint: $(STAMP)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

docs: $(STAMP)
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "look: build/docs/index.html"

clean:
	rm -rf .venv build dist ./*.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	$(if $(VIRTUAL_ENV),rm -f "$(STAMP)")

$(STAMP): requirements.txt setup.cfg setup.py pyproject.toml | $(PYTHON)
	@$(PYTHON) -c '$(IS_SUPPORTED)' || { echo "error: msn_mm needs Python 3.11 or 3.12; $(VENV) has $$($(PYTHON) -V 2>&1): leave it (deactivate) or remove it" >&2; exit 2; }
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps --editable .
	@touch $@

$(PYTHON):
	@for python in python3.12 python3.11 python3 python; do \
	    if $$python -c '$(IS_SUPPORTED)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "error: msn_mm needs Python 3.11 or 3.12; none is on the PATH ($$(python3 -V 2>&1 | head -n 1)): install one, e.g. from python.org" >&2; exit 2; \
	fi; \
	if ! $$found -c 'import ensurepip' 2>/dev/null; then \
	    echo "error: $$found has no venv module: install it, e.g. apt install $$found-venv" >&2; exit 2; \
	fi; \
	echo "making $(VENV) with $$found"; \
	$$found -m venv $(VENV)
