# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes .venv and installs by itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := $(VENV)/.peers-installed
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.PHONY: help install demo test test-all coverage audit docs format bench wheel release-check clean

help:
	@echo "make demo      main job on generated scenes: train HQ-UNet, evaluate it, map a scene (minutes)"
	@echo "make test      lint, types, import layers and tests"
	@echo "make test-all  the same with the slow tests"
	@echo "make coverage  the tests, and how much of the package they execute (at least 90 %)"
	@echo "make audit     known weaknesses of the pinned dependencies (asks the registry)"
	@echo "make docs      the documentation as a site: site/index.html, which needs no network"
	@echo "make format    rewrite the code in the house format"
	@echo "make bench     run the benchmarks, the other simulators included"
	@echo "make wheel     build dist/*.whl and dist/*.tar.gz"
	@echo "make release-check  install both in clean environments and run the demo there; PYTHONS=... names interpreters"
	@echo "make clean     remove environment, caches and builds; runs/ and demo/ stay"

install: $(STAMP)

# torch goes first and by its exact version: a looser range may download several GB of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('qhybrid needs Python 3.11 or newer: make PYTHON=python3.11 ...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

# Benchmarks that need neither data sets nor trained runs; the others say in their first lines what they take.
BENCHMARKS := peers engine_hq_unet engine_growth devices cost_model data_loading training_step

# The simulators of benchmarks/peers.py: a gigabyte that nothing else needs.
$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

demo: $(STAMP)
	$(BIN)/qhybrid demo

# Three at a time on two cores: many tests wait for a server or another process.
# Ledgers of the hardware path wait for the disk; in memory, where there is enough, they do not.
TEMPORARY := $(shell [ "$$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1)" -gt 8000000 ] 2>/dev/null && echo /dev/shm)
PYTEST := PYTHONDONTWRITEBYTECODE= PYTEST_DEBUG_TEMPROOT=$(TEMPORARY) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3
BY_FILE := --dist loadfile --no-loadscope-reorder

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) $(BY_FILE) $(PYTEST_ARGS)

test-all: $(STAMP)
	$(PYTEST) -m "not gpu and not ibm" $(PYTEST_ARGS)

coverage: $(STAMP)
	$(PYTEST) $(BY_FILE) --cov --cov-report=term:skip-covered --cov-fail-under=90 $(PYTEST_ARGS)

# An environment of its own: the tool is nothing that the package needs.
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(PEERS)
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

wheel: $(STAMP)
	$(BIN)/python -m build --no-isolation

PYTHONS ?= $(PYTHON)
release-check: $(STAMP)
	$(BIN)/python release/try_install.py --python $(PYTHONS) --extras

clean:
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
