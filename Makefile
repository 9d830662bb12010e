# Everything starts from a plain Python: `make demo` and `make test` build .venv on the first call.
#   PYTHON=python3.12 make test     uses another interpreter;    JOBS=4 make test   more processes.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
DEMO   := build/demo/results
# One thread a process; the tests of a file share what they make, so they stay in one process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo results test lint format bench soak clean

help:
	@echo "make demo    install, run both ResNet-RS on the embedded Kinetics sample, print the table"
	@echo "make results run again what is committed in results/, and draw its page"
	@echo "make test    install, lint, type-check and run the whole test suite"
	@echo "make lint    ruff and mypy only"
	@echo "make format  let ruff put the code in order"
	@echo "make bench   measure speed beside other libraries (benchmarks/)"
	@echo "make soak    the long tests at their full size"
	@echo "make clean   remove .venv, build outputs and caches"

demo: $(STAMP)
	$(BIN)/rsbench run --task kinetics400 --results $(DEMO)

# The committed records: everything in results/ that packages alone can make again.
results: $(STAMP)
	$(BIN)/rsbench run --task kinetics400@sample --seeds 0,1,2 --results results
	$(BIN)/rsbench table results --write

test: lint
	$(PYTEST) --durations 10

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy rsbench tasks backbones

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP)
	@for program in benchmarks/[a-z]*.py; do \
	    echo "$$program"; $(BIN)/python "$$program" || exit 1; \
	done

# Long tests ask for their size: small unless RSBENCH_SOAK says how many rounds.
soak: $(STAMP)
	RSBENCH_SOAK=20 $(PYTEST) -m slow --durations 0

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find rsbench tasks backbones tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A name on the PATH may be a launcher without an interpreter behind it, so each one is tried.
$(BIN)/python:
	@for candidate in $(PYTHON) python3.12 python3.11 python3 python; do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Making $(VENV) with $$candidate"; \
	        "$$candidate" -m venv $(VENV) && exit 0; \
	        rm -rf $(VENV); \
	        echo "$$candidate has no working venv module (on Debian: apt install python3-venv)" >&2; \
	    fi; \
	done; \
	echo "rsbench needs Python 3.11 or newer with venv: install one, or name it with PYTHON=/path/to/python make ..." >&2; \
	exit 1

$(STAMP): setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing rsbench and its tools into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	@touch $@
