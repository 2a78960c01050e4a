# `make demo` and `make test` work on a fresh machine with Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: setup demo demo-train test test-all test-triton test-spark test-page test-light test-gpu peers lint types docs bench release-check

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,parquet,objects,postgres,qdrant,map,triton,ray,train,export,dev,dev-train,dev-release]'
	touch $@

demo: .venv-demo/.ready  ## serve the default model, embed photographs, fill a gallery and show it; no torch
	.venv-demo/bin/python -m demo.demo

.venv-demo/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	.venv-demo/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,gallery,map]'
	touch $@

demo-train: setup  ## the same with a model of its own: attach, export, judge, serve, embed
	$(BIN)/python -m demo.demo --train

# Two processes, and one thread in each of them for what computes: more would wait for each other.
test test-light test-page: export OMP_NUM_THREADS := 1
IN_TWO := -n 2 --dist worksteal

test: setup
	$(BIN)/pytest $(IN_TWO)

test-all: setup .venv-triton/.ready .venv-spark/.ready
	$(BIN)/pytest -m ''

test-page: setup  ## the page in a real Chromium (apt-get install chromium), whose lack is an error here
	VSSL_TEST_REQUIRE=chromium $(BIN)/pytest $(IN_TWO) -m 'page and not slow' tests/page

# Without `setup`: such a machine may have no network, and has torch in its own python3; see tests/gpu/pack.py.
test-gpu:  ## what must hold on a GPU, in under five minutes; DATA=images to train on
	$(or $(wildcard $(BIN)/python),python3) -m tests.gpu.check $(if $(DATA),--data $(DATA))

test-triton: setup .venv-triton/.ready  ## a real Triton, asked for tensors and JPEGs; perf_analyzer against our server
	$(BIN)/pytest -m triton $$(grep -rl --include='*.py' mark.triton tests)

# Triton wants numpy 1 and gets a venv of its own; most of what the wheel asks for is for another use of it.
.venv-triton/.ready: Makefile
	$(PYTHON) -m venv .venv-triton
	.venv-triton/bin/pip install --quiet --disable-pip-version-check --no-deps nvidia-pytriton==0.7.0
	.venv-triton/bin/pip install --quiet --disable-pip-version-check --no-deps tritonclient==2.51.0  # for perf_analyzer
	.venv-triton/bin/pip install --quiet --disable-pip-version-check 'numpy<2' onnxruntime pillow
	touch $@

test-spark: setup .venv-spark/.ready  ## Spark maps our function; without Java (openjdk-17-jre-headless) it is skipped
	$(BIN)/pytest -m spark -rs tests/client/test_spark.py

.venv-spark/.ready: Makefile constraints.txt
	$(PYTHON) -m venv .venv-spark
	.venv-spark/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,parquet]' pandas pyspark==4.0.1
	touch $@

# The servers that benchmarks/serving.py measures beside ours.
peers: .venv-peers/.ready

.venv-peers/.ready: Makefile
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check \
	    litserve==0.2.19 bentoml==1.4.40 onnxruntime==1.32.0 numpy==2.4.6 pillow==13.0.0
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy

docs: setup  ## the site, into site/; a broken link, or anything that a page would load from elsewhere, is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

release-check: setup  ## build what would be released, try it in an empty environment; DIST=folder keeps it
	$(BIN)/python -m release.check $(if $(DIST),--out $(DIST))

bench: setup  ## the figures of docs/figures.md, shortened; without --quick each script prints the full table
	$(BIN)/python -m benchmarks.training_throughput --quick
	$(BIN)/python -m benchmarks.embed_folder --quick

test-light: .venv-light/.ready  ## core, gallery, client and server without torch
	.venv-light/bin/python -c "import importlib.util, sys; sys.exit('torch is in .venv-light' if importlib.util.find_spec('torch') else 0)"
	.venv-light/bin/pytest $(IN_TWO) tests/core tests/gallery tests/client tests/server

.venv-light/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-light
	.venv-light/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,parquet,objects,postgres,qdrant,map,triton,dev]'
	touch $@
