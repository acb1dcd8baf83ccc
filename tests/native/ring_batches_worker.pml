/* Workers, quarantine, death and recovery: the other half of ring_batches.pml, which includes this file. */

/* ---- a worker ------------------------------------------------------------------------------------------------------------- */

#ifdef TIMER
#define RIPE(lane) (lane == 1 || due || HEAD(lane).rows == C)
#else
#define RIPE(lane) true
#endif

/* What is to be done: run lane `lane`, run what is queued, or wait; and whether rows are held, or wait for a time. */
inline look() {
  d_step {
    seen = NONE; held = 0; waits = 0; lane = NOBODY;
    i = 0;
    do
    :: i < LANES ->
         do
         :: HEAD(i).seq == head[i] + B || (HEAD(i).seq == head[i] && HEAD(i).state != OPEN) -> head[i] = head[i] + 1
         :: else -> break
         od;
         if
         :: TAKEABLE(i) && RIPE(i) && lane == NOBODY -> lane = i; seen = OPEN + 1
         :: TAKEABLE(i) && !RIPE(i) -> waits = 1
         :: HAS_ROWS(i) && !TAKEABLE(i) -> held = 1
         :: else
         fi;
         i++
    :: else -> break
    od;
    i = 0;
    if :: ANY(HINTED) -> seen = QUEUED :: else fi;
    waits = waits && seen == NONE
  }
}

#define KILL_POINT if :: lives > 0 -> lives--; goto dying :: true fi

inline take_block() {
  d_step {
    got = 0;
    if
    :: TAKEABLE(lane) && (n == 0 || head[lane] == next) ->
         b = AT(lane, head[lane]); word[b].state = TAKEN; word[b].owner = me; next = head[lane] + 1; got = 1
    :: else
    fi
  }
}

inline take_queued() {
  d_step {
    got = 0; b = 0;
    do
    :: b < BLOCKS && !queued[b] -> b++
    :: else -> break
    od;
    if :: b < BLOCKS -> queued[b] = 0 :: else -> b = NOBODY fi
  };
  KILL_POINT;
  d_step {
    if :: b != NOBODY -> if :: FOR_ALL(b) -> word[b].state = TAKEN; word[b].owner = me; got = 1 :: else fi :: else fi
  }
}

/* Rows that are not run: answered by an earlier attempt, cancelled, late. One step a row, for the loop may cancel between. */
inline drop_rows() {
  row = 0;
  do
  :: row < word[b].rows ->
       assert(word[b].state == TAKEN && word[b].owner == me);
       if
       :: final[b * C + row] == NONE && cancelled[b * C + row] -> final[b * C + row] = SHED_WORD
#ifdef SHED
       :: final[b * C + row] == NONE -> final[b * C + row] = SHED_WORD
#endif
#ifdef BUG_RUN_SHED
       :: final[b * C + row] == SHED_WORD -> kept = 1
#else
       :: final[b * C + row] != NONE -> skip
#endif
       :: final[b * C + row] == NONE && !cancelled[b * C + row] -> kept = 1
       fi;
       row++
  :: else -> break
  od;
  skip;
  row = 0
}

inline say_done() {
  atomic { assert(word[b].state == TAKEN && word[b].owner == me); word[b].state = DONE };
  KILL_POINT;
#ifdef BUG_HINT_FOR_ONE
  if :: n == 0 -> done_hint[b] = 1 :: else fi
#else
  done_hint[b] = 1
#endif
}

inline notify() {
  KILL_POINT;
  d_step { got = loop_waiting; loop_waiting = 0 };
  if
  :: got -> got = 0; KILL_POINT; loop_event = 1
  :: else
  fi
}

/* A block that was just taken: its rows dropped, and completed at once when none is left. */
inline settle() {
  KILL_POINT;
  kept = 0;
  drop_rows();
  KILL_POINT;
  if
  :: kept -> d_step { mine[n] = b; n++ }
#ifndef BUG_DROPPED_NOT_DONE
  :: !kept -> say_done(); notify()
#else
  :: !kept
#endif
  fi;
  kept = 0; b = 0
}

#ifdef BUG_CHAIN_OWN_LANE
#define WORTH_WAKING (seen != NONE && lane == was_lane)
#elif defined(BUG_TIME_NOT_PASSED_ON)
#define WORTH_WAKING (seen != NONE)
#else
#define WORTH_WAKING (seen != NONE || waits)
#endif

inline wake_another() {
  if
  :: (waiting_rows | waiting_buffer) != 0 ->
       was_lane = lane;
       look();
       if
       :: WORTH_WAKING ->
            d_step { pick(waiting_rows); if :: picked == NOBODY -> pick(waiting_buffer) :: else fi };
            KILL_POINT;
            wake_picked()
       :: else
       fi
  :: else
  fi;
  d_step { seen = NONE; held = 0; waits = 0; lane = 0; was_lane = 0; next = 0 }
}

/* mine[0], ... are completed one by one, and the loop is told when all hints are set. */
inline run_batch() {
  wake_another();
#ifdef SLOW
  if :: me == 0 -> !ANY_TAKEABLE && !ANY(FOR_ALL) :: else fi;
#endif
  count = n; n = 0;
  do
  :: n < count ->
       KILL_POINT;
       b = mine[n];
       d_step {
         assert(word[b].state == TAKEN && word[b].owner == me);
         i = 0;
         do
         :: i < word[b].rows ->
#ifdef BUG_RUN_SHED
              assert(final[b * C + i] != SHED_WORD || cancelled[b * C + i]);
              final[b * C + i] = SERVED;
#else
              if :: final[b * C + i] == NONE -> final[b * C + i] = SERVED :: else fi;
#endif
              i++
         :: else -> break
         od;
         i = 0
       };
       KILL_POINT;
       say_done();
#ifdef BUG_NOTIFY_FOR_FIRST
       if :: n == 0 -> notify() :: else fi;
#endif
       n++
  :: else -> break
  od;
  skip;
#ifndef BUG_NOTIFY_FOR_FIRST
  notify();
#endif
  d_step { n = 0; count = 0; b = 0; mine[0] = 0; mine[K - 1] = 0 }
}

inline sleep_until_woken() {
  d_step {
    was_held = held; was_waits = waits;
    asleep[me] = 1;
    if
    :: held || waits -> waiting_buffer = waiting_buffer | (1 << me)
    :: else -> waiting_rows = waiting_rows | (1 << me)
    fi
  };
  KILL_POINT;
  look();
  if
  :: seen == NONE && held == was_held && waits == was_waits ->
       if
       :: waits -> (!asleep[me] || due)
       :: else ->
end_asleep: !asleep[me]
       fi
  :: else
  fi;
  KILL_POINT;
  d_step {
    waiting_rows = waiting_rows & ~(1 << me); waiting_buffer = waiting_buffer & ~(1 << me); asleep[me] = 0;
    was_held = 0; was_waits = 0
  }
}

proctype Worker(byte me) {
  byte lives = (me == 0 -> DEATHS : 0);
  byte mine[K];
  byte n, b, i, row, seen, lane, was_lane, next, count; byte picked = NOBODY;
  bool got, kept, held, waits, was_held, was_waits;
alive:
  do
  :: look();
     if
     :: seen == OPEN + 1 ->
          do
          :: n < K ->
               KILL_POINT;
               take_block();
               if
               :: got ->
                    got = 0;
                    KILL_POINT;
                    d_step { if :: head[lane] + 1 == next -> head[lane] = next :: else fi };
#ifdef TIMER
                    if :: lane == 0 -> due = 0 :: else fi;
#endif
                    settle()
               :: else -> break
               fi
          :: else -> break
          od
     :: seen == QUEUED -> take_queued(); if :: got -> got = 0; settle() :: else fi
     :: else -> sleep_until_woken()
     fi;
     if
     :: n > 0 -> run_batch()
     :: else -> d_step { seen = NONE; held = 0; waits = 0; lane = 0; next = 0; b = 0 }
     fi
  od;
dying:
  skip;
  d_step {
    n = 0; b = 0; i = 0; row = 0; seen = 0; lane = 0; was_lane = 0; next = 0; count = 0; picked = NOBODY; got = 0; kept = 0;
    held = 0; waits = 0; was_held = 0; was_waits = 0; mine[0] = 0; mine[K - 1] = 0; dead = 1
  };
  !dead;
  goto alive
}

#ifdef TIMER
proctype Clock() {
end_time:
  do
  :: TAKEABLE(0) && !due -> due = 1
  od
}
#endif

/* ---- quarantine, death and recovery --------------------------------------------------------------------------------------- */

/* Looks at the words, runs block by block, ends when it finds none; the supervisor starts the next one. */
proctype Quarantine() {
  byte lives = QDEATHS; byte me = W;
  byte n, b, i, row; bool got;
alive:
end_idle:
  do
  :: q_running && !q_dead ->
       d_step {
         b = 0;
         do
#ifdef BUG_QUARANTINE_BY_HINT
         :: b < BLOCKS && !(WAITS(b) && queued[b]) -> b++
#else
         :: b < BLOCKS && !WAITS(b) -> b++
#endif
         :: else -> break
         od;
         got = b < BLOCKS;
         if
         :: got -> word[b].state = TAKEN; word[b].owner = me; queued[b] = 0
         :: else -> assert(!ANY(WAITS)); b = 0
         fi
       };
       if
       :: got ->
            KILL_POINT;
            d_step {
              assert(word[b].state == TAKEN && word[b].owner == me);
              i = 0;
              do
              :: i < word[b].rows -> if :: final[b * C + i] == NONE -> final[b * C + i] = SERVED :: else fi; i++
              :: else -> break
              od;
              i = 0
            };
            KILL_POINT;
            say_done();
            notify();
            b = 0
       :: else -> q_running = 0
       fi;
       got = 0
  od;
dying:
  b = 0; got = 0; q_dead = 1;
  goto alive
}

/* The row that ran when a worker in quarantine died is the culprit: here the first that has no word. */
inline recover_block(b, victim) {
  d_step {
    if
    :: word[b].state == TAKEN && word[b].owner == victim ->
         got = 1; i = 0;
         do
         :: i < word[b].rows ->
              if
              :: final[b * C + i] == NONE && word[b].epoch >= QFROM && got -> final[b * C + i] = SHED_WORD; got = 0
              :: else
              fi;
              i++
         :: else -> break
         od;
         i = 0; got = 1;
         do
         :: i < word[b].rows -> got = got && final[b * C + i] != NONE; i++
         :: else -> break
         od;
         if
         :: got && word[b].epoch >= QFROM -> word[b].state = DONE
         :: else -> word[b].state = QUEUED; word[b].epoch++
         fi;
         i = 0; got = 0; word[b].owner = 0
    :: else
    fi;
#ifdef BUG_QUARANTINE_BY_HINT
    if :: word[b].state == QUEUED -> queued[b] = 1 :: else fi;
#else
    if :: FOR_ALL(b) -> queued[b] = 1 :: else fi;
#endif
    if :: word[b].state == DONE -> done_hint[b] = 1 :: else fi
  }
}

inline recover(victim) {
  recover_block(0, victim);
  recover_block(1, victim);
#if BLOCKS > 2
  recover_block(2, victim);
#endif
#if BLOCKS > 3
  recover_block(3, victim);
#endif
  d_step { waiting_rows = waiting_rows & ~(1 << victim); waiting_buffer = waiting_buffer & ~(1 << victim) };
  d_step { asleep[0] = 0; asleep[W - 1] = 0; loop_event = 1 };
#ifdef BUG_QUARANTINE_ONCE
  if :: ANY(IN_QUARANTINE) -> q_running = 1 :: else fi
#endif
}

proctype Supervisor() {
  byte i; bool got;
end_watching:
  do
  :: dead -> recover(0); dead = 0
  :: q_dead -> recover(W); d_step { q_dead = 0; q_running = 0 }
#ifndef BUG_QUARANTINE_ONCE
  :: ANY(IN_QUARANTINE) && !q_running && !q_dead -> q_running = 1
#endif
  od
}
