// Numbered places between two steps of a taker, where a test may kill it. Compiled to nothing outside of such tests.
#pragma once

#ifdef PENSTOCK_KILL_POINTS

namespace penstock::batcher {

enum KillPoint : int {
  kBeforeTake,     // a batch was seen, nothing done
  kAfterTake,      // the word says TAKEN, `head` is behind
  kAfterHead,      // nobody else was woken yet
  kWakePicked,     // another worker is off the mask and still asleep
  kWakeEnded,      // its futex word is cleared, the wake-up not sent
  kAwaitingRows,   // taken, rows may not be committed
  kInHand,         // take() returns
  kQueuedPopped,   // the hint of a queued batch is consumed
  kQueuedDropped,  // an empty leaf was cleared from the summary
  kNothingFound,   // nothing announced yet
  kAnnouncing,     // `asleep` is set, the mask is not
  kAnnounced,      // before the second look
  kAwake,          // woken, still announced
  kWithdrawn,      // off the mask again
  kRunning,        // mark_running() returns
  kRowCompleting,  // complete_row(): the word of the row is not written
  kRowCompleted,
  kRowFailing,  // fail_row(): detail written, kind not
  kRowFailed,
  kCompletingRows,  // complete(): between the words of two rows
  kBeforeDone,
  kAfterDone,    // no hint yet
  kHintHalfSet,  // leaf, no summary
  kHintSet,      // the loop's announcement was not read
  kLoopPicked,   // the loop's announcement is withdrawn, its eventfd not written
  kLoopNotified,
  kKillPoints
};

inline void (*kill_hook)(KillPoint) = nullptr;

}  // namespace penstock::batcher

#define PENSTOCK_KILL_POINT(point)   \
  do {                               \
    if (kill_hook) kill_hook(point); \
  } while (false)

#else

#define PENSTOCK_KILL_POINT(point) \
  do {                             \
  } while (false)

#endif
