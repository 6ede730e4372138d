# make run    sets everything up and runs the quick study          make test     sets everything up and runs the tests
# make check  format, lint, types, the fences between rooms        make bench    trainings a minute beside Optuna's and Ray Tune's,
#             overhead, scaling, and the inner loop against torch.optim.SGD: 20 min on two quiet cores (MNIST under HPO_DATA)
# make bench-solvers    a step of curveball, hsic and dladmm against SGD and hand-written loops, 1 to 2 min each
# make bench-storage    the database beside Optuna's, about 15 min      make crash-test   a fault at every point, 25 to 45 min
# make bench-fidelity   every hypergradient against the mean exact one (MNIST and Fashion-MNIST under HPO_DATA)
# make evidence    per-neuron hypergradients beside every search on fifteen data sets: hours; stop it and go on at any time
# make bench-growth     how time and memory grow: studies/scheduling/growth.md and .svg, 15 min at most
# make bench-gpu        trainings a second of stacked replicas beside what the card (without one: the processor) can do
# PYTHON=python3.13 make test chooses another interpreter; everything is installed into .venv only.

PYTHON ?= python3
BIN = .venv/bin
export OMP_NUM_THREADS = 1

.PHONY: run test check crash-test bench bench-solvers bench-storage bench-fidelity bench-growth bench-gpu evidence clean

# torch first and pinned: without the pin pip takes a build with gigabytes of CUDA
.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,postgres,ray]'
	touch $@

run: .venv/.ready
	$(BIN)/hpo run studies/digits/per-neuron.yaml

test: .venv/.ready
	$(BIN)/python -m pytest -n auto

check: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

evidence: .venv/.ready
	$(BIN)/python studies/evidence/evidence.py run
	$(BIN)/python studies/evidence/evidence.py write

bench-fidelity: .venv/.ready
	$(BIN)/python tests/benchmarks/fidelity.py

bench-growth: .venv/.ready
	PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/growth.py --out studies/scheduling

bench-gpu: .venv/.ready
	PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/replicas.py --compile

bench-storage: .venv/.ready
	PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/storage.py
	PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/storage_memory.py

crash-test: .venv/.ready
	$(BIN)/python tests/crash/matrix.py

bench-solvers: .venv/.ready
	$(BIN)/python tests/benchmarks/curveball.py
	$(BIN)/python tests/benchmarks/hsic.py
	$(BIN)/python tests/benchmarks/dladmm.py

bench: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python tests/benchmarks/throughput.py
	$(BIN)/python tests/benchmarks/inner_loop.py

clean:
	rm -rf .venv build dist *.egg-info
