# Every target sets up .venv by itself; git, make and Python 3.11 or newer are all it needs.
#   make demo    the main job on the embedded digits, start to finish
#   make test    the test suite          make test-slow   the long tests too
#   make bench   the roof of this machine, the time per entry
#   make lint    ruff and mypy           make paper       the pictures of docs/paper.md (CIFAR10=DIR: two more)
#   make docs    the documentation: build/docs/index.html; a warning is an error
#   make pictures  the pictures of docs/networks.md and docs/activations.md
#   make gpu     on a machine with a card: tests, times and profile of the CUDA backend, 8 minutes
#   make package  dist/: the source distribution and the wheel
#   make pythons  the wheel alone with each Python that is here, and with the oldest libraries
#   make clean   remove what the targets made
#
# PYTHON=python3.12 picks the interpreter, PIP_ARGS="--no-index --find-links DIR" is added to pip's
# arguments (pip's own PIP_* variables and configuration work as well), PYTEST_ARGS to pytest's:
# PYTEST_ARGS=-n0 runs the tests one after the other, in one process.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
# Named by the content of pyproject.toml: pip runs again when that changes, and only then.
STAMP := $(VENV)/installed-$(shell cksum < pyproject.toml | cut -d ' ' -f 1)

.PHONY: demo bench paper docs pictures test test-slow gpu lint package pythons clean venv
.DEFAULT_GOAL := test

venv: $(STAMP)

$(STAMP):
	@PYTHON="$(PYTHON)" .ci/venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[test,dev,plot,docs]'
	@$(BIN)/python -m pip install --quiet $(PIP_ARGS) --editable '.[cuda-test]' \
	    || echo "note: the extra cuda-test does not install here; what compiles CUDA kernels is skipped" >&2
	@rm -f $(VENV)/installed-* && touch $@

demo: $(STAMP)
	@rm -rf demo-out && $(BIN)/widegram demo demo-out

paper: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" docs/paper/draw paper-out

# A process a core; without pytest-xdist one process.
PYTEST = $(BIN)/python -m pytest \
	$(shell $(BIN)/python -c "import xdist" 2>/dev/null && echo "-n logical --maxprocesses 8 --dist worksteal")

test: $(STAMP)
	$(PYTEST) $(PYTEST_ARGS)

test-slow: $(STAMP)
	$(PYTEST) -m "not gpu and not peer" $(PYTEST_ARGS)

# On a machine with a card: its own Python, no network, nothing installed. What it needs is numba,
# numba-cuda, NumPy and xxhash; for the tests pytest and h5py (pytest-xdist runs them side by side);
# for ratios JAX with CUDA and neural-tangents, where that is not installed
# WIDEGRAM_PEER_PATH=its wheel or folder; for the issue bound ptxas and nvdisasm; for the profile
# ncu; for its picture matplotlib.
# What fails or is missing is named at the end and in the results, and costs nothing else.
GPU_PYTHON ?= python3
GPU_OUT ?= bench/results/gpu.json
gpu: export PYTHONPATH := $(CURDIR)/engine:$(CURDIR)/cli:$(CURDIR)/bench:$(PYTHONPATH)
gpu:
	@$(GPU_PYTHON) -m widegram_bench.gpu.run --tests --out $(GPU_OUT)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html -d build/doctrees docs build/docs

pictures: $(STAMP)
	PYTHONPATH=docs:tests $(BIN)/python docs/making/pictures.py

bench: $(STAMP)
	$(BIN)/widegram bench roof
	$(BIN)/widegram bench kernels

package: $(STAMP)
	rm -rf dist
	$(BIN)/python -m build --outdir dist

PYTHONS ?= python3.11 python3.12 python3.13 python3.14
pythons: package
	@for python in $(PYTHONS); do \
	    "$$python" -c "" 2>/dev/null || { echo "== $$python: not here" >&2; continue; }; \
	    echo "== $$python"; .ci/wheel dist "$$python" || exit 1; \
	done
	@echo "== the oldest libraries"; .ci/wheel dist $(firstword $(PYTHONS)) oldest

clean:
	rm -rf $(VENV) demo-out paper-out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
