// The worker's side: find a batch, take it, sleep when there is none.
#include "penstock/batcher/batch_taker.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "futex.hpp"
#include "kill_point.hpp"
#include "taker_state.hpp"
#include "waiting_workers.hpp"

namespace penstock::batcher {
namespace {

constexpr std::uint64_t kForever = ~std::uint64_t{0};
constexpr std::uint64_t kSafetyNetNs = 1'000'000'000;  // a sleep ends after this, wake-up or not
constexpr std::uint64_t kBellNs = 300'000'000;         // a loop rings its bell well within this time after it claimed
constexpr std::uint32_t kSinglyFrom = 2;               // deaths after which a batch is run row by row
constexpr std::uint32_t kSpinRowsMax = 2;              // larger batches come of traffic that keeps the cores busy
constexpr int kSpins = 200;                            // about the time a producer copies a row; then it was preempted

void pause_briefly() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

RingMap attach(int ring_fd) {
  SharedRegion region = SharedRegion::attach(ring_fd);
  RingPlan plan = read_header(region.data(), region.bytes());
  return {std::move(region), std::move(plan)};
}

void count(std::atomic<std::uint64_t>& counter) noexcept {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // a statistic with one writer
}

bool takes(const TakeDecision& decision) noexcept {
  return decision.take == Take::kQueued || decision.take == Take::kOpen;
}

}  // namespace

Descriptor::Descriptor(int fd) : fd_(fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "cannot duplicate the eventfd of an I/O loop");
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

BatchTaker::State::State(int ring_fd, const std::vector<int>& loop_event_fds, std::uint32_t worker_id)
    : map(attach(ring_fd)),
      worker(worker_id),
      bit(std::uint64_t{1} << (worker_id % kWorkersMax)),
      queue_delay_ns(map.header().max_queue_delay_ns),
      gathered(map.plan().schema.inputs.size()) {
  if (worker_id >= kWorkersMax) throw std::runtime_error("a ring has workers 0 to 63");
  if (loop_event_fds.size() < map.plan().loops)
    throw std::runtime_error("the ring has more I/O loops than eventfds came");
  loop_events.reserve(loop_event_fds.size());
  for (const int fd : loop_event_fds) loop_events.emplace_back(fd);
}

BatchTaker::BatchTaker(int ring_fd, std::vector<int> loop_event_fds, std::uint32_t worker)
    : state_(std::make_unique<State>(ring_fd, loop_event_fds, worker)) {}
BatchTaker::~BatchTaker() = default;

std::uint32_t BatchTaker::max_batch_size() const noexcept { return state_->map.plan().rows_max; }
std::uint32_t BatchTaker::buffers() const noexcept { return state_->map.plan().buffers; }
const ModelSchema& BatchTaker::schema() const noexcept { return state_->map.plan().schema; }

std::optional<TakenBatch> BatchTaker::take(int timeout_ms) noexcept {
  State& state = *state_;
  const std::uint64_t deadline_ns =
      timeout_ms < 0 ? kForever : monotonic_ns() + static_cast<std::uint64_t>(timeout_ms) * 1'000'000;
  for (;;) {
    const TakeDecision decision = state.decide_now();
    if (decision.take == Take::kQueued) {
      if (std::optional<TakenBatch> batch = state.take_queued()) return batch;
    } else if (decision.take == Take::kOpen) {
      if (std::optional<TakenBatch> batch = state.take_open()) return batch;
    } else if (timeout_ms == 0) {
      return std::nullopt;
    } else if (!state.spin(decision) && !state.wait(decision, deadline_ns)) {
      return std::nullopt;
    }
  }
}

bool BatchTaker::State::spin(const TakeDecision& decision) noexcept {
  return rows_last <= kSpinRowsMax && decision.take == Take::kWaitForRows &&
         spinner.find([this] { return takes(decide_now()); });
}

TakeDecision BatchTaker::State::decide_now() noexcept {
  const RingView view = look();
  return decide(std::span(&view, 1), queue_delay_ns == 0 ? 0 : monotonic_ns());
}

// The loads of words are sequentially consistent: after an announcement they must see what a producer, recycle() or
// recovery made visible before it read the announcement (pick_waiting()).
RingView BatchTaker::State::look() noexcept {
  RingHeader& header = map.header();
  const std::uint32_t buffers = map.plan().buffers;
  RingView view{.queued = header.queued.any(), .queue_delay_ns = queue_delay_ns};
  std::uint64_t head = header.head.load(std::memory_order_acquire);  // pairs with the CAS below, in any taker
  for (;;) {
    BufferControl& control = map.control(static_cast<std::uint32_t>(head % buffers));
    const std::uint64_t bits = control.word.load(std::memory_order_seq_cst);
    const BatchWord word = unpack(bits);
    if (word.is_of(head) && word.state == BatchState::kOpen) {
      seen_sequence = head;
      seen_bits = bits;
      view.rows = word.rows;
      if (word.rows == 0) return view;
      const BatchWord next =
          unpack(map.control(static_cast<std::uint32_t>((head + 1) % buffers)).word.load(std::memory_order_seq_cst));
      view.next_free = next.is_of(head + 1);
      const bool passed = view.next_free && (next.state != BatchState::kOpen || next.rows > 0);
      view.sealed = word.rows == map.plan().rows_max || passed;
      view.oldest_ns = control.first_arrival_ns.load(std::memory_order_relaxed);  // 0 or right: recycle() clears it
      return view;
    }
    if (word.is_of(head) || word.is_of(head + buffers)) {
      // Taken by a worker that did not move `head`, alive or dead: move it for him.
      if (header.head.compare_exchange_strong(head, head + 1, std::memory_order_acq_rel, std::memory_order_acquire))
        ++head;
      continue;
    }
    // The buffer of batch `head` still holds the batch of the lap before: there is nothing to take.
    const std::uint64_t now = header.head.load(std::memory_order_acquire);
    if (now == head) return view;
    head = now;
  }
}

std::optional<TakenBatch> BatchTaker::State::take_word(std::uint64_t sequence, std::uint32_t buffer,
                                                       std::uint64_t bits) noexcept {
  BatchWord taken = unpack(bits);
  taken.state = BatchState::kTaken;
  taken.owner = worker;
  // Acquire: pairs with claim() and recycle(), or with the recovery that queued the batch.
  if (!map.control(buffer).word.compare_exchange_strong(bits, pack(taken), std::memory_order_acq_rel,
                                                        std::memory_order_relaxed))
    return std::nullopt;
  PENSTOCK_KILL_POINT(kAfterTake);
  rows_last = taken.rows;
  count(map.header().workers[worker].batches_taken);
  return TakenBatch{.sequence = sequence,
                    .buffer = buffer,
                    .rows = taken.rows,
                    .attempt = taken.epoch,
                    .singly = taken.epoch >= kSinglyFrom};
}

std::optional<TakenBatch> BatchTaker::State::take_open() noexcept {
  PENSTOCK_KILL_POINT(kBeforeTake);
  std::uint64_t head = seen_sequence;
  const auto buffer = static_cast<std::uint32_t>(head % map.plan().buffers);
  std::optional<TakenBatch> batch = take_word(head, buffer, seen_bits);
  if (!batch) return std::nullopt;
  // Release: pairs with the load in look(). Who fails was overtaken by a taker that found `head` behind.
  map.header().head.compare_exchange_strong(head, head + 1, std::memory_order_acq_rel, std::memory_order_relaxed);
  PENSTOCK_KILL_POINT(kAfterHead);
  await_rows(*batch);
  return batch;
}

std::optional<TakenBatch> BatchTaker::State::take_queued() noexcept {
  RingHeader& header = map.header();
  const std::optional<std::uint32_t> buffer = header.queued.pop([] { PENSTOCK_KILL_POINT(kQueuedDropped); });
  if (!buffer || *buffer >= map.plan().buffers) return std::nullopt;
  PENSTOCK_KILL_POINT(kQueuedPopped);
  const std::uint64_t bits = map.control(*buffer).word.load(std::memory_order_acquire);  // pairs with recover_batch()
  const BatchWord word = unpack(bits);
  if (word.state != BatchState::kQueued) return std::nullopt;
  // The word holds the low bits of the batch's number; it is less than one lap behind `head`.
  const std::uint64_t head = header.head.load(std::memory_order_acquire);
  const std::uint64_t sequence = head - ((head - word.sequence) & kSequenceMask);
  std::optional<TakenBatch> batch = take_word(sequence, *buffer, bits);
  if (batch) await_rows(*batch);
  return batch;
}

void BatchTaker::State::await_rows(const TakenBatch& batch) noexcept {
  BufferControl& control = map.control(batch.buffer);
  control.taken_ns.store(monotonic_ns(), std::memory_order_relaxed);  // a statistic, as below
  wake_another();
  PENSTOCK_KILL_POINT(kAwaitingRows);
  // Acquire: the rows' bytes and the loop mask; pairs with publish().
  for (int spins = 0; control.committed.load(std::memory_order_acquire) < batch.rows; ++spins) {
    if (spins < kSpins) {
      pause_briefly();
    } else {
      sched_yield();
    }
  }
  control.run_ns.store(monotonic_ns(), std::memory_order_relaxed);
  PENSTOCK_KILL_POINT(kInHand);
}

// The bell wakes one worker; when there is work for one more, whoever was woken passes the bell on.
void BatchTaker::State::wake_another() noexcept {
  RingHeader& header = map.header();
  // Relaxed: who announces itself later looks for work itself. pick_waiting() orders what matters.
  const std::uint64_t asleep = header.waiting_for_rows.load(std::memory_order_relaxed) |
                               header.waiting_for_buffer.load(std::memory_order_relaxed);
  if (asleep == 0 || !takes(decide_now())) return;
  std::optional<std::uint32_t> other = pick_waiting(header.waiting_for_rows);
  if (!other) other = pick_waiting(header.waiting_for_buffer);
  if (!other) return;
  PENSTOCK_KILL_POINT(kWakePicked);
  end_sleep(header, *other);
  PENSTOCK_KILL_POINT(kWakeEnded);
  futex_wake(header.workers[*other].asleep);
}

bool BatchTaker::State::wait(const TakeDecision& decision, std::uint64_t deadline_ns) noexcept {
  RingHeader& header = map.header();
  WorkerLines& lines = header.workers[worker];
  std::atomic<std::uint64_t>& mask =
      decision.take == Take::kWaitForRows ? header.waiting_for_rows : header.waiting_for_buffer;
  lines.asleep.store(1, std::memory_order_seq_cst);  // pairs with wake_all(), which looks here and not at the masks
  PENSTOCK_KILL_POINT(kAnnouncing);
  // Sequentially consistent: announce, then look again; pairs with pick_waiting(), before which work was made visible.
  mask.fetch_or(bit, std::memory_order_seq_cst);
  PENSTOCK_KILL_POINT(kAnnounced);
  FutexResult result = FutexResult::kChanged;
  const std::uint64_t now_ns = monotonic_ns();
  const std::uint64_t limit_ns =
      decision.take == Take::kWaitUntil ? std::min(decision.until_ns, deadline_ns) : deadline_ns;
  const bool may_sleep = decide_now().take == decision.take;
  bool on_time = true;
  if (may_sleep && limit_ns > now_ns) {
    if (decision.take == Take::kWaitForBuffer) count(lines.partial_takes_held);
    const std::uint64_t sleep_ns = std::min(limit_ns - now_ns, kSafetyNetNs);
    result = futex_wait(lines.asleep, 1, sleep_ns);
    PENSTOCK_KILL_POINT(kAwake);
    // The end of a delay is no lost wake-up: nobody promised one.
    const bool overslept = result == FutexResult::kTimedOut && decision.take != Take::kWaitUntil;
    if (overslept && is_lost()) count(lines.lost_wakeups);
  }
  if (may_sleep) on_time = monotonic_ns() < deadline_ns && result != FutexResult::kInterrupted;
  // Acquire: pairs with who picked us. If somebody did, the wake-up is ours to act on, however late.
  const bool picked = (mask.fetch_and(~bit, std::memory_order_acq_rel) & bit) == 0;
  PENSTOCK_KILL_POINT(kWithdrawn);
  return on_time || picked;
}

// A sleep has ended by itself. If there is work by now and nobody comes to wake us for it, a wake-up was lost.
bool BatchTaker::State::is_lost() noexcept {
  if (!takes(decide_now())) return false;
  WorkerLines& lines = map.header().workers[worker];
  const std::uint64_t batch = seen_sequence;
  if (futex_wait(lines.asleep, 1, kBellNs) != FutexResult::kTimedOut) return false;
  const TakeDecision decision = decide_now();
  // Acquire: pairs with end_sleep().
  return takes(decision) && seen_sequence == batch && lines.asleep.load(std::memory_order_acquire) == 1;
}

}  // namespace penstock::batcher
