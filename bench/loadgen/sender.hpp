// One thread of the generator: its connections, its part of the schedule, and the records of what it sent.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "answer_book.hpp"
#include "connection.hpp"
#include "plan.hpp"
#include "record.hpp"

namespace penstock::loadgen {

// Counters that other threads may read while the run goes on.
struct Progress {
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

  // Opens every connection, which may take plan.connect_ns; how many stand.
  std::uint32_t connect(const std::atomic<bool>& stopping);
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
  void send_on(std::uint32_t index, std::size_t record);
  [[nodiscard]] std::int64_t wake_ns() const noexcept;
  void wait(std::int64_t until_ns);
  void handle(const epoll_event& event);
  void read(std::uint32_t index);
  void settle(Connection& connection, const Reply& reply);
  void give_up(std::uint32_t index, Failure failure);
  void reopen_closed();
  void check_timeouts();
  void queue(std::uint32_t index);
  void end_unanswered();
  [[nodiscard]] bool is_over(const std::atomic<bool>& stopping) const noexcept;
  [[nodiscard]] std::uint32_t pick_of(std::size_t record) const noexcept;

  const Plan& plan_;
  const std::uint32_t index_;
  int epoll_ = -1;
  std::unique_ptr<char[]> buffer_;
  std::vector<Connection> connections_;
  std::deque<std::uint32_t> free_;    // connections that can take a request; the one that waited longest is first
  std::deque<std::uint32_t> closed_;  // to be opened again
  std::deque<Record> records_;        // a deque: growing it moves nothing and stalls nobody
  std::size_t noticed_ = 0;
  std::size_t sent_ = 0;
  std::size_t arrivals_ = 0;  // of this thread, in an open loop
  std::size_t in_flight_ = 0;
  std::int64_t start_ns_ = 0;
  std::int64_t now_ = 0;  // since start_ns_
  std::int64_t next_check_ns_ = 0;
  std::int64_t cpu_ns_ = 0;
  AnswerBook answers_;
  Progress progress_;
};

}  // namespace penstock::loadgen
