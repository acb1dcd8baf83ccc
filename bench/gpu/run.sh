#!/usr/bin/env bash
# Everything that needs a GPU, in one command of under ten minutes: builds what a worker needs with the python3 at hand,
# runs the tests of the CUDA lane and of the pipeline, and the benchmark. No network, no .venv, no data plane.
#
#   bench/gpu/run.sh [FOLDER]        the report goes there: gpu.json, gpu.md, tests.txt, compiled.txt, log.txt, build.txt [gpu-results]
#   DEVICE=host QUICK=1 ...          without a GPU: shows that the command itself works
#
# python3 must have nanobind, numpy, pytest and cuda-bindings (which PyTorch's wheels for CUDA bring along); nvcc, cmake
# and a C++20 compiler must be there. Without PyTorch, onnxruntime-gpu or nvidia-ml-py the rest is run, and the report
# says what was not.
#
# Each part has its time, and what one part loses costs the others nothing; only a build that fails ends it.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
out=${1:-gpu-results}
device=${DEVICE:-cuda:0}
total_s=550
build_s=200
tests_s=150
status=0
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/{gpu.json,gpu.md,tests.txt,compiled.txt,log.txt,build.txt}

say() { echo "[$SECONDS s] $*"; }

command -v nvcc > /dev/null || export PATH=$PATH:/usr/local/cuda/bin
# Tools beside python3 count, too: cmake and ninja come as packages of Python.
PATH=$("$python" -c 'import os, sys; print(os.path.dirname(sys.executable))'):$PATH
export PATH
{
  date -u
  nproc
  nvidia-smi 2>&1
  nvcc --version 2>&1
  "$python" --version
} > "$out/build.txt"

if [ "$device" != host ] && ! "$python" -c 'import cuda.bindings.driver' 2> /dev/null; then
  say "python3 has no cuda-bindings, without which nothing runs on a GPU: pip install 'cuda-bindings>=13,<14'"
  exit 1
fi

build() {
  local generator=()
  command -v ninja > /dev/null && generator=(-G Ninja)
  # Of its own for each python3: a folder that another one configured would be an error.
  cmake -S . -B build/gpu "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DPENSTOCK_DATAPLANE=OFF -DPENSTOCK_TESTS=OFF \
    -DPENSTOCK_WERROR=OFF -DPython_EXECUTABLE="$("$python" -c 'import sys; print(sys.executable)')" || return
  cmake --build build/gpu --parallel "$(nproc)" --target _kernels _batcher _cuda_kernels || return
  # Python sources and modules of their own, so that those of another Python stay as they are.
  rm -rf build/gpu/python && mkdir -p build/gpu/python && cp -r server/penstock build/gpu/python/ || return
  rm -f build/gpu/python/penstock/native/*.so build/gpu/python/penstock/native/*.fatbin
  cmake --install build/gpu --component modules --prefix build/gpu/python
}

say "building"
if [ -f build/gpu/CMakeCache.txt ] && ! grep -qx "Python_EXECUTABLE:[A-Z]*=$("$python" -c 'import sys; print(sys.executable)')" build/gpu/CMakeCache.txt; then
  rm -rf build/gpu
fi
export -f build
export python
if ! timeout --kill-after=10 "$build_s" bash -c build >> "$out/build.txt" 2>&1; then
  say "the build failed; its last lines ($out/build.txt has all):"
  tail -30 "$out/build.txt"
  exit 1
fi

export PYTHONPATH=$PWD/build/gpu/python:$PWD PYTHONUNBUFFERED=1
# One line for each test, so that a run that is cut short has told something. Warnings are the releases' own there.
tests() { # SECONDS FILE ARGUMENTS...
  local seconds=$1 file=$2
  shift 2
  timeout --kill-after=10 "$seconds" "$python" -m pytest -v --tb=short --noconftest -p no:cacheprovider -W default \
    -o addopts='--import-mode=importlib -ra' "$@" > "$out/$file" 2>&1
}

say "testing"
tests "$tests_s" tests.txt tests/integration/test_cuda.py tests/integration/test_devices.py \
  tests/integration/test_device_plans.py tests/unit/test_gpu_watch.py -k 'not inductor' || status=1
tail -25 "$out/tests.txt"

say "measuring"
"$python" -m bench.gpu --device "$device" --budget-s $((total_s - SECONDS)) ${QUICK:+--quick} \
  ${NETWORKS:+--networks "$NETWORKS"} --out "$out" || status=1
# A minute or more of compiling: last, with what time is left.
if [ "$device" != host ] && [ $SECONDS -lt $((total_s - 60)) ]; then
  say "compiling a network for the GPU"
  tests $((total_s + 15 - SECONDS)) compiled.txt tests/integration/test_cuda.py -k inductor || status=1
  tail -5 "$out/compiled.txt"
fi
say "done: $out/gpu.md"
exit $status
