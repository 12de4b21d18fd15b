# vitlet: `make demo` and `make test` work on a fresh machine with python3 (3.11 or later) and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
# What the C++ engine is built from: a change there is a new setup.
NATIVE := native/CMakeLists.txt $(shell find native/include native/python native/src -type f)
# The longest first.
LONG   := cli engines
ROOMS  := $(LONG) $(filter-out $(LONG),$(notdir $(patsubst %/,%,$(wildcard tests/[a-z]*/))))

.PHONY: help setup demo test lint format notebook clean

help:            ## what can be made
	@grep -E '^[a-z]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

setup: $(STAMP)  ## the pinned environment in .venv (about 7 GB, most of it PyTorch)

$(STAMP): pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "vitlet needs Python 3.11 or later and this is %d.%d: run make PYTHON=/path/to/python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,hf,notebook,dev]'
	@touch $@

demo: $(STAMP)   ## the main job on the bundled model and images: out/demo.vitlet
	@mkdir -p out
	$(BIN)/vitlet demo --out out/demo.vitlet --overwrite

test: $(STAMP)   ## all tests, two rooms at a time
	@# A process for each room: PyTorch's thread pools and other process-wide state do not leak between them.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(ROOMS:%=test-%)

# Two rooms share the cores: OpenMP's threads wait asleep for each other, not busily on a core that the other room needs.
test-%: export OMP_WAIT_POLICY := passive
test-%: $(STAMP)
	@echo "tests/$*"; $(BIN)/python -m pytest --quiet tests/$*

lint: $(STAMP)   ## style, types, and that each room imports only from rooms above it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## put the code in its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebook: $(STAMP) ## run examples/pre_ViT.ipynb top to bottom
	$(BIN)/python examples/run_notebook.py examples/pre_ViT.ipynb

clean:           ## remove what was made here
	rm -rf $(VENV) out build dist
