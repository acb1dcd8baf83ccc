#include "generator.hpp"

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "clock.hpp"

namespace penstock::loadgen {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

void check(const Plan& plan) {
  require(!plan.endpoints.empty(), "there is no address to connect to");
  require(plan.offsets.size() > 1, "there is no request to send");
  require(std::ranges::is_sorted(plan.offsets) && plan.offsets.back() <= plan.requests.size(),
          "the offsets do not lie in the requests");
  require(!plan.picks.empty(), "nothing says which request to send");
  require(std::ranges::all_of(plan.picks, [&](std::uint32_t pick) { return pick + 1 < plan.offsets.size(); }),
          "a pick names a request that is not there");
  require(plan.due_ns.empty() || plan.picks.size() == plan.due_ns.size(), "as many picks as arrivals are needed");
  require(std::ranges::is_sorted(plan.due_ns), "the schedule is not in ascending order");
  require(plan.due_ns.empty() || plan.due_ns.front() >= 0, "a request is due before the start");
  require(plan.is_open_loop() || plan.duration_ns > 0, "a closed loop needs a duration");
  require(plan.connections > 0 && plan.depth > 0 && plan.threads > 0, "connections, depth and threads start at 1");
  require(plan.threads <= plan.connections, "each thread needs a connection");
  require(plan.timeout_ns > 0 && plan.connect_ns > 0, "a timeout is more than nothing");
}

}  // namespace

Generator::Generator(Plan plan) : plan_(std::move(plan)) {
  check(plan_);
  for (std::uint32_t i = 0; i < plan_.threads; ++i) senders_.push_back(std::make_unique<Sender>(plan_, i));
}

Generator::~Generator() {
  stop();
  join();
}

std::int64_t Generator::start(std::int64_t lead_ns) {
  if (std::exchange(has_started_, true)) throw std::logic_error("a generator runs once");
  connect();
  const std::int64_t start_ns = now_ns() + lead_ns;
  running_.store(plan_.threads, std::memory_order_relaxed);
  for (const auto& sender : senders_) {
    threads_.emplace_back([this, &sender = *sender, start_ns] { run(sender, start_ns); });
  }
  return start_ns;
}

// What a thread throws ends the run and not the process.
void Generator::run(Sender& sender, std::int64_t start_ns) noexcept {
  try {
    sender.run(start_ns, stopping_);
  } catch (...) {
    if (!has_failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
    stop();
  }
  running_.fetch_sub(1, std::memory_order_release);  // pairs with is_done()
}

void Generator::rethrow() const {
  if (error_) std::rethrow_exception(error_);
}

void Generator::connect() {
  const std::int64_t deadline_ns = now_ns() + plan_.connect_ns;
  std::uint32_t open = 0;
  int error = ETIMEDOUT;
  for (const auto& sender : senders_) {
    open += sender->connect(deadline_ns, stopping_);
    if (sender->connect_error() != 0) error = sender->connect_error();
  }
  if (open == plan_.connections) return;
  throw std::runtime_error("only " + std::to_string(open) + " of " + std::to_string(plan_.connections) +
                           " connections could be made: " + std::generic_category().message(error));
}

void Generator::join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

Totals Generator::totals() const noexcept {
  Totals totals;
  for (const auto& sender : senders_) {
    totals.sent += sender->progress().sent.load(std::memory_order_relaxed);
    totals.answered += sender->progress().answered.load(std::memory_order_relaxed);
    totals.failed += sender->progress().failed.load(std::memory_order_relaxed);
    totals.reconnects += sender->progress().reconnects.load(std::memory_order_relaxed);
  }
  return totals;
}

}  // namespace penstock::loadgen
