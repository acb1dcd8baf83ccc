// Answers that outlive the server and that several servers share: looked for when the result cache has none, and told
// of what has run. A thread of its own hands both to a process (penstock.cache), which talks to the store; I/O loops
// only put something into a bounded queue.
//
// Whatever the store does, a request waits for it no longer than the bound: once something was late or failed, all that
// wait are released, and nobody asks until the store has answered a probe in time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/job_pool.hpp"
#include "engine/result_cache.hpp"
#include "engine/stats.hpp"

namespace penstock::dataplane {

struct SecondLevelOptions {
  std::uint64_t timeout_ms = 0;  // that a lookup may take; 0: there is no second level
};

// Of both directions; what is beyond them is not asked for, or not kept.
inline constexpr std::uint32_t kLookupsMax = 4096;          // under way
inline constexpr std::uint64_t kWritesBytesMax = 16 << 20;  // that wait

// --- what lies in the store ------------------------------------------------------------------------------------------

// The name of a row's answer: by the version's fingerprint and all that the native cache compares.
[[nodiscard]] std::string stored_name(const CachedRow& row);
// What stands for an answer that was made at `unix_ms`.
[[nodiscard]] std::string stored_value(std::string_view name, const CachedRow& row, std::uint64_t unix_ms);
// Into the row's outputs, and when it was made. False: it is no answer of that name.
[[nodiscard]] bool read_stored(std::string_view name, std::string_view value, CachedRow& row, std::uint64_t& unix_ms);
[[nodiscard]] std::size_t stored_bytes(const CachedRow& row) noexcept;

// --- the way there ---------------------------------------------------------------------------------------------------

class SecondLevel {
 public:
  struct Counts {
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
    std::uint64_t timeouts = 0;  // lookups that were not answered in time
    std::uint64_t failures = 0;  // that the store refused, or that were under way when it was found to be late or gone
    std::uint64_t invalid = 0;   // what was there was no answer of ours
    std::uint64_t skipped = 0;   // not looked for: too many were, or the store does not answer
    std::uint64_t writes = 0;    // handed over
    std::uint64_t writes_lost = 0;
    bool is_up = false;
  };

  explicit SecondLevel(const SecondLevelOptions& options);
  ~SecondLevel();
  SecondLevel(const SecondLevel&) = delete;
  SecondLevel& operator=(const SecondLevel&) = delete;

  void start();
  void stop();
  // The socket to a process that was started just now, instead of one before it; owned from here on.
  void attach(int fd);

  [[nodiscard]] std::uint64_t timeout_ns() const noexcept { return timeout_ns_; }
  // Any I/O loop. True: look_up() must follow.
  [[nodiscard]] bool reserve() noexcept;
  // `job` (kStored, with inbox, table, entry and flight) goes back to its inbox exactly once, within the bound. Until
  // then the row's outputs are this thread's.
  void look_up(std::shared_ptr<CachedRow> row, std::unique_ptr<Job> job);
  // The row has run.
  void keep(std::shared_ptr<const CachedRow> row);
  [[nodiscard]] Counts counts() const noexcept;

 private:
  struct Lookup {
    std::uint64_t deadline_ns = 0;
    std::string name;
    std::shared_ptr<CachedRow> row;
    std::unique_ptr<Job> job;  // null: it has been answered
  };
  struct Asked {
    std::shared_ptr<CachedRow> row;
    std::unique_ptr<Job> job;
  };

  void run();
  void take_queued();
  void ask(Asked& asked);
  void write(const CachedRow& row);
  void adopt_socket(int fd);
  void drop_socket() noexcept;
  void send_some();
  void receive_some();
  [[nodiscard]] bool take_reply(std::string_view frame);
  void answer_lookup(std::uint64_t id, std::string_view value, bool is_there);
  void finish(Lookup& lookup, bool found, std::uint64_t age_ns);
  void release_all() noexcept;
  void trip() noexcept;
  void probe();
  [[nodiscard]] int wait_ms() const noexcept;
  void wake() noexcept;

  const std::uint64_t timeout_ns_;
  int wake_fd_ = -1;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> is_up_{false};  // relaxed: who sees it late waits for the bound, or runs one row more
  std::atomic<std::uint32_t> under_way_{0};
  std::atomic<bool> has_queued_{false};

  std::mutex mutex_;  // of the next four
  std::vector<Asked> asked_;
  std::vector<std::shared_ptr<const CachedRow>> told_;
  std::uint64_t told_bytes_ = 0;
  int new_fd_ = -1;

  // Of the thread.
  int fd_ = -1;
  std::uint64_t first_id_ = 1;  // of `lookups_`
  std::deque<Lookup> lookups_;
  std::uint64_t probe_id_ = 0;  // that is not answered; 0: none
  std::uint64_t probed_ns_ = 0;
  std::uint64_t next_probe_ns_ = 0;
  std::string out_;
  std::size_t sent_ = 0;
  std::string in_;

  Counter hits_;
  Counter misses_;
  Counter timeouts_;
  Counter failures_;
  Counter invalid_;
  Counter writes_;
  Counter writes_failed_;
  std::atomic<std::uint64_t> skipped_{0};  // these two by any loop
  std::atomic<std::uint64_t> writes_dropped_{0};
};

}  // namespace penstock::dataplane
