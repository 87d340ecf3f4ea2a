PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TESTED := .venv/.tested
WORKERS ?= 2

.PHONY: quickstart test check bench build doctor

quickstart: $(READY)
	$(BIN)/w4rl quickstart --out runs/quickstart $(ARGS)

# A file's tests run in one process, since they share what they trained.
test: $(TESTED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: $(TESTED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict kernels/w4rl_kernels engines/w4rl_engines w4rl_fast

bench: $(TESTED)
	$(BIN)/python -m bench $(ARGS)

doctor: $(READY)
	$(BIN)/w4rl doctor $(ARGS)

# The wheel is built from the sdist; each is then installed alone, and tried from outside the tree.
build: $(TESTED)
	rm -rf dist
	PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/python -m build
	for package in dist/*.whl dist/*.tar.gz; do \
	  $(PYTHON) -m venv --clear build/smoke && \
	  build/smoke/bin/pip install -q -c constraints.txt "$$package" && \
	  (cd build/smoke && bin/python -I ../../tests/smoke.py && bin/w4rl doctor --json) || exit 1; \
	done

# What the main job takes; then what its tests, its benchmarks and work on it take besides.
$(READY): pyproject.toml constraints.txt CMakeLists.txt $(wildcard kernels/native/* w4rl_fast/robot/native/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[sim,openvino]"
	touch $@

$(TESTED): $(READY)
	$(BIN)/python -m pip install -c constraints.txt -e ".[sim,hdf5,triton,onnx,openvino,tensorrt-rtx,fci,camera,dev]"
	touch $@
