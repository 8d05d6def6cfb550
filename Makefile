# Two commands: `make demo` scores the baselines and draws the picture, `make test` runs every test. Both set up a local
# virtual environment first. Any Python >= 3.11 will do: make demo PYTHON=python3.12
# Only agents and their tests need torch, whose usual Linux build brings gigabytes of CUDA. For the build without it name
# the index that PyTorch's installation page gives for "CPU" in pip's own variable: make test PIP_EXTRA_INDEX_URL=...
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
IDS := ebatch/EPUR-Translation-v0 ebatch/EPUR-Speech-v0 ebatch/TPU-Translation-v0 ebatch/TPU-Speech-v0
# Scenarios that ask for more than the paper's settings; the demo's time is too short for them.
MORE_IDS := $(patsubst %,ebatch/%-v0,EPUR-Bursts Machines EPURBaseline-Mixed V100-Shift V100-Decoder EPUR-Stairs)
# Left out: random and serial, which dwarf the picture, and cap and optimal-queue, which are rules for Queue-v0.
# agents stands for the shipped agents made for each of the environments.
POLICIES := ebatch ebatch-fixed full-waves cellular continuous padded buckets triton-sequence lazy early-drop clipper-aimd \
  greedy constant agents
# The same requests on machines that do not notify completions, where idle lanes are padded.
BASELINE_IDS := $(subst TPU,TPUBaseline,$(subst EPUR,EPURBaseline,$(IDS)))
BASELINE_POLICIES := ebatch cellular padded buckets
TUNED := baselines/ebatch_baselines/tuned

INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo readme test test-oldest lint types wheel docs tune headroom reproduce scoreboard verify bench clean

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

demo: $(VENV)/.light
	$(BIN)/ebatch evaluate $(foreach id,$(IDS),--env $(id)) $(foreach name,$(POLICIES),--policy $(name)) \
	  --episodes 24 --processes 2 --out results/demo
	$(BIN)/ebatch evaluate $(foreach id,$(BASELINE_IDS),--env $(id)) $(foreach name,$(BASELINE_POLICIES),--policy $(name)) \
	  --episodes 24 --processes 2 --out results/demo/baseline

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

# Everywhere the command's own budget: 64 settings per policy, each on the same 16 episodes; many more for `linear`, which has
# a hundred weights.
tune: $(VENV)/.light
	$(BIN)/ebatch tune $(foreach id,$(IDS) ebatch/Toy-v0,--env $(id)) --out $(TUNED)
	$(BIN)/ebatch tune $(foreach id,$(MORE_IDS),--env $(id)) $(foreach name,$(filter-out agents,$(POLICIES)),--policy $(name)) --out $(TUNED)
	$(BIN)/ebatch tune $(foreach id,$(BASELINE_IDS),--env $(id)) $(foreach name,$(BASELINE_POLICIES),--policy $(name)) \
	  --out $(TUNED)
	$(BIN)/ebatch tune --env ebatch/Queue-v0 --policy greedy --policy cap --out $(TUNED)
	$(BIN)/ebatch tune $(foreach id,$(filter-out %Speech-v0,$(IDS)) $(MORE_IDS) ebatch/Toy-v0,--env $(id)) --policy linear \
	  --trials 4000 --out $(TUNED)
	$(BIN)/ebatch tune $(foreach id,$(filter %Speech-v0,$(IDS)),--env $(id)) --policy linear --trials 1500 --out $(TUNED)

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
	$(BIN)/ebatch scoreboard $(foreach id,$(IDS) $(MORE_IDS) ebatch/Toy-v0 ebatch/Queue-v0,--env $(id)) --transfer-episodes 8 --processes 2 --out results/scoreboard
	$(BIN)/ebatch verify results/scoreboard --processes 2
	$(BIN)/python docs/generate.py --scoreboard results/scoreboard

# The published scoreboard, from its record and the shipped agents; needs no torch.
verify: $(VENV)/.light
	$(BIN)/ebatch verify docs/scoreboard --processes 2

bench: $(VENV)/.ready
	$(BIN)/ebatch bench

clean:
	rm -rf $(VENV) build dist results .pytest_cache .mypy_cache .ruff_cache .hypothesis
