# Two commands: `make demo` scores the baselines and draws the picture, `make test` runs every test. Both set up a local
# virtual environment first. Any Python >= 3.11 will do: make demo PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
IDS := ebatch/EPUR-Translation-v0 ebatch/EPUR-Speech-v0 ebatch/TPU-Translation-v0 ebatch/TPU-Speech-v0
# Left out: random and serial, which dwarf the picture, and cap and optimal-queue, which are rules for Queue-v0.
POLICIES := ebatch ebatch-fixed cellular continuous padded buckets triton-sequence lazy early-drop clipper-aimd greedy constant
TUNED := baselines/ebatch_baselines/tuned

.PHONY: demo test lint types wheel docs tune reproduce bench clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/ebatch evaluate $(foreach id,$(IDS),--env $(id)) $(foreach name,$(POLICIES),--policy $(name)) \
	  --episodes 24 --processes 2 --out results/demo

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

# The wheel, installed where the checkout cannot be seen: nothing may be missing from it.
wheel: $(VENV)/.ready
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --quiet --wheel --outdir build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --constraint constraints.txt build/wheel/*.whl
	cd build/wheel && venv/bin/python -c "import gymnasium as gym, ebatch_env; \
	  env = gym.make('ebatch/EPUR-Translation-v0'); env.reset(seed=0); print(env.step(env.action_space.sample())[1])"

docs: $(VENV)/.ready
	$(BIN)/python docs/generate.py

tune: $(VENV)/.ready
	$(BIN)/ebatch tune --env ebatch/EPUR-Translation-v0 --env ebatch/TPU-Translation-v0 --env ebatch/Toy-v0 \
	  --trials 100 --episodes 32 --out $(TUNED)
	$(BIN)/ebatch tune --env ebatch/EPUR-Speech-v0 --env ebatch/TPU-Speech-v0 --trials 20 --episodes 4 --out $(TUNED)
	$(BIN)/ebatch tune --env ebatch/Queue-v0 --policy greedy --policy cap --trials 100 --episodes 16 --out $(TUNED)

# Published results beside measured ones: docs/reproduction.md and its charts.
reproduce: $(VENV)/.ready
	$(BIN)/ebatch reproduce --processes 2 --out results/reproduction
	$(BIN)/python docs/generate.py --reproduction results/reproduction

bench: $(VENV)/.ready
	$(BIN)/ebatch bench

clean:
	rm -rf $(VENV) build dist results .pytest_cache .mypy_cache .ruff_cache .hypothesis
