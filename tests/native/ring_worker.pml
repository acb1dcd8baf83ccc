/* Workers, their death, and its recovery: the other half of ring.pml, which includes this file. */

/* ---- a worker ------------------------------------------------------------------------------------------------------------- */

#define SEE_ROWS 0
#define SEE_HELD 1
#define SEE_OPEN 2
#define SEE_QUEUED 3

#ifdef FINE
inline look() {
  if
  :: (queued[0] || queued[1] || queued[B - 1]) -> seen = SEE_QUEUED
  :: else ->
       h = head;
       do
       :: d_step { ws = word[h % B].seq; wt = word[h % B].state; wn = word[h % B].rows };
          if
          :: ws == h && wt == OPEN && wn == 0 -> seen = SEE_ROWS; break
          :: ws == h && wt == OPEN && wn > 0 ->
               if
               :: wn == C || NEXT_IS_OPENABLE(h) -> seen = SEE_OPEN
               :: else -> seen = SEE_HELD
               fi;
               break
          :: (ws == h && wt != OPEN) || ws == h + B ->
               d_step { if :: head == h -> head = h + 1 :: else fi; h = head }
          :: ws != h && ws != h + B ->
               if
               :: head == h -> seen = SEE_ROWS; break
               :: else -> h = head
               fi
          fi
       od;
       skip;
       d_step { ws = 0; wt = 0 }
  fi
}
#else
inline look() {
  d_step {
    if
    :: (queued[0] || queued[1] || queued[B - 1]) -> seen = SEE_QUEUED
    :: else ->
         do
         :: word[head % B].seq == head + B || (word[head % B].seq == head && word[head % B].state != OPEN) -> head++
         :: else -> break
         od;
         h = head; wn = word[h % B].rows;
         if
         :: word[h % B].seq != h || wn == 0 -> seen = SEE_ROWS; wn = 0
         :: else -> if :: wn == C || NEXT_IS_OPENABLE(h) -> seen = SEE_OPEN :: else -> seen = SEE_HELD fi
         fi
    fi
  }
}
#endif

/* Where the victim may die: before and after every step that others can see. */
#define KILL_POINT if :: lives > 0 -> lives--; goto dying :: true fi

inline take_open() {
  KILL_POINT;
#ifdef BUG_PLAIN_TAKE
  got = (word[h % B].seq == h && word[h % B].state == OPEN);
  if :: got -> d_step { word[h % B].state = TAKEN; word[h % B].owner = me; word[h % B].rows = wn } :: else fi;
#else
  d_step {
    got = (word[h % B].seq == h && word[h % B].state == OPEN && word[h % B].rows == wn);
    if :: got -> word[h % B].state = TAKEN; word[h % B].owner = me :: else fi
  };
#endif
  if
  :: got ->
       b = h % B; s = h; n = wn;
       KILL_POINT;
       d_step { if :: head == h -> head = h + 1 :: else fi }
  :: else
  fi
}

inline take_queued() {
  d_step {
    b = 0;
    do
    :: b < B && !queued[b] -> b++
    :: else -> break
    od;
    if :: b < B -> queued[b] = 0 :: else -> b = NOBODY fi
  };
  if
  :: b != NOBODY ->
       KILL_POINT;
       d_step {
         got = (word[b].state == QUEUED);
         if :: got -> word[b].state = TAKEN; word[b].owner = me; s = word[b].seq; n = word[b].rows :: else fi
       }
  :: else
  fi
}

inline wake_another() {
#if W == 2 && !defined(BUG_NO_CHAIN)
  if
  :: (waiting_rows | waiting_buffer) != 0 ->
       look();
       if
       :: seen == SEE_OPEN || seen == SEE_QUEUED ->
            d_step { pick(waiting_rows) };
            if :: picked == NOBODY -> d_step { pick(waiting_buffer) } :: else fi;
            KILL_POINT;
            wake_picked()
       :: else
       fi
  :: else
  fi;
#endif
  h = 0; wn = 0; seen = 0
}

inline run_rows() {
  d_step {
    assert(word[b].seq == s && word[b].state == TAKEN && word[b].owner == me && word[b].rows == n);
    i = 0;
    do
    :: i < n -> assert(input_seq[b * C + i] == s); output[b * C + i] = input[b * C + i]; i++
    :: else -> break
    od;
    i = 0
  }
}

inline notify(l) {
  if
  :: (mask >> l) & 1 ->
       KILL_POINT;
#ifdef BUG_LOOK_BEFORE_HINT
       d_step { got = loop_waiting[l]; loop_waiting[l] = 0 };
       done_hint[l * B + b] = 1;
#else
       done_hint[l * B + b] = 1;
       KILL_POINT;
       d_step { got = loop_waiting[l]; loop_waiting[l] = 0 };
#endif
       if
       :: got -> got = 0; KILL_POINT; loop_event[l] = 1
       :: else
       fi
  :: else
  fi
}

inline run_batch() {
  KILL_POINT;
  wake_another();
  KILL_POINT;
  atomic { (committed[b] >= n); run_rows() };
#ifdef SLOW
  if
  :: me == 0 -> !ANYTHING_TAKEABLE
  :: else
  fi;
#endif
  KILL_POINT;
  atomic { run_rows(); mask = owners[b]; word[b].state = DONE; n = 0; s = 0 };
  notify(0);
#if LOOPS == 2
  notify(1);
#endif
  b = 0; mask = 0
}

inline sleep_until_woken() {
  d_step {
    asleep[me] = 1;
    if
    :: seen == SEE_ROWS -> waiting_rows = waiting_rows | (1 << me)
    :: else -> waiting_buffer = waiting_buffer | (1 << me)
    fi
  };
  was = seen;
  KILL_POINT;
#ifndef BUG_NO_SECOND_LOOK
  look();
#endif
  if
  :: seen == was ->
end_asleep: !asleep[me]
  :: else
  fi;
  KILL_POINT;
  d_step { waiting_rows = waiting_rows & ~(1 << me); waiting_buffer = waiting_buffer & ~(1 << me); asleep[me] = 0 };
  was = 0; seen = 0; h = 0; wn = 0
}

proctype Worker(byte me) {
  byte lives = (me == VICTIM -> DEATHS : 0);
  byte h, ws, wt, wn, b, s, n, i, seen, was, mask; byte picked = NOBODY;
  bool got;
alive:
  do
  :: look();
     if
     :: seen == SEE_OPEN -> take_open()
     :: seen == SEE_QUEUED -> take_queued()
     :: else -> sleep_until_woken()
     fi;
     if
     :: got -> got = 0; run_batch()
     :: else -> b = 0; h = 0; wn = 0; seen = 0
     fi
  od;
dying:
  h = 0; ws = 0; wt = 0; wn = 0; b = 0; s = 0; n = 0; i = 0; seen = 0; was = 0; mask = 0; picked = NOBODY; got = 0;
  dead = 1;
  !dead;
  goto alive
}

/* ---- death and recovery --------------------------------------------------------------------------------------------------- */

inline recover_buffer(b) {
#ifdef FAIL
  if
  :: word[b].state == TAKEN && word[b].owner == VICTIM ->
       (published[b] == word[b].rows);  /* a loop may be between claim and publish */
       d_step {
         i = 0;
         do
         :: i < word[b].rows -> failed[b * C + i] = 1; i++
         :: else -> break
         od;
         i = 0;
         word[b].state = DONE
       }
  :: else
  fi;
#else
  d_step { if :: word[b].state == TAKEN && word[b].owner == VICTIM -> word[b].state = QUEUED; word[b].owner = 0 :: else fi };
#endif
  d_step {
    if :: word[b].state == QUEUED -> queued[b] = 1 :: else fi;
#ifndef BUG_NO_HINT_IN_RECOVERY
    if :: word[b].state == DONE -> done_hint[b] = 1; done_hint[(LOOPS - 1) * B + b] = 1 :: else fi
#endif
  }
}

proctype Supervisor() {
  byte i; byte picked = NOBODY;
end_watching:
  do
  :: dead ->
       recover_buffer(0);
       recover_buffer(1);
#if B == 3
       recover_buffer(2);
#endif
       d_step { waiting_rows = waiting_rows & ~(1 << VICTIM); waiting_buffer = waiting_buffer & ~(1 << VICTIM) };
#ifdef BUG_WAKE_BY_MASK_IN_RECOVERY
       /* misses a worker that the dead one had picked and not woken: it is on no mask any more */
       d_step { pick(waiting_rows) };
       wake_picked();
       d_step { pick(waiting_buffer) };
       wake_picked();
#else
       d_step { asleep[0] = 0; asleep[W - 1] = 0 };
#endif
       d_step { loop_event[0] = 1; loop_event[LOOPS - 1] = 1; dead = 0 }
  od
}
