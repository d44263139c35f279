# `make help` lists what there is.
PYTHON ?= python3
CONFIG ?= configs/maze_fast.yaml
PRECISION ?= bf16-mixed
PONG = --config configs/atari/pong_fast.yaml --trainer.precision $(PRECISION)
JOBS ?= 2
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install fit pong resume tensorboard test test-gpu test-slow coverage wheel-test test-floors prove-resume prove-scale check format benchmark benchmark-peers benchmark-gpu results-classic results-minatar maximization-bias notebook docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make the virtual environment .venv and install lit_dqn with its development tools

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lit_dqn needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[atari,minatar,minigrid,video,export,completion,tune,dev]'
	touch $@

fit: install  ## learn the maze from pixels (CONFIG=configs/... for another run)
	$(BIN)/python -m lit_dqn fit --config $(CONFIG)

pong: install  ## learn Atari's Pong, an hour on one core (PRECISION=32-true on a CPU that is slow with bfloat16)
	$(BIN)/python -m lit_dqn fit $(PONG)
	$(BIN)/python -m lit_dqn fit $(PONG) --config configs/atari/pong_finish.yaml --ckpt_path last

resume: install  ## resume CONFIG's run from its last checkpoint
	$(BIN)/python -m lit_dqn fit --config $(CONFIG) --ckpt_path last

tensorboard: install  ## show the curves and pictures of all runs on http://localhost:6006
	$(BIN)/tensorboard --logdir lightning_logs

test: install  ## run the tests on two cores, in a few minutes (JOBS=8 for eight)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

test-gpu: install  ## run the tests that need a CUDA GPU, in two minutes
	$(BIN)/python -m pytest -m gpu tests/gpu --ignore tests/gpu/test_gpu_speed.py --numprocesses 4 --dist loadfile
	$(BIN)/python -m pytest -m gpu tests/gpu/test_gpu_speed.py

test-slow: install  ## run the tests that train for minutes
	$(BIN)/python -m pytest -m slow

coverage: install  ## run the tests, and show the lines of src that they never reach
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal --cov lit_dqn --cov-report term-missing:skip-covered

test-floors:  ## run the tests with the oldest dependencies that pyproject.toml allows, in a separate environment (8 GB)
	test -x .venv-floors/bin/python || $(PYTHON) -m venv .venv-floors
	.venv-floors/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-floors/bin/uv pip install --quiet --python .venv-floors/bin/python --resolution lowest-direct --editable '.[atari,minatar,minigrid,video,export,completion,tune,dev]'
	OMP_NUM_THREADS=1 .venv-floors/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal

wheel-test: install  ## build the wheel, and test it in an empty environment outside of the repository (8 GB)
	rm -rf dist/*.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	folder=$$(mktemp -d) && trap 'rm -rf $$folder' EXIT && $(PYTHON) -m venv $$folder \
		&& $$folder/bin/python -m pip install --quiet --disable-pip-version-check "$$(ls $(CURDIR)/dist/*.whl)[atari,tune]" \
		&& WHEEL_PYTHON=$$folder/bin/python $(BIN)/python -m pytest -m slow tests/project/test_wheel.py

prove-resume: install  ## kill runs at random moments, resume them, and compare them with runs that were not (some minutes)
	$(BIN)/python tests/prove_resume.py

prove-scale: install  ## share a run among 1, 2 and 4 processes, stop and kill some, and compare the bytes (about forty minutes)
	$(BIN)/python tests/prove_scale.py

check: install  ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: install  ## compare E4 of the lesson with Stable-Baselines3 and a bare loop (about 20 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[benchmark]'
	$(BIN)/python benchmarks/lesson.py

benchmark-peers: install  ## compare Pong and CartPole with four other libraries, which get a separate environment (about 40 minutes)
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers.txt
	test -d .venv-peers/cleanrl || git clone --depth 1 https://github.com/vwxyzjn/cleanrl .venv-peers/cleanrl
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/acting.py
	for script in pong cartpole replay; do \
		$(BIN)/python benchmarks/$$script.py --peer-python .venv-peers/bin/python --cleanrl .venv-peers/cleanrl || exit 1; \
	done

docs: install  ## build the pages as a site in dist/site; dead links and unknown names are errors
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

benchmark-gpu: install  ## measure everything on a GPU (eight minutes); on a CPU a smoke test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[benchmark]'
	$(BIN)/python benchmarks/gpu.py

notebook: install  ## run the lesson's notebooks from top to bottom, in a few minutes (QUICK in lesson15's first cell)
	$(BIN)/jupytext --quiet --to ipynb --update notebooks/*.py
	$(BIN)/jupyter-execute --inplace --timeout=1800 notebooks/*.ipynb

results-classic: install  ## classic control with ten seeds each: table, curves and picture (two hours)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[box2d]'
	$(BIN)/python benchmarks/suite.py classic --overlays benchmarks/compiled.yaml --seeds 0 1 2 3 4 5 6 7 8 9

results-minatar: install  ## MinAtar's five games with three seeds each: table, curves and picture (a night)
	$(BIN)/python benchmarks/suite.py minatar

maximization-bias: install  ## example 6.7 of Sutton & Barto by DQN and Double DQN, 100 runs (about four minutes)
	$(BIN)/python benchmarks/maximization_bias.py

clean:  ## remove the virtual environment and all caches, but no run
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
