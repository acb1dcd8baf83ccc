// One thread of the generator: its connections, its part of the schedule, and the records of what it sent.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "answer_book.hpp"
#include "connection.hpp"
#include "plan.hpp"
#include "record.hpp"

namespace penstock::loadgen {

// Counters that other threads may read while the run goes on.
struct alignas(64) Progress {
  std::atomic<std::uint64_t> sent{0};
  std::atomic<std::uint64_t> answered{0};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> reconnects{0};
};

class Sender {
 public:
  // Thread `index` of plan.threads takes the arrivals index, index + threads, ... over its share of the connections.
  Sender(const Plan& plan, std::uint32_t index);
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // Opens every connection, which may take until the monotonic time `deadline_ns`; how many stand.
  std::uint32_t connect(std::int64_t deadline_ns, const std::atomic<bool>& stopping);
  // Why a connection could not be made, the latest time; 0 when that did not happen.
  [[nodiscard]] int connect_error() const noexcept { return connect_error_; }
  // Runs from `start_ns` to the end of the plan, and on until every reply is there or overdue.
  void run(std::int64_t start_ns, const std::atomic<bool>& stopping);

  [[nodiscard]] const Progress& progress() const noexcept { return progress_; }
  // After run().
  [[nodiscard]] const std::deque<Record>& records() const noexcept { return records_; }
  [[nodiscard]] const AnswerBook& answers() const noexcept { return answers_; }
  [[nodiscard]] std::int64_t cpu_ns() const noexcept { return cpu_ns_; }

 private:
  void notice_due();
  void send_due();
  void send_closed();
  void add(std::uint32_t index);
  void flush(std::uint32_t index);
  // The connection that has waited longest of those that can take a request.
  [[nodiscard]] std::optional<std::uint32_t> take_free();
  [[nodiscard]] bool can_take(const Connection& connection) const noexcept;
  [[nodiscard]] std::int64_t wake_ns() const noexcept;
  void wait(std::int64_t until_ns);
  void handle(const epoll_event& event);
  void read(std::uint32_t index, bool is_ended);
  void settle(Connection& connection, const Reply& reply);
  void give_up(std::uint32_t index, Failure failure);
  void open_closed();
  void open(std::uint32_t index);
  void fail_to_connect(std::uint32_t index, int error);
  void check_now_and_then();
  void queue(std::uint32_t index);
  void end_unanswered();
  [[nodiscard]] bool is_over(const std::atomic<bool>& stopping) const noexcept;
  [[nodiscard]] std::uint32_t pick_of(std::size_t record) const noexcept;

  const Plan& plan_;
  const std::uint32_t index_;
  int epoll_ = -1;
  std::unique_ptr<char[]> buffer_;
  std::vector<Connection> connections_;
  std::deque<std::uint32_t> free_;     // connections that could take a request when they were queued
  std::vector<std::uint32_t> closed_;  // to be opened at once...
  std::vector<std::uint32_t> broken_;  // ... and those that did not get to an answer, to be opened some time later
  std::size_t endpoint_ = 0;           // of plan_.endpoints: the one that is connected to
  int connect_error_ = 0;
  std::deque<Record> records_;  // a deque: growing it moves nothing and stalls nobody
  std::size_t noticed_ = 0;
  std::size_t sent_ = 0;
  std::size_t arrivals_ = 0;  // of this thread, in an open loop
  std::size_t in_flight_ = 0;
  std::int64_t send_until_ns_ = 0;  // of an open loop: what has waited that long for a connection stays unsent
  std::int64_t start_ns_ = 0;
  std::int64_t now_ = 0;  // since start_ns_
  std::int64_t next_check_ns_ = 0;
  std::int64_t cpu_ns_ = 0;
  AnswerBook answers_;
  Progress progress_;
};

}  // namespace penstock::loadgen
