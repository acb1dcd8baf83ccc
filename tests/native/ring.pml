/* The protocol of docs/adr/0002-batch-ring.md, for the model checker spin. run_spin.sh runs it in all its variants.
 *
 * Bounds (compile-time): B buffers of C rows, R rows from LOOPS I/O loops, W workers, of which the
 * VICTIM is killed up to DEATHS times, between any two steps; FAIL: dead workers' rows are failed instead of run again. Memory is sequentially consistent, as every operation that two
 * sides order by is in the code. Not modelled: claims of several rows, the delay, row-by-row runs and culprits, hint
 * summaries, wrap of sequences, close(); the native tests have them.
 *
 * Checked: every claimed row is answered exactly once, with what its own worker computed from its own input (assertions); no
 * buffer is reused under a reader (assertions); no state in which a loop waits for answers while everybody sleeps (invalid
 * end states: only sleeping workers may be left). With SLOW, worker 0 holds each batch until nothing else can be taken, so that
 * "somebody will come round" does not hide a lost wake-up of the other worker.
 *
 * BUG_... variants break one rule each; spin must find an error in every one of them.
 */
#ifndef B
#define B 2
#endif
#ifndef C
#define C 2
#endif
#ifndef R
#define R 4
#endif
#ifndef LOOPS
#define LOOPS 1
#endif
#ifndef W
#define W 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef VICTIM
#define VICTIM 0
#endif

#define NOBODY 255
#define OPEN 0
#define TAKEN 1
#define QUEUED 2
#define DONE 3

/* ---- the region ---- */
typedef Word { byte seq; byte state; byte owner; byte rows }  /* one 64-bit word: touched inside d_step only */
Word word[B];
byte committed[B];
byte owners[B];            /* loops that own rows, a bit each */
byte head;
bool queued[B];            /* hints */
bool done_hint[LOOPS * B];
byte waiting_rows;         /* sleeping workers, a bit each */
byte waiting_buffer;
bool asleep[W];            /* futex words */
bool loop_waiting[LOOPS];
byte output[B * C];

/* ---- private to the main process ---- */
byte tail;
byte record_seq[B];        /* the batch that may use the buffer */
byte published[B];
byte handled[B];
bool bell_rows;
bool bell_full;
bool loop_event[LOOPS];    /* eventfds */
byte ticket_seq[B * C];
byte ticket_loop[B * C];
byte ticket_request[B * C];

/* ---- what nobody in the code knows: for the assertions ---- */
byte input[B * C];         /* request, and the batch it was copied for */
byte input_seq[B * C];
bool failed[B * C];
byte answers[R + 1];
bool dead;                 /* the victim, until its batches are recovered */

#define NEXT_IS_OPENABLE(s) (word[((s) + 1) % B].seq == (s) + 1)
#define TAKEABLE_AT(b) (word[b].state == OPEN && word[b].rows > 0 && (word[b].rows == C || NEXT_IS_OPENABLE(word[b].seq)))
#if B == 2
#define ANYTHING_TAKEABLE (TAKEABLE_AT(0) || TAKEABLE_AT(1) || word[0].state == QUEUED || word[1].state == QUEUED)
#else
#define ANYTHING_TAKEABLE (TAKEABLE_AT(0) || TAKEABLE_AT(1) || TAKEABLE_AT(2) || word[0].state == QUEUED || word[1].state == QUEUED || word[2].state == QUEUED)
#endif

/* Takes the lowest waiting worker off a mask: fetch_and decides, so one step. Inside d_step only. */
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

/* ---- an I/O loop ---------------------------------------------------------------------------------------------------------- */

#ifdef FINE
inline claim_row() {
  t = tail;
  do
  :: d_step {
       got = 0;
       if
       :: word[t % B].state == OPEN && word[t % B].seq == t && word[t % B].rows < C ->
            row = word[t % B].rows; word[t % B].rows++; got = 1; i = 0
       :: else
       fi
     };
     if
     :: got -> break
     :: else ->
          if
          :: NEXT_IS_OPENABLE(t) -> d_step { if :: tail == t -> tail = t + 1 :: else fi; t = tail }
          :: else ->
               if
               :: tail != t -> t = tail
               :: else -> break  /* full */
               fi
          fi
     fi
  od
}
#else
inline claim_row() {
  d_step {
    do
    :: (word[tail % B].state != OPEN || word[tail % B].seq != tail || word[tail % B].rows == C) && NEXT_IS_OPENABLE(tail) -> tail++
    :: else -> break
    od;
    t = tail;
    got = (word[t % B].state == OPEN && word[t % B].seq == t && word[t % B].rows < C);
    if :: got -> row = word[t % B].rows; word[t % B].rows++ :: else fi
  }
}
#endif

/* The copy and the owner mask are seen by nobody before `committed`, so they are one step with it. */
inline publish_row() {
  d_step {
    assert(word[t % B].seq == t && record_seq[t % B] == t);
    input[(t % B) * C + row] = request; input_seq[(t % B) * C + row] = t;
    ticket_seq[(t % B) * C + row] = t; ticket_loop[(t % B) * C + row] = me; ticket_request[(t % B) * C + row] = request;
    owners[t % B] = owners[t % B] | (1 << me);
    published[t % B]++;
    committed[t % B]++
  };
  d_step { bell_rows = 1; if :: row == C - 1 -> bell_full = 1 :: else fi; pending++; left--; request++; row = 0; t = 0; got = 0 }
}

#ifdef BUG_BELL_FOR_ROWS_ONLY
#define WORTH_A_BUFFER_WAITER filled
#else
#define WORTH_A_BUFFER_WAITER (filled || NEXT_IS_OPENABLE(tail))
#endif

/* The flags are the loops' own, so clearing them is one step with the look at the first mask. */
inline ring_bell() {
  d_step {
    got = bell_rows; filled = bell_full; bell_rows = 0; bell_full = 0;
#ifdef BUG_LOOK_BEFORE_WORK
    got = got && announced;
#endif
    if :: got -> pick(waiting_rows); got = (picked == NOBODY) :: else fi
  };
  if
  :: got -> d_step { got = 0; if :: WORTH_A_BUFFER_WAITER -> pick(waiting_buffer) :: else fi; filled = 0 }
  :: else
  fi;
  filled = 0;
  wake_picked()
}

/* poll_done() and the answers. Reading them is one step: nobody may write them now, and that is asserted. */
inline collect(b) {
  d_step {
    got = 0;
    if
    :: done_hint[me * B + b] ->
         done_hint[me * B + b] = 0;
         rows = word[b].rows; s = word[b].seq; row = 0;
         do
         :: word[b].state == DONE && s == record_seq[b] && row < rows ->
              if
              :: ticket_seq[b * C + row] == s && ticket_loop[b * C + row] == me ->
                   assert(answers[ticket_request[b * C + row]] == 0);
                   assert(failed[b * C + row] || output[b * C + row] == ticket_request[b * C + row]);
                   answers[ticket_request[b * C + row]] = 1;
                   ticket_seq[b * C + row] = NOBODY; ticket_loop[b * C + row] = 0; ticket_request[b * C + row] = 0;
                   handled[b]++; pending--; any = 1;
                   got = (handled[b] == rows)
              :: else
              fi;
              row++
         :: else -> break
         od;
#ifdef BUG_RECYCLE_EARLY
         got = any;
#endif
         row = 0; rows = 0; s = 0
    :: else
    fi
  };
  if
  :: got -> recycle(b)
  :: else
  fi
}

inline recycle(b) {
  d_step {
    assert(word[b].state == DONE && word[b].seq == record_seq[b]);
    record_seq[b] = record_seq[b] + B; published[b] = 0; handled[b] = 0; committed[b] = 0; owners[b] = 0;
    row = 0;
    do
    :: row < C ->
         failed[b * C + row] = 0; input[b * C + row] = 0; input_seq[b * C + row] = NOBODY; output[b * C + row] = 0; row++
    :: else -> break
    od;
    row = 0;
    word[b].seq = record_seq[b]; word[b].state = OPEN; word[b].rows = 0; word[b].owner = 0;
    got = 0
  };
#ifndef BUG_NO_WAKE_ON_RECYCLE
  d_step { pick(waiting_buffer) };
#ifndef BUG_RECYCLE_FOR_BUFFER_ONLY
  /* the open batch was held, and whoever looked at it since is busy: one that waits for rows can have it */
  if
  :: picked == NOBODY && record_seq[b] == tail + 1 ->
       d_step { if :: word[tail % B].state == OPEN && word[tail % B].seq == tail && word[tail % B].rows > 0 -> pick(waiting_rows) :: else fi }
  :: else
  fi;
#endif
  wake_picked()
#endif
}

proctype Loop(byte me) {
  byte left = R / LOOPS; byte pending = 0; byte request = me * (R / LOOPS) + 1;
  byte t, s, row, rows, i; byte picked = NOBODY;
  bool got, filled, any;
#ifdef BUG_LOOK_BEFORE_WORK
  bool announced;
#endif
  do
  :: left == 0 && pending == 0 -> break
  :: else ->
       /* a pass: some rows from the sockets, the bell once, the answers that are there, sleep */
#ifdef BUG_LOOK_BEFORE_WORK
       announced = (waiting_rows | waiting_buffer) != 0;
#endif
       do
       :: left > 0 ->
            claim_row();
            if
            :: got -> publish_row()
            :: else -> d_step { /* refused: 503 */ answers[request] = 1; left--; request++ }; break
            fi
       :: pending > 0 || left == 0 -> break
       od;
       t = 0;
       ring_bell();
       any = 0;
       collect(0);
       collect(1);
#if B == 3
       collect(2);
#endif
       if
       :: pending > 0 && !any ->
            loop_waiting[me] = 1;
            if
            :: done_hint[me * B] || done_hint[me * B + 1] || done_hint[me * B + B - 1] -> skip
            :: else -> loop_event[me]
            fi;
            d_step { loop_event[me] = 0; loop_waiting[me] = 0 }
       :: else
       fi
  od
}

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

init {
  byte k;
  d_step {
    do
    :: k < B -> word[k].seq = k; record_seq[k] = k; k++
    :: else -> break
    od;
    k = 0;
    do
    :: k < B * C -> ticket_seq[k] = NOBODY; input_seq[k] = NOBODY; k++
    :: else -> break
    od;
    k = 0
  };
  atomic {
    run Loop(0);
#if LOOPS == 2
    run Loop(1);
#endif
    run Worker(0);
#if W == 2
    run Worker(1);
#endif
#if DEATHS > 0
    run Supervisor();
#endif
  }
}
