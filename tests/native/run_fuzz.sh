#!/usr/bin/env bash
# Runs every fuzz target for some seconds (default 20 each), from its committed corpus: run_fuzz.sh [seconds]
# As many targets at once as there are cores. Inputs that reach new code land in build/fuzz/corpus, the logs beside it; one
# that fails is kept as build/fuzz/NAME-*.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-20}
jobs=${JOBS:-$(nproc)}

compiler=${CLANGXX:-}
for candidate in clang++ clang++-{22,21,20,19,18,17,16,15,14}; do
  compiler=${compiler:-$(command -v "$candidate" || true)}
done
if [[ -z $compiler ]]; then
  echo "fuzzing is left out: no clang++ was found (Debian: apt-get install clang)"
  exit 0
fi

PATH=$PWD/.venv/bin:$PATH
cmake --preset fuzz -DCMAKE_CXX_COMPILER="$compiler" > /dev/null
cmake --build --preset fuzz

fuzz() {  # fuzz target
  local name found seeds
  name=$(basename "$1" _fuzz)
  found=build/fuzz/corpus/$name
  seeds=tests/native/corpus/$name
  mkdir -p "$found"
  echo "fuzzing $name for $seconds s"
  "$1" -max_total_time="$seconds" -max_len=4096 -timeout=10 -verbosity=0 -artifact_prefix="build/fuzz/$name-" \
    "$found" $([[ -d $seeds ]] && echo "$seeds") > "build/fuzz/$name.log" 2>&1 || { tail -n 60 "build/fuzz/$name.log" && return 1; }
}
export -f fuzz
export seconds

printf '%s\0' build/fuzz/tests/native/*_fuzz | xargs -0 -n 1 -P "$jobs" bash -c 'fuzz "$@"' fuzz
