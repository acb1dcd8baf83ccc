/* Batches of several blocks, lanes, dropped rows and quarantine (docs/adr/0002-batch-ring.md), for the model checker spin.
 *
 * ring.pml proves what happens to one word of one lane, step by step. Here a claim with its publication and each look at the
 * ring are one step, and what lies above the words is modelled: a taker takes up to K blocks in one go, from LANES lanes that
 * share their sleepers, drops rows of them, and tells the loop of all its blocks once; blocks that have killed QFROM workers
 * go to a taker in quarantine. run_spin.sh runs it in all its variants.
 *
 * Bounds (compile-time): LANES lanes of B buffers of C rows, R rows from one I/O loop, W workers, of which the first is killed
 * up to DEATHS times and the one in quarantine up to QDEATHS times, between any two steps. SHED: a taker drops any row it
 * likes as late. CANCEL: the loop marks rows at any time. TIMER: rows of lane 0 that fill no block wait for a time, which some
 * taker has to wait for. SLOW: worker 0 holds each batch until nothing else is left to take.
 *
 * Checked: every claimed row is answered exactly once, never both run and shed, and no block is touched by anyone but the worker
 * that has it (assertions); no state in which rows are left and everybody sleeps (invalid end states).
 *
 * The I/O loop is here; workers, quarantine and recovery are in ring_batches_worker.pml.
 *
 * BUG_... variants break one rule each; spin must find an error in every one of them.
 */
#ifndef LANES
#define LANES 1
#endif
#ifndef B
#define B 2
#endif
#ifndef C
#define C 1
#endif
#ifndef R
#define R 3
#endif
#ifndef W
#define W 2
#endif
#ifndef K
#define K 2
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef QDEATHS
#define QDEATHS 0
#endif
#ifndef QFROM
#define QFROM 1
#endif

#define NOBODY 255
#define OPEN 0
#define TAKEN 1
#define QUEUED 2
#define DONE 3

#define NONE 0
#define SERVED 1
#define SHED_WORD 2

#define BLOCKS (LANES * B)
#define AT(lane, s) ((lane) * B + (s) % B)

typedef Word { byte seq; byte state; byte owner; byte rows; byte epoch }
Word word[BLOCKS];
byte head[LANES];
byte tail[LANES];
bool queued[BLOCKS];       /* hints */
bool done_hint[BLOCKS];
byte waiting_rows;
byte waiting_buffer;
bool asleep[W + 1];
bool loop_waiting;
bool loop_event;
byte final[BLOCKS * C];    /* words of the rows */
bool cancelled[BLOCKS * C];
bool due;                  /* TIMER: the time of the rows in lane 0 has come */
bool bell[LANES];
bool bell_full;

bool dead;                 /* worker 0, until its blocks are recovered */
bool q_running;            /* the worker in quarantine */
bool q_dead;
byte unanswered;           /* claimed and not answered: for the assertions */

#define NEXT_IS_OPENABLE(lane, s) (word[AT(lane, (s) + 1)].seq == (s) + 1)
#define HEAD(lane) word[AT(lane, head[lane])]
#define HAS_ROWS(lane) (HEAD(lane).seq == head[lane] && HEAD(lane).state == OPEN && HEAD(lane).rows > 0)
#define TAKEABLE(lane) (HAS_ROWS(lane) && (HEAD(lane).rows == C || NEXT_IS_OPENABLE(lane, head[lane])))
#define WAITS(b) (word[b].state == QUEUED && word[b].epoch >= QFROM)
#define IN_QUARANTINE(b) ((word[b].state == QUEUED || word[b].state == TAKEN) && word[b].epoch >= QFROM)
#define FOR_ALL(b) (word[b].state == QUEUED && word[b].epoch < QFROM)
#if LANES == 1
#define ANY_TAKEABLE TAKEABLE(0)
#else
#define ANY_TAKEABLE (TAKEABLE(0) || TAKEABLE(1))
#endif
#if BLOCKS == 2
#define ANY(what) (what(0) || what(1))
#elif BLOCKS == 3
#define ANY(what) (what(0) || what(1) || what(2))
#else
#define ANY(what) (what(0) || what(1) || what(2) || what(3))
#endif
#define HINTED(b) queued[b]
#define TOLD(b) done_hint[b]

inline pick(waiting) {
  picked = NOBODY;
  i = 0;
  do
  :: i < W && picked == NOBODY -> if :: (waiting >> i) & 1 -> waiting = waiting & ~(1 << i); picked = i :: else fi; i++
  :: else -> break
  od;
  i = 0
}

inline wake_picked() {
  if
  :: picked != NOBODY -> d_step { asleep[picked] = 0; picked = NOBODY }
  :: else
  fi
}

/* ---- the I/O loop --------------------------------------------------------------------------------------------------------- */

inline claim_row(lane) {
  d_step {
    do
    :: (word[AT(lane, tail[lane])].state != OPEN || word[AT(lane, tail[lane])].seq != tail[lane] ||
        word[AT(lane, tail[lane])].rows == C) && NEXT_IS_OPENABLE(lane, tail[lane]) -> tail[lane]++
    :: else -> break
    od;
    b = AT(lane, tail[lane]);
    if
    :: word[b].state == OPEN && word[b].seq == tail[lane] && word[b].rows < C ->
         word[b].rows++; unanswered++; bell[lane] = 1;
         if :: word[b].rows == C -> bell_full = 1 :: else fi
    :: else  /* refused */
    fi;
    left--; b = 0
  }
}

#ifdef BUG_BELL_ONE_LANE
#define BELL_TAKEABLE(lane) (bell[lane] && lane == 0 && NEXT_IS_OPENABLE(lane, tail[lane]))
#else
#define BELL_TAKEABLE(lane) (bell[lane] && NEXT_IS_OPENABLE(lane, tail[lane]))
#endif

inline ring_bell() {
  d_step {
    got = bell[0] || bell[LANES - 1];
    if :: got -> pick(waiting_rows); got = (picked == NOBODY) :: else fi
  };
  if
  :: got ->
       d_step {
         got = 0;
         if :: bell_full || BELL_TAKEABLE(0) || BELL_TAKEABLE(LANES - 1) -> pick(waiting_buffer) :: else fi
       }
  :: else
  fi;
  d_step { bell[0] = 0; bell[LANES - 1] = 0; bell_full = 0 };
  wake_picked()
}

/* One loop owns all rows of a block, so it answers them and hands the buffer back in one step. */
inline collect(b, lane) {
  d_step {
    got = 0;
    if
    :: done_hint[b] ->
         done_hint[b] = 0;
         if
         :: word[b].state == DONE ->
              i = 0;
              do
              :: i < word[b].rows ->
                   assert(final[b * C + i] != NONE);
#ifndef BUG_CANCEL_FREES
                   unanswered--;
#else
                   if :: !cancelled[b * C + i] -> unanswered-- :: else fi;
#endif
                   final[b * C + i] = NONE; cancelled[b * C + i] = 0; i++
              :: else -> break
              od;
              i = 0;
              word[b].seq = word[b].seq + B; word[b].state = OPEN; word[b].rows = 0; word[b].owner = 0; word[b].epoch = 0;
              got = 1; any = 1
         :: else
         fi
    :: else
    fi
  };
  if
  :: got ->
       d_step {
         got = 0;
         pick(waiting_buffer);
         if
         :: picked == NOBODY && word[b].seq == tail[lane] + 1 && word[AT(lane, tail[lane])].state == OPEN &&
              word[AT(lane, tail[lane])].seq == tail[lane] && word[AT(lane, tail[lane])].rows > 0 -> pick(waiting_rows)
         :: else
         fi
       };
       wake_picked()
  :: else
  fi
}

#define MAY_CANCEL(b) (word[b].rows > 0 && !cancelled[b * C] && !cancels)
inline cancel(b) {
  d_step {
    cancelled[b * C] = 1; cancels = 1;
#ifdef BUG_CANCEL_FREES
    unanswered--;
    if
    :: C == 1 -> assert(word[b].state != TAKEN); word[b].seq = word[b].seq + B; word[b].state = OPEN; word[b].rows = 0
    :: else
    fi
#endif
  }
}

proctype Loop() {
  byte left = R; byte b, i; byte picked = NOBODY;
  bool got, any, cancels;
  do
  :: left == 0 && unanswered == 0 -> break
  :: else ->
       do
       :: left > 0 -> claim_row(0)
#if LANES == 2
       :: left > 0 -> claim_row(1)
#endif
       :: unanswered > 0 || left == 0 -> break
       od;
       skip;
       ring_bell();
#ifdef CANCEL
       if
       :: MAY_CANCEL(0) -> cancel(0)
       :: MAY_CANCEL(1) -> cancel(1)
       :: true
       fi;
#endif
       any = 0;
       collect(0, 0);
       collect(1, (1 / B));
#if BLOCKS > 2
       collect(2, (2 / B));
#endif
#if BLOCKS > 3
       collect(3, (3 / B));
#endif
       if
       :: unanswered > 0 && !any ->
            loop_waiting = 1;
            if
            :: ANY(TOLD)
            :: else -> loop_event
            fi;
            d_step { loop_event = 0; loop_waiting = 0 }
       :: else
       fi
  od
}

#include "ring_batches_worker.pml"

init {
  byte k;
  d_step {
    do
    :: k < BLOCKS -> word[k].seq = k % B; k++
    :: else -> break
    od;
    k = 0
  };
  atomic {
    run Loop();
    run Worker(0);
#if W == 2
    run Worker(1);
#endif
#ifdef TIMER
    run Clock();
#endif
#if DEATHS > 0
    run Supervisor();
    run Quarantine();
#endif
  }
}
