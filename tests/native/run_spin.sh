#!/usr/bin/env bash
# Checks the models of the batch ring: of a block's word (ring.pml, ring_worker.pml) and of what lies above it
# (ring_batches.pml, ring_batches_worker.pml). Proves the protocol within several bounds, then breaks one rule at a time and
# expects an error each time. Two or three minutes on two cores, at most 2 GiB a run. Logs: build/spin.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v spin > /dev/null; then
  echo "model checking is left out: no spin was found (Debian: apt-get install spin)"
  exit 0
fi
models=$PWD/tests/native
folder=$PWD/build/spin
jobs=${JOBS:-$(nproc)}
rm -rf "$folder" && mkdir -p "$folder"

# Bounds to prove: rows, buffers, workers, loops, deaths and so on; see the heads of the models.
ring_proofs=(
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
batches_proofs=(
  "-DR=3"
  "-DR=2 -DDEATHS=1"
  "-DR=2 -DB=3 -DW=1 -DDEATHS=1"
  "-DR=2 -DSHED -DCANCEL"
  "-DR=2 -DC=2 -DSHED -DCANCEL"
  "-DR=3 -DSHED -DCANCEL -DW=1 -DDEATHS=1"
  "-DR=2 -DLANES=2 -DSLOW"
  "-DR=2 -DLANES=2 -DC=2 -DTIMER -DSLOW"
  "-DR=2 -DC=2 -DW=1 -DDEATHS=1 -DQDEATHS=2"
  "-DR=2 -DW=1 -DDEATHS=2 -DQDEATHS=1 -DQFROM=2"
)
# Broken rules to find, each within bounds that show it.
ring_bugs=(
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

batches_bugs=(
  "-DBUG_HINT_FOR_ONE -DR=2 -DW=1"
  "-DBUG_NOTIFY_FOR_FIRST -DR=2 -DW=1"
  "-DBUG_DROPPED_NOT_DONE -DR=2 -DW=1 -DSHED"
  "-DBUG_RUN_SHED -DR=2 -DC=2 -DW=1 -DSHED -DDEATHS=1"
  "-DBUG_CANCEL_FREES -DR=2 -DW=1 -DCANCEL"
  "-DBUG_BELL_ONE_LANE -DR=3 -DLANES=2 -DC=2 -DSLOW"
  "-DBUG_CHAIN_OWN_LANE -DR=2 -DLANES=2 -DSLOW"
  "-DBUG_TIME_NOT_PASSED_ON -DR=2 -DLANES=2 -DC=2 -DTIMER -DSLOW"
  "-DBUG_QUARANTINE_ONCE -DR=2 -DW=1 -DDEATHS=2"
  "-DBUG_QUARANTINE_BY_HINT -DR=2 -DDEATHS=1"
)

check() {  # check model proof|bug "flags"
  local model=$1 kind=$2 flags=$3 place
  place=$folder/$model$(tr -dc '[:alnum:]_=-' <<< "$flags")
  mkdir -p "$place" && cd "$place"
  # shellcheck disable=SC2086  # the flags are several words
  spin -a $flags "$models/$model.pml" > log && cc -w -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c && ./pan -m100000 -w24 >> log 2>&1
  local states found=proved
  states=$(awk '/states, stored/ { print $1 }' log)
  if grep -qE 'assertion violated|invalid end state \(' log; then
    found=refuted
  elif ! grep -q 'errors: 0' log || grep -qE 'Search not completed|max search depth|out of memory' log; then
    found=unfinished
  fi
  echo "$model: $kind $found $states states $flags"
  [[ $kind-$found == proof-proved || $kind-$found == bug-refuted ]]
}
export -f check
export models folder

{
  printf 'ring\0proof\0%s\0' "${ring_proofs[@]}"
  printf 'ring_batches\0proof\0%s\0' "${batches_proofs[@]}"
  printf 'ring\0bug\0%s\0' "${ring_bugs[@]}"
  printf 'ring_batches\0bug\0%s\0' "${batches_bugs[@]}"
} | xargs -0 -n 3 -P "$jobs" bash -c 'check "$@"' check
