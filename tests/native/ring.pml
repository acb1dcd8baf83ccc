/* The protocol of docs/adr/0002-batch-ring.md, for the model checker spin. run_spin.sh runs it in all its variants.
 *
 * Bounds (compile-time): B buffers of C rows, R rows from LOOPS I/O loops, W workers, of which the VICTIM is killed up to
 * DEATHS times, between any two steps; FAIL: dead workers' rows are failed instead of run again. A look at the ring and a claim
 * are one step each, with FINE one step per shared word. Memory is sequentially consistent, as the operations in the code are by
 * which two sides sleep and wake. Not modelled: claims of several rows, the delay, row-by-row runs and culprits, hint
 * summaries, wrap of sequences, close(); the native tests have them.
 *
 * Checked: every claimed row is answered exactly once, with what its own worker computed from its own input (assertions); no
 * buffer is reused under a reader (assertions); no state in which a loop waits for answers while everybody sleeps (invalid
 * end states: only sleeping workers may be left). With SLOW, worker 0 holds each batch until nothing else can be taken, so that
 * "somebody will come round" does not hide a lost wake-up of the other worker.
 *
 * The words are here with the I/O loops; workers, death and recovery are in ring_worker.pml.
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

#include "ring_worker.pml"

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
