// The worker's side: sleep when there is nothing to take, and wake others when there is more.
#include <algorithm>

#include "futex.hpp"
#include "kill_point.hpp"
#include "taker_state.hpp"
#include "waiting_workers.hpp"

namespace penstock::batcher {
namespace {

constexpr std::uint64_t kSafetyNetNs = 1'000'000'000;  // a sleep ends after this, wake-up or not
constexpr std::uint64_t kBellNs = 300'000'000;         // a loop rings its bell well within this time after it claimed

}  // namespace

// The bell wakes one worker; when there is work for one more, or a time to wait for, whoever was woken passes the bell
// on before it is busy.
void BatchTaker::State::wake_another() noexcept {
  RingHeader& header = sleepers();
  // Relaxed: who announces itself later looks for work itself. pick_waiting() orders what matters.
  const std::uint64_t asleep = header.waiting_for_rows.load(std::memory_order_relaxed) |
                               header.waiting_for_buffer.load(std::memory_order_relaxed);
  if (asleep == 0 || decide_now().action == Action::kWait) return;
  std::optional<std::uint32_t> other = pick_waiting(header.waiting_for_rows);
  if (!other) other = pick_waiting(header.waiting_for_buffer);
  if (!other) return;
  PENSTOCK_KILL_POINT(kWakePicked);
  end_sleep(header, *other);
  PENSTOCK_KILL_POINT(kWakeEnded);
  futex_wake(header.workers[*other].asleep);
}

bool BatchTaker::State::wait(std::uint64_t deadline_ns) noexcept {
  RingHeader& header = sleepers();
  WorkerLines& lines = header.workers[worker];
  // A taker in quarantine is on no mask: it would be woken for rows that it does not take. Recovery wakes it by its
  // futex.
  const bool partial = held;
  const bool waits = !options.quarantine && decide_now().action == Action::kWaitUntil;
  std::atomic<std::uint64_t>& mask = partial || waits ? header.waiting_for_buffer : header.waiting_for_rows;
  PENSTOCK_KILL_POINT(kNothingFound);
  lines.asleep.store(1, std::memory_order_seq_cst);  // pairs with wake_all(), which looks here and not at the masks
  PENSTOCK_KILL_POINT(kAnnouncing);
  // Sequentially consistent: announce, then look again; pairs with pick_waiting(), before which work was made visible.
  if (!options.quarantine) mask.fetch_or(bit, std::memory_order_seq_cst);
  PENSTOCK_KILL_POINT(kAnnounced);
  FutexResult result = FutexResult::kChanged;
  const Decision decision = options.quarantine ? Decision{} : decide_now();
  const bool may_sleep = options.quarantine ? !any_quarantined()
                                            : decision.action != Action::kRun && held == partial &&
                                                  (decision.action == Action::kWaitUntil) == waits;
  const std::uint64_t now_ns = monotonic_ns();
  const std::uint64_t limit_ns = waits ? std::min(decision.until_ns, deadline_ns) : deadline_ns;
  bool on_time = true;
  if (may_sleep && limit_ns > now_ns) {
    if (partial) count(lines.partial_takes_held);
    result = futex_wait(lines.asleep, 1, std::min(limit_ns - now_ns, kSafetyNetNs));
    PENSTOCK_KILL_POINT(kAwake);
    // The end of a delay is no lost wake-up: nobody promised one.
    const bool overslept = result == FutexResult::kTimedOut && !waits && !options.quarantine;
    if (overslept && is_lost()) count(lines.lost_wakeups);
  }
  if (may_sleep) on_time = monotonic_ns() < deadline_ns && result != FutexResult::kInterrupted;
  if (options.quarantine) return on_time;
  // Acquire: pairs with who picked us. If somebody did, the wake-up is ours to act on, however late.
  const bool picked = (mask.fetch_and(~bit, std::memory_order_acq_rel) & bit) == 0;
  PENSTOCK_KILL_POINT(kWithdrawn);
  return on_time || picked;
}

// A sleep has ended by itself. If there is work by now and nobody comes to wake us for it, a wake-up was lost.
bool BatchTaker::State::is_lost() noexcept {
  const Decision before = decide_now();
  if (before.action != Action::kRun) return false;
  WorkerLines& lines = sleepers().workers[worker];
  const std::uint64_t seen = views[before.lane].rows_seen;
  if (futex_wait(lines.asleep, 1, kBellNs) != FutexResult::kTimedOut) return false;
  const Decision after = decide_now();
  // Acquire: pairs with end_sleep().
  return after.action == Action::kRun && after.lane == before.lane && views[after.lane].rows_seen == seen &&
         lines.asleep.load(std::memory_order_acquire) == 1;
}

}  // namespace penstock::batcher
