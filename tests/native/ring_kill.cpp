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

// A worker process and its successors.
class Worker {
 public:
  // `plan_of(n)` is the plan of the n-th life; `killer` an id whose row kills whoever runs it.
  Worker(BatchRing& ring, Loop& loop, std::uint32_t id, std::function<KillPlan(std::uint32_t)> plan_of)
      : ring_(ring), loop_(loop), id_(id), plan_of_(std::move(plan_of)) {
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
    CHECK(!ring_.recover(id_).corrupt);
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
    // A worker that does both: where nothing ordinary is to be done, it looks what waits in quarantine.
    BatchTaker taker(ring_.fd(), {loop_.event()}, id_);
    BatchTaker quarantine(ring_.fd(), {loop_.event()}, id_, {.quarantine = true});
    for (;;) {
      while (const std::optional<TakenBatch> batch = quarantine.take(0)) run_batch(quarantine, *batch);
      const std::optional<TakenBatch> batch = taker.take(-1);
      if (batch) run_batch(taker, *batch);
    }
  }

  BatchRing& ring_;
  Loop& loop_;
  const std::uint32_t id_;
  const std::function<KillPlan(std::uint32_t)> plan_of_;
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
void pass(BatchRing& ring, Loop& loop, Workers& workers, const OnDeath& on_death) {
  ring.ring_bell();
  if (loop.collect() > 0) return;
  const bool may_sleep = ring.prepare_wait(0);
  std::vector<pollfd> events{{loop.event(), POLLIN, 0}};
  for (const auto& worker : workers) events.push_back({worker->pidfd(), POLLIN, 0});
  const int ready = poll(events.data(), events.size(), may_sleep ? 20'000 : 0);
  ring.finish_wait(0);
  CHECK(!may_sleep || ready > 0);  // rows are under way, and nobody woke us: lost
  loop.drain_event();
  for (std::size_t i = 0; i < workers.size(); ++i) {
    if (events[i + 1].revents == 0) continue;
    workers[i]->bury(on_death(*workers[i]));
  }
}

void check_all_answered(const BatchRing& ring, const Loop& loop) {
  CHECK(loop.waiting() == 0);
  CHECK(loop.tally().answered() == loop.tally().submitted);
  CHECK(ring.counters().rows_claimed == loop.tally().submitted);
  CHECK(ring.counters().rows_queued == 0);
  CHECK(ring.counters().lost_wakeups == 0);
}

// ---- every point
// ----------------------------------------------------------------------------------------------------------

std::array<std::uint32_t, kKillPoints> deaths_at{};

struct Case {
  KillPoint point;
  std::uint32_t earlier = 0;  // lives of each worker that end with a batch in hand, before one ends at the point
  std::uint32_t workers = 1;
  bool rerun = true;
  bool successor = true;  // false: only the first worker dies, and the other must do with what it left
};

void kill_at(const Case& test) {
  const auto& [point, earlier, worker_count, rerun, successor] = test;
  RingConfig config = small_config(3, 4);
  config.rerun_on_worker_death = rerun;
  BatchRing ring(config);
  Loop loop(ring, 0, static_cast<std::uint32_t>(point));
  const auto plan_of = [&test](std::uint32_t life) {
    if (life < test.earlier) return KillPlan{kInHand, 1};
    return life == test.earlier ? KillPlan{test.point, 1} : KillPlan{};
  };
  const auto immortal = [](std::uint32_t) { return KillPlan{}; };
  Workers workers;
  workers.push_back(std::make_unique<Worker>(ring, loop, 0, plan_of));
  if (worker_count == 2) {
    if (successor) {
      workers.push_back(std::make_unique<Worker>(ring, loop, 1, plan_of));
    } else {
      workers.push_back(std::make_unique<Worker>(ring, loop, 1, immortal));
    }
  }
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
    pass(ring, loop, workers, on_death);
  }
  check_all_answered(ring, loop);
  CHECK(rerun ? loop.tally().worker_died == 0 : loop.tally().culprits == 0);
  CHECK(loop.tally().culprits <= deaths);
  CHECK(loop.tally().worker_died <= deaths * ring.max_batch_size());
}

void kill_at_every_point() {
  for (int number = 0; number < kKillPoints; ++number) {
    const auto point = static_cast<KillPoint>(number);
    for (const std::uint32_t workers : {1u, 2u}) {
      for (const std::uint32_t earlier : {0u, 1u, 2u}) {
        kill_at({.point = point, .earlier = earlier, .workers = workers, .rerun = true});
        kill_at({.point = point, .earlier = earlier, .workers = workers, .rerun = false});
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

// ---- random points
// --------------------------------------------------------------------------------------------------------

void kill_at_random(std::uint64_t kill_count, std::uint32_t worker_count, bool rerun, std::uint32_t seed) {
  RingConfig config = small_config(4, 8);
  config.rerun_on_worker_death = rerun;
  config.first_block = (std::uint64_t{1} << 36) - 50;
  BatchRing ring(config);
  Loop loop(ring, 0, seed);
  std::mt19937 random(seed);
  std::uint64_t kills = 0;
  const auto plan_of = [&](std::uint32_t) {
    return kills < kill_count ? KillPlan{kNever, 1 + static_cast<std::uint32_t>(random() % 80)} : KillPlan{};
  };
  Workers workers;
  for (std::uint32_t id = 0; id < worker_count; ++id)
    workers.push_back(std::make_unique<Worker>(ring, loop, id, plan_of));
  const OnDeath on_death = [&](const Worker&) {
    ++kills;
    return true;
  };
  while (kills < kill_count || loop.waiting() > 0) {
    for (std::uint32_t burst = loop.random(2 * ring.max_batch_size()); burst > 0 && kills < kill_count; --burst) {
      if (!loop.submit(loop.random(4) == 0 ? 1 + loop.random(8) : 1)) break;
    }
    if (loop.waiting() > 0) pass(ring, loop, workers, on_death);
  }
  check_all_answered(ring, loop);
  CHECK(rerun ? loop.tally().worker_died == 0 : loop.tally().culprits == 0);
  CHECK(loop.tally().culprits <= kills);
  std::printf(
      "%s, %u workers: %llu kills, %llu rows, %llu right, %llu worker_died, %llu culprits\n", rerun ? "rerun" : "fail ",
      worker_count, static_cast<unsigned long long>(kills), static_cast<unsigned long long>(loop.tally().submitted),
      static_cast<unsigned long long>(loop.tally().right), static_cast<unsigned long long>(loop.tally().worker_died),
      static_cast<unsigned long long>(loop.tally().culprits));
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
    kill_at_random(kills / 4, workers, true, workers);
    kill_at_random(kills / 4, workers, false, workers);
  }
  return 0;
}
