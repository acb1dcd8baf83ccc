// A run as a whole: its threads, from the first connection to the last record.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "plan.hpp"
#include "sender.hpp"

namespace penstock::loadgen {

struct Totals {
  std::uint64_t sent = 0;
  std::uint64_t answered = 0;
  std::uint64_t failed = 0;
  std::uint64_t reconnects = 0;
};

class Generator {
 public:
  // std::invalid_argument for a plan that makes no sense.
  explicit Generator(Plan plan);
  // Ends the run.
  ~Generator();
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // Opens the connections, then starts the schedule `lead_ns` later; the monotonic time of that start. Blocks while
  // connecting; std::runtime_error when not every connection could be made. Once only: std::logic_error.
  std::int64_t start(std::int64_t lead_ns);
  void stop() noexcept { stopping_.store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool is_done() const noexcept { return running_.load(std::memory_order_acquire) == 0; }
  void join();
  // After join(): throws what ended a thread of the run, if anything did.
  void rethrow() const;

  // From any thread, at any time.
  [[nodiscard]] Totals totals() const noexcept;
  // After join().
  [[nodiscard]] const std::vector<std::unique_ptr<Sender>>& senders() const noexcept { return senders_; }

 private:
  void connect();
  void run(Sender& sender, std::int64_t start_ns) noexcept;

  Plan plan_;
  std::vector<std::unique_ptr<Sender>> senders_;
  std::vector<std::thread> threads_;
  bool has_started_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint32_t> running_{0};
  std::atomic<bool> has_failed_{false};
  std::exception_ptr error_;  // of the first thread that failed; others read it after join()
};

}  // namespace penstock::loadgen
