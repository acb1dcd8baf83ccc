#!/usr/bin/env bash
# Checks the model of the batch ring (ring.pml, ring_worker.pml): proves the protocol within several bounds, then breaks one
# rule at a time and expects an error each time. A minute or two on two cores, at most 2 GiB a run. Logs: build/spin.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v spin > /dev/null; then
  echo "model checking is left out: no spin was found (Debian: apt-get install spin)"
  exit 0
fi
model=$PWD/tests/native/ring.pml
folder=$PWD/build/spin
jobs=${JOBS:-$(nproc)}
rm -rf "$folder" && mkdir -p "$folder"

# Bounds to prove: rows, buffers, workers, loops, deaths; see the head of the model.
proofs=(
  "-DR=3 -DDEATHS=1"
  "-DR=3 -DDEATHS=1 -DVICTIM=1 -DSLOW"
  "-DR=3 -DDEATHS=1 -DVICTIM=1 -DFAIL"
  "-DR=4 -DDEATHS=0 -DB=3 -DSLOW"
  "-DR=2 -DDEATHS=1 -DC=1 -DSLOW"
  "-DR=2 -DDEATHS=0 -DLOOPS=2 -DSLOW"
  "-DR=2 -DDEATHS=1 -DLOOPS=2 -DW=1"
  "-DR=2 -DDEATHS=0 -DFINE"
  "-DR=4 -DDEATHS=2 -DFINE -DW=1"
)
# Broken rules to find, each within bounds that show it.
bugs=(
  "-DBUG_PLAIN_TAKE -DR=2 -DDEATHS=0 -DW=1"
  "-DBUG_LOOK_BEFORE_WORK -DR=2 -DDEATHS=0 -DW=1"
  "-DBUG_LOOK_BEFORE_HINT -DR=2 -DDEATHS=0 -DW=1"
  "-DBUG_NO_SECOND_LOOK -DR=2 -DDEATHS=0 -DW=1"
  "-DBUG_NO_WAKE_ON_RECYCLE -DR=3 -DDEATHS=0 -DW=1"
  "-DBUG_RECYCLE_EARLY -DR=2 -DDEATHS=0 -DLOOPS=2 -DW=1"
  "-DBUG_NO_CHAIN -DR=4 -DDEATHS=0 -DB=3 -DC=1 -DSLOW"
  "-DBUG_BELL_FOR_ROWS_ONLY -DR=4 -DDEATHS=0 -DB=3 -DSLOW"
  "-DBUG_RECYCLE_FOR_BUFFER_ONLY -DR=4 -DDEATHS=0 -DB=3 -DSLOW"
  "-DBUG_NO_HINT_IN_RECOVERY -DR=2 -DDEATHS=1 -DW=1"
  "-DBUG_WAKE_BY_MASK_IN_RECOVERY -DR=2 -DDEATHS=1 -DC=1 -DSLOW"
)

check() {  # check proof|bug "flags"
  local kind=$1 flags=$2 place
  place=$folder/$(tr -dc '[:alnum:]_=-' <<< "$flags")
  mkdir -p "$place" && cd "$place"
  # shellcheck disable=SC2086  # the flags are several words
  spin -a $flags "$model" > log && cc -w -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c && ./pan -m100000 -w24 >> log 2>&1
  local states found=proved
  states=$(awk '/states, stored/ { print $1 }' log)
  if grep -qE 'assertion violated|invalid end state \(' log; then
    found=refuted
  elif ! grep -q 'errors: 0' log || grep -qE 'Search not completed|max search depth|out of memory' log; then
    found=unfinished
  fi
  echo "$kind $found $states states $flags"
  [[ $kind-$found == proof-proved || $kind-$found == bug-refuted ]]
}
export -f check
export model folder

{
  printf 'proof\0%s\0' "${proofs[@]}"
  printf 'bug\0%s\0' "${bugs[@]}"
} | xargs -0 -n 2 -P "$jobs" bash -c 'check "$@"' check
