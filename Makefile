# Everything starts from a plain Python: `make demo` and `make test` build .venv on the first call.
#   PYTHON=python3.12 make test     uses another interpreter;    JOBS=4 make test   more processes.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
DEMO   := build/demo/results
RS     := resnet_rs_
EN     := torchvision/efficientnet_b
NETWORKS := $(RS)50@160,$(RS)101@160,$(RS)101@192,$(RS)152@192,$(RS)152@224,$(RS)152@256,$\
$(EN)0@224,$(EN)1@240,$(EN)2@260,$(EN)3@300,$(EN)4@380,$(EN)5@456
LITE   := efficientnet_lite_0,efficientnet_lite_1
# Networks and a recipe that a CPU can train from random weights on the sample of 320 clips.
SMALL  := resnet_rs_3d_50+blocks=1-1-1-1+width=0.25,resnet_rs_50+blocks=1-1-1-1+width=0.25
FROM_SCRATCH := --set epochs=12 --set optimizer=adamw --set learning_rate=0.002 --set weight_decay=0.05 \
    --set dropout=0 --set stochastic_depth=0 --set held_out=0.1
PARITY := build/parity
PEERS  := build/peers
# One thread a process; the tests of a file share what they make, so they stay in one process.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo results costs test lint format bench bench-video parity soak clean

help:
	@echo "make demo    install, run both ResNet-RS on the embedded Kinetics sample, print the table"
	@echo "make results run again what is committed in results/, and draw its page"
	@echo "make costs   measure again what is in results/profile/: ten minutes of a quiet CPU"
	@echo "make test    install, lint, type-check and run the whole test suite"
	@echo "make lint    ruff and mypy only"
	@echo "make format  let ruff put the code in order"
	@echo "make bench   measure speed beside other libraries (benchmarks/)"
	@echo "make bench-video  the video readers people use, installed into an environment of its own"
	@echo "make parity  compare anew with the official TensorFlow code, in an environment of its own"
	@echo "make soak    the long tests at their full size"
	@echo "make clean   remove .venv, build outputs and caches"

demo: $(STAMP)
	$(BIN)/rsbench run --task kinetics400 --results $(DEMO)

# The committed records: everything in results/ that packages alone can make again. The examples that
# nearest neighbours vote by, and trained networks, are not committed (.gitignore): they are large.
results: $(STAMP)
	$(BIN)/rsbench run --task kinetics400@sample --seeds 0,1,2 --results results
	$(BIN)/rsbench run --task kinetics400@sample --backbone $(SMALL) --protocol finetune $(FROM_SCRATCH) \
	    --seeds 0,1,2 --results results
	$(BIN)/rsbench run --suite offline --backbone $(LITE) --weights pretrained --results results
	$(BIN)/rsbench table results --write
	$(BIN)/rsbench verify results

# ResNet-RS 50 to 152 beside EfficientNet B0 to B5, each at its paper's pixels, on one thread.
costs: $(STAMP)
	$(BIN)/rsbench profile $(NETWORKS) --train --batch-size 4 --threads 1 --device cpu --results results
	$(BIN)/rsbench profile --write

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

# VIDEO="--videos 3 --repeats 5" names the sizes.
bench-video: $(PEERS)/.installed
	OMP_NUM_THREADS=1 $(PEERS)/venv/bin/python benchmarks/video.py $(VIDEO)

# TensorFlow and torch stay apart: one half records and reads checkpoints, the other loads them.
parity: $(STAMP) $(PARITY)/.installed
	PYTHONPATH=. $(PARITY)/venv/bin/python -W ignore tests/parity/record.py $(PARITY)
	$(PARITY)/venv/bin/python -W ignore tests/parity/record_pixels.py
	PYTHONPATH=tests $(PARITY)/venv/bin/python -W ignore tests/parity/record_training.py $(PARITY)
	PYTHONPATH=tests $(PARITY)/venv/bin/python -W ignore tests/parity/record_augmentation.py
	PYTHONPATH=. $(PARITY)/venv/bin/python -m pytest --noconftest -q -m parity tests/test_foreign.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_resnet_rs_parity.py tests/test_optimisation.py \
	    tests/test_schedules.py tests/test_averaging.py tests/test_official_training.py tests/test_lars.py \
	    tests/test_randaugment.py
	@rm -rf $(PARITY)/read
	@echo "parity: our networks, optimizers and distortions, and the official code's checkpoints, give its numbers"

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

$(PARITY)/.installed: tests/parity/requirements.txt | $(BIN)/python
	@echo "Installing TensorFlow and the official models into $(PARITY)/venv (some minutes, 3 GB)"
	@rm -rf $(PARITY)/venv
	@$(BIN)/python -m venv $(PARITY)/venv
	@$(PARITY)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# Without their dependencies: see the file of requirements.
$(PEERS)/.installed: benchmarks/requirements-video.txt setup.cfg constraints.txt | $(BIN)/python
	@echo "Installing rsbench and the readers it is compared with into $(PEERS)/venv"
	@rm -rf $(PEERS)/venv
	@$(BIN)/python -m venv $(PEERS)/venv
	@$(PEERS)/venv/bin/python -m pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	@$(PEERS)/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@
