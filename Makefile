PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quickstart test check bench build doctor

quickstart: $(READY)
	$(BIN)/w4rl quickstart --out runs/quickstart $(ARGS)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict kernels/w4rl_kernels engines/w4rl_engines w4rl_fast

bench: $(READY)
	$(BIN)/python -m bench $(ARGS)

doctor: $(READY)
	$(BIN)/w4rl doctor $(ARGS)

# The wheel is built from the sdist; each is then installed alone, and tried from outside the tree.
build: $(READY)
	rm -rf dist
	PIP_CONSTRAINT="$(CURDIR)/constraints.txt" $(BIN)/python -m build
	for package in dist/*.whl dist/*.tar.gz; do \
	  $(PYTHON) -m venv --clear build/smoke && \
	  build/smoke/bin/pip install -q -c constraints.txt "$$package" && \
	  (cd build/smoke && bin/python -I ../../tests/smoke.py && bin/w4rl doctor --json) || exit 1; \
	done

$(READY): pyproject.toml constraints.txt CMakeLists.txt $(wildcard kernels/native/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[sim,hdf5,triton,dev]"
	touch $@
