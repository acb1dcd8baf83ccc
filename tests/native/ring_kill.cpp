// kill -9 of workers: at every numbered point of a taker, then at random ones, thousands of times.
//
// The takers are processes of their own, forked from this one, and kill themselves at the planned point. Whatever dies
// where, every claimed row must be answered exactly once, with its own answer or the error that the rules of death give
// it. PENSTOCK_KILLS=100000 asks for the long form.
#define PENSTOCK_KILL_POINTS 1
// The taker is compiled here with its kill points; the library's copy of it is then not linked.
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "batch_taker.cpp"  // NOLINT(bugprone-suspicious-include)
#include "ring_fixture.hpp"
#include "taken_batch.cpp"  // NOLINT(bugprone-suspicious-include)
#include "taker_sleep.cpp"  // NOLINT(bugprone-suspicious-include)

namespace {

using namespace penstock::test;

constexpr int kNever = -1;

// When a worker process kills itself: when it passes `point` (any point: kNever) for the `passes`-th time; 0: never.
struct KillPlan {
  int point = kNever;
  std::uint32_t passes = 0;
};

KillPlan plan;  // of this process, once it is a worker

void hook(KillPoint point) {
  if (plan.passes == 0 || (plan.point != kNever && plan.point != point)) return;
  if (--plan.passes == 0) raise(SIGKILL);
}

// The rings of a group in the main process, with one I/O loop.
struct Host {
  explicit Host(std::vector<RingConfig> configs, std::uint32_t seed) {
    for (RingConfig& config : configs) {
      config.group = rings.empty() ? nullptr : rings.front().get();
      rings.push_back(std::make_unique<BatchRing>(config));
      loops.push_back(loops.empty() ? std::make_unique<Loop>(*rings.back(), 0, seed)
                                    : std::make_unique<Loop>(*rings.back(), *loops.front(), seed));
    }
  }

  [[nodiscard]] std::size_t waiting() const {
    std::size_t rows = 0;
    for (const auto& loop : loops) rows += loop->waiting();
    return rows;
  }
  [[nodiscard]] Tally tally() const {
    Tally sum;
    for (const auto& loop : loops) {
      sum.submitted += loop->tally().submitted;
      sum.right += loop->tally().right;
      sum.worker_died += loop->tally().worker_died;
      sum.culprits += loop->tally().culprits;
      sum.shed += loop->tally().shed;
    }
    return sum;
  }
  [[nodiscard]] std::vector<int> fds() const {
    std::vector<int> fds;
    for (const auto& ring : rings) fds.push_back(ring->fd());
    return fds;
  }

  std::vector<std::unique_ptr<BatchRing>> rings;
  std::vector<std::unique_ptr<Loop>> loops;
};

// What a worker takes. The server's quarantine is a worker of its own; with a single worker, one does both.
enum class Duty : std::uint8_t { kEverything, kOrdinary, kQuarantine };

// A worker process and its successors.
class Worker {
 public:
  // `plan_of(n)` is the plan of the n-th life.
  Worker(Host& host, std::uint32_t id, std::function<KillPlan(std::uint32_t)> plan_of, Duty duty = Duty::kEverything)
      : host_(host), id_(id), plan_of_(std::move(plan_of)), duty_(duty) {
    start();
  }
  ~Worker() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    close(pidfd_);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  [[nodiscard]] int pidfd() const { return pidfd_; }
  [[nodiscard]] std::uint32_t deaths() const { return deaths_; }
  [[nodiscard]] const KillPlan& current() const { return current_; }

  // The pidfd says that the process is gone: recover its batches, start its successor if there is to be one.
  void bury(bool successor) {
    int status = 0;
    CHECK(waitpid(pid_, &status, 0) == pid_);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);  // anything else is a failed CHECK in the worker
    close(pidfd_);
    ++deaths_;
    pid_ = 0;
    pidfd_ = -1;  // poll() passes over it
    for (const auto& ring : host_.rings) CHECK(!ring->recover(id_).corrupt);
    if (successor) start();
  }

 private:
  void start() {
    current_ = plan_of_(deaths_);
    pid_ = fork();
    CHECK(pid_ >= 0);
    if (pid_ == 0) serve();
    pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    CHECK(pidfd_ >= 0);
  }

  [[noreturn]] void serve() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    plan = current_;
    kill_hook = hook;
    BatchTaker taker(host_.fds(), {host_.loops.front()->event()}, id_, {.quarantine = duty_ == Duty::kQuarantine});
    if (duty_ != Duty::kEverything) {
      for (;;) {
        const std::optional<TakenBatch> batch = taker.take(-1);
        if (batch) run_batch(taker, *batch);
      }
    }
    BatchTaker quarantine(host_.fds(), {host_.loops.front()->event()}, id_, {.quarantine = true});
    for (;;) {
      while (const std::optional<TakenBatch> batch = quarantine.take(0)) run_batch(quarantine, *batch);
      const std::optional<TakenBatch> batch = taker.take(-1);
      if (batch) run_batch(taker, *batch);
    }
  }

  Host& host_;
  const std::uint32_t id_;
  const std::function<KillPlan(std::uint32_t)> plan_of_;
  const Duty duty_;
  std::uint32_t deaths_ = 0;
  KillPlan current_;
  pid_t pid_ = 0;
  int pidfd_ = -1;
};

using Workers = std::vector<std::unique_ptr<Worker>>;

// A worker has died. True: it gets a successor.
using OnDeath = std::function<bool(const Worker&)>;

// One pass of the main process: collect answers, bury the dead, sleep when there is nothing to do. False: nothing
// happened.
void pass(Host& host, Workers& workers, const OnDeath& on_death) {
  std::size_t collected = 0;
  for (std::size_t i = 0; i < host.rings.size(); ++i) {
    host.rings[i]->ring_bell();
    collected += host.loops[i]->collect();
  }
  if (collected > 0) return;
  const bool may_sleep = std::ranges::all_of(host.rings, [](const auto& ring) { return ring->prepare_wait(0); });
  std::vector<pollfd> events{{host.loops.front()->event(), POLLIN, 0}};
  for (const auto& worker : workers) events.push_back({worker->pidfd(), POLLIN, 0});
  const int ready = poll(events.data(), events.size(), may_sleep ? 20'000 : 0);
  for (const auto& ring : host.rings) ring->finish_wait(0);
  CHECK(!may_sleep || ready > 0);  // rows are under way, and nobody woke us: lost
  host.loops.front()->drain_event();
  for (std::size_t i = 0; i < workers.size(); ++i) {
    if (events[i + 1].revents == 0) continue;
    workers[i]->bury(on_death(*workers[i]));
  }
}

void check_all_answered(const Host& host) {
  for (std::size_t i = 0; i < host.rings.size(); ++i) {
    const Loop& loop = *host.loops[i];
    CHECK(loop.waiting() == 0);
    CHECK(loop.tally().answered() == loop.tally().submitted);
    const RingCounters counters = host.rings[i]->counters();
    CHECK(counters.rows_claimed == loop.tally().submitted);
    CHECK(counters.rows_queued == 0 && counters.lost_wakeups == 0);
    CHECK(host.rings[i]->quarantined() == 0);
  }
}

// ---- every point ------------------------------------------------------------------------------------------------

std::array<std::uint32_t, kKillPoints> deaths_at{};

struct Case {
  KillPoint point;
  std::uint32_t earlier = 0;  // lives of each worker that end with a batch in hand, before one ends at the point
  std::uint32_t workers = 1;
  bool rerun = true;
  bool successor = true;  // false: only the first worker dies, and the other must do with what it left
  std::uint32_t block_rows = 4;
};

RingConfig blocks_config(std::uint32_t buffers, std::uint32_t batch_rows, std::uint32_t block_rows, bool rerun) {
  RingConfig config = small_config(buffers, batch_rows);
  config.block_rows = block_rows;
  config.rerun_on_worker_death = rerun;
  return config;
}

void kill_at(const Case& test) {
  Host host({blocks_config(3, 4, test.block_rows, test.rerun)}, static_cast<std::uint32_t>(test.point));
  Loop& loop = *host.loops.front();
  const auto plan_of = [&test](std::uint32_t life) {
    if (life < test.earlier) return KillPlan{kInHand, 1};
    return life == test.earlier ? KillPlan{test.point, 1} : KillPlan{};
  };
  const auto immortal = [](std::uint32_t) { return KillPlan{}; };
  Workers workers;
  workers.push_back(std::make_unique<Worker>(host, 0, plan_of));
  if (test.workers == 2 && test.successor) workers.push_back(std::make_unique<Worker>(host, 1, plan_of));
  if (test.workers == 2 && !test.successor) workers.push_back(std::make_unique<Worker>(host, 1, immortal));
  std::uint64_t deaths = 0;
  const OnDeath on_death = [&](const Worker& worker) {
    ++deaths;
    if (worker.current().point == test.point) ++deaths_at[static_cast<std::size_t>(test.point)];
    return test.successor;
  };
  while (loop.tally().submitted < 60 || loop.waiting() > 0) {
    // Two full batches and a part of one at once, so that one taker has reason to wake the other.
    for (int burst = 0; burst < 10 && loop.tally().submitted < 60; ++burst) {
      if (!loop.submit(1)) break;
    }
    pass(host, workers, on_death);
  }
  check_all_answered(host);
  CHECK(test.rerun ? loop.tally().worker_died == 0 : loop.tally().culprits == 0);
  CHECK(loop.tally().culprits <= deaths);
  CHECK(loop.tally().worker_died <= deaths * host.rings.front()->max_batch_size());
}

void kill_at_every_point() {
  for (int number = 0; number < kKillPoints; ++number) {
    const auto point = static_cast<KillPoint>(number);
    for (const std::uint32_t workers : {1u, 2u}) {
      for (const std::uint32_t earlier : {0u, 1u, 2u}) {
        kill_at({.point = point, .earlier = earlier, .workers = workers, .rerun = true});
        kill_at({.point = point, .earlier = earlier, .workers = workers, .rerun = false});
        kill_at({.point = point, .earlier = earlier, .workers = workers, .block_rows = 1});
      }
    }
    kill_at({.point = point, .workers = 2, .successor = false});
    // Some points are met only when one worker sleeps while another takes: that is the scheduler's to arrange.
    for (int again = 0; again < 200 && deaths_at[static_cast<std::size_t>(point)] == 0; ++again) {
      kill_at({.point = point, .workers = 2});
    }
  }
  std::uint32_t deaths = 0;
  for (int point = 0; point < kKillPoints; ++point) {
    if (deaths_at[static_cast<std::size_t>(point)] == 0) std::fprintf(stderr, "point %d was never reached\n", point);
    CHECK(deaths_at[static_cast<std::size_t>(point)] > 0);
    deaths += deaths_at[static_cast<std::size_t>(point)];
  }
  std::printf("killed at each of %d points, %u times in all\n", static_cast<int>(kKillPoints), deaths);
}

// ---- random points ----------------------------------------------------------------------------------------------

struct Massacre {
  std::vector<RingConfig> rings;
  std::uint32_t workers = 1;
  bool quarantine = false;  // in a process of its own
  bool mixed = false;       // rows of all classes, of which some are late or cancelled
};

void submit_some(BatchRing& ring, Loop& loop, bool mixed) {
  for (std::uint32_t burst = loop.random(2 * ring.max_batch_size()); burst > 0; --burst) {
    const std::uint32_t lane = mixed ? loop.random(ring.lanes()) : kNormalLane;
    loop.use_lane(lane);
    loop.set_deadline(mixed && loop.random(6) == 0 ? 1 : 0);
    if (!loop.submit(loop.random(4) == 0 ? 1 + loop.random(ring.settings(lane).block_rows) : 1)) return;
    if (mixed && loop.random(8) == 0) loop.cancel_one();
  }
}

void kill_at_random(const char* name, std::uint64_t kill_count, std::uint32_t seed, const Massacre& test) {
  Host host(test.rings, seed);
  std::mt19937 random(seed);
  std::uint64_t kills = 0;
  const auto plan_of = [&](std::uint32_t) {
    return kills < kill_count ? KillPlan{kNever, 1 + static_cast<std::uint32_t>(random() % 80)} : KillPlan{};
  };
  Workers workers;
  for (std::uint32_t id = 0; id < test.workers; ++id)
    workers.push_back(
        std::make_unique<Worker>(host, id, plan_of, test.quarantine ? Duty::kOrdinary : Duty::kEverything));
  if (test.quarantine) workers.push_back(std::make_unique<Worker>(host, test.workers, plan_of, Duty::kQuarantine));
  const OnDeath on_death = [&](const Worker&) {
    ++kills;
    return true;
  };
  while (kills < kill_count || host.waiting() > 0) {
    for (std::size_t i = 0; i < host.rings.size() && kills < kill_count; ++i)
      submit_some(*host.rings[i], *host.loops[i], test.mixed);
    if (host.waiting() > 0) pass(host, workers, on_death);
  }
  check_all_answered(host);
  const Tally tally = host.tally();
  const bool rerun = test.rings.front().rerun_on_worker_death;
  CHECK(rerun ? tally.worker_died == 0 : tally.culprits == 0);
  CHECK(tally.culprits <= kills);
  std::printf("%s, %u workers: %llu kills, %llu rows, %llu right, %llu worker_died, %llu culprits, %llu shed\n", name,
              test.workers, static_cast<unsigned long long>(kills), static_cast<unsigned long long>(tally.submitted),
              static_cast<unsigned long long>(tally.right), static_cast<unsigned long long>(tally.worker_died),
              static_cast<unsigned long long>(tally.culprits), static_cast<unsigned long long>(tally.shed));
}

}  // namespace

int main() {
  kill_at_every_point();
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  std::uint64_t kills = 400;
#else
  std::uint64_t kills = 2'000;
#endif
  if (const char* wanted = std::getenv("PENSTOCK_KILLS")) kills = std::strtoull(wanted, nullptr, 10);
  for (const std::uint32_t workers : {1u, 2u}) {
    for (const bool rerun : {true, false}) {
      RingConfig wrapping = blocks_config(4, 8, 8, rerun);
      wrapping.first_block = (std::uint64_t{1} << 36) - 50;
      kill_at_random(rerun ? "rerun" : "fail", kills / 8, workers, {.rings = {wrapping}, .workers = workers});
    }
  }
  const RingConfig blocks = blocks_config(2, 8, 2, true);
  const RingConfig sized = [&] {
    RingConfig config = blocks;
    config.batch_sizes = {4, 8};
    config.reproducible_batch_size = 3;
    return config;
  }();
  kill_at_random("several blocks", kills / 8, 3, {.rings = {blocks}, .workers = 3});
  kill_at_random("several blocks, fail", kills / 8, 4, {.rings = {blocks_config(2, 8, 2, false)}, .workers = 2});
  kill_at_random("a quarantine", kills / 8, 5, {.rings = {blocks}, .workers = 2, .quarantine = true, .mixed = true});
  kill_at_random("a group", kills / 8, 6,
                 {.rings = {sized, blocks_config(3, 4, 4, true)}, .workers = 2, .quarantine = true, .mixed = true});
  return 0;
}
