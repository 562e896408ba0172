# Every target works on a fresh clone: the environment is made first, with ordinary PyTorch from the package index.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false
export PYTHONDONTWRITEBYTECODE :=  # tests start many processes: what they import is compiled once
SEVERAL := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all test-lowest check bench wheel clean

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch torchvision timm
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

.venv/bench: .venv/installed
	$(BIN)/pip install --quiet --editable ".[bench]"
	touch $@

demo: .venv/installed  ## SimCLR on the embedded digits, and what its encoder is worth; of every CPU in one precision
	$(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		--num_cpu_threads_per_process $$($(BIN)/python -c 'import os; print(os.cpu_count())') \
		recipes/simclr.py --config recipes/configs/simclr/toy_digits.yaml --bf16 false --output_dir out/digits

test: .venv/installed  ## the quick tests, several at a time; those of the CPU see no GPU, those of a GPU run by themselves
	$(BIN)/python -m pytest -q $(SEVERAL)
	if command -v nvidia-smi > /dev/null; then $(BIN)/python -m pytest -q -m gpu; fi

test-all: .venv/installed  ## the slow ones too
	$(BIN)/python -m pytest -q $(SEVERAL) -m "not gpu"
	if command -v nvidia-smi > /dev/null; then $(BIN)/python -m pytest -q -m gpu; fi

test-lowest: .venv-lowest/installed  ## the quick tests with the lowest versions that pyproject.toml allows
	.venv-lowest/bin/python -m pytest -q $(SEVERAL)

.venv-lowest/installed: pyproject.toml
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --editable ".[dev]"
	touch $@

check: .venv/installed  ## lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/bench  ## side by side with peers; results to benchmarks/results/
	for name in augmentation nt_xent simclr_step k_shot; do $(BIN)/python -m benchmarks.$$name || exit 1; done

wheel: .venv/installed
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .venv-lowest build dist *.egg-info out
