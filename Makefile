# Two commands: `make demo` scores the baselines and draws the picture, `make test` runs every test. Both set up a local
# virtual environment first. Any Python >= 3.11 will do: make demo PYTHON=python3.12
# Only agents and their tests need torch, whose usual Linux build brings gigabytes of CUDA. For the build without it name
# the index that PyTorch's installation page gives for "CPU" in pip's own variable: make test PIP_EXTRA_INDEX_URL=...
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
IDS := $(patsubst %,ebatch/%-v0,EPUR-Translation EPUR-Speech TPU-Translation TPU-Speech EPURBaseline-Mixed)
# The demo's time is too short for these.
MORE_IDS := $(patsubst %,ebatch/%-v0,Machines V100-Shift V100-Decoder EPUR-Stairs Toy)
# Left out: random and serial, which dwarf the picture, cap and optimal-queue, which are rules for Queue-v0, and linear, which has
# a search of its own.
# agents stands for the shipped agents made for each of the environments.
POLICIES := ebatch ebatch-fixed full-waves cellular continuous padded buckets triton-sequence lazy early-drop clipper-aimd \
  greedy constant agents
TUNED := baselines/ebatch_baselines/tuned

INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo install readme test test-oldest lint types wheel docs tune headroom reproduce scoreboard verify bench clean

# What the command needs: no torch.
$(VENV)/.light: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[cli]'
	touch $@

# Everything. torch comes first and pinned, so that no other package picks its version or its build.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(INSTALL) --editable '.[dev]'
	touch $@

install: $(VENV)/.ready

demo: $(VENV)/.light
	$(BIN)/ebatch evaluate $(foreach id,$(IDS),--env $(id)) $(foreach name,$(POLICIES),--policy $(name)) \
	  --episodes 24 --processes 2 --out results/demo

# README's tables and picture, and the samples in docs/cli.md.
readme: demo
	$(BIN)/python docs/generate.py --demo results/demo --command

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The environments on the oldest Gymnasium that pyproject.toml allows, laid over what is installed, outside the tree.
OLDEST := $(shell sed -n 's/.*"\(gymnasium\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml)
test-oldest: $(VENV)/.ready
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python -m pip install --quiet --no-deps --target "$$folder" $(OLDEST); \
	export PYTHONPATH="$$folder"; \
	$(BIN)/python -c "import gymnasium; print('gymnasium', gymnasium.__version__, gymnasium.__file__)"; \
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/environment

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

# The wheel, built and installed where the checkout cannot be seen: nothing may be missing from it.
wheel: $(VENV)/.ready
	set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(BIN)/python -m build --quiet --wheel --outdir "$$folder"; \
	$(PYTHON) -m venv "$$folder/venv"; \
	"$$folder/venv/bin/python" -m pip install --quiet --constraint constraints.txt "$$folder"/*.whl; \
	cd "$$folder"; venv/bin/python -c "import gymnasium as gym, ebatch_env; print(ebatch_env.__file__); \
	  env = gym.make('ebatch/EPUR-Translation-v0'); env.reset(seed=0); print(env.step(env.action_space.sample())[1])"

docs: $(VENV)/.ready
	$(BIN)/python docs/generate.py

# The command's own budget for every policy, on more episodes where they differ much; more candidates for `linear`, which has a
# hundred weights.
VARIED := ebatch/Machines-v0 ebatch/V100-Shift-v0
RULES = $(foreach name,$(filter-out agents,$(POLICIES)),--policy $(name)) --processes 2 --out $(TUNED)
LINEAR = --policy linear --processes 2 --out $(TUNED)
tune: $(VENV)/.light
	$(BIN)/ebatch tune $(RULES) $(foreach id,$(filter-out $(VARIED),$(IDS) $(MORE_IDS)),--env $(id))
	$(BIN)/ebatch tune $(RULES) $(foreach id,$(VARIED),--env $(id)) --episodes 64
	$(BIN)/ebatch tune --env ebatch/Queue-v0 --policy greedy --policy constant --out $(TUNED)
	$(BIN)/ebatch tune --env ebatch/Queue-v0 --policy cap --trials 512 --out $(TUNED)  # one cap in 32 is any good
	$(BIN)/ebatch tune $(LINEAR) $(foreach id,$(filter-out $(VARIED) %Speech-v0,$(IDS) $(MORE_IDS)),--env $(id)) --trials 4000
	$(BIN)/ebatch tune $(LINEAR) $(foreach id,$(VARIED),--env $(id)) --trials 800 --episodes 64
	$(BIN)/ebatch tune $(LINEAR) $(foreach id,$(filter %Speech-v0,$(IDS)),--env $(id)) --trials 256

# How far tuned E-BATCH is from what is possible, on every scenario: docs/headroom.md. The weights of `linear` are those that
# `make tune` found.
headroom: $(VENV)/.light
	$(BIN)/ebatch headroom --processes 2 --candidates 0 --episodes 16 --out results/headroom
	$(BIN)/python docs/generate.py --headroom results/headroom

# Published results beside measured ones: docs/reproduction.md and its charts.
reproduce: $(VENV)/.ready
	$(BIN)/ebatch reproduce --processes 2 --out results/reproduction
	$(BIN)/python docs/generate.py --reproduction results/reproduction

# Agents trained anew, five seeds per scenario, beside all tuned baselines: docs/scoreboard.md, its record and the shipped agents.
# It takes long and goes on where it was stopped.
scoreboard: $(VENV)/.ready
	$(BIN)/ebatch scoreboard $(foreach id,$(IDS) $(MORE_IDS) ebatch/Queue-v0,--env $(id)) --transfer-episodes 8 --processes 2 --out results/scoreboard
	$(BIN)/ebatch verify results/scoreboard --processes 2
	$(BIN)/python docs/generate.py --scoreboard results/scoreboard

# The published scoreboard, from its record and the shipped agents; needs no torch.
verify: $(VENV)/.light
	$(BIN)/ebatch verify docs/scoreboard --processes 2

bench: $(VENV)/.ready
	$(BIN)/ebatch bench

clean:
	rm -rf $(VENV) build dist results .pytest_cache .mypy_cache .ruff_cache .hypothesis
