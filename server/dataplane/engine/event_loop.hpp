// One I/O loop: a thread, an epoll set, and the connections that were given to it.
//
// The first loop accepts for all and hands each connection to the loop with the fewest. Were every loop to accept, the
// one that wakes first would empty the queue of a burst, and its connections would share one core for as long as they
// live.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/control_proxy.hpp"
#include "engine/grpc_path.hpp"
#include "engine/http_session.hpp"
#include "engine/job_pool.hpp"
#include "engine/loop_context.hpp"
#include "engine/predict_path.hpp"
#include "engine/routing.hpp"
#include "penstock/batcher/spinner.hpp"

namespace penstock::dataplane {

class EventLoop final : private RequestHandler, public JobInbox {
 public:
  // `listeners` are listening non-blocking sockets, owned by the engine; `loops` are all of them, complete at start().
  EventLoop(EngineState& engine, JobPool& jobs, std::uint32_t index, const std::vector<int>& listeners,
            const std::vector<std::unique_ptr<EventLoop>>& loops);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void start();
  void join();
  // Any thread: makes the loop look at tables, drain state, jobs and rings.
  void wake() noexcept;
  void post(std::unique_ptr<Job> job) override;
  // Workers write it to say that a batch is done.
  [[nodiscard]] int event_fd() const noexcept { return wake_.fd; }
  [[nodiscard]] const LoopStats& stats() const noexcept { return loop_.stats; }
  [[nodiscard]] Tap& tap() noexcept { return loop_.tap; }
  // Nobody is connected any more; valid while draining, and only after the first loop has said so.
  [[nodiscard]] bool is_drained() const noexcept {
    // Acquire: the first loop accepts no more, so whatever it gave to the others is counted.
    return drained_.load(std::memory_order_acquire) && loop_.connections_given.load(std::memory_order_relaxed) == 0;
  }

 private:
  void handle(Connection& connection, Pending& pending, const Request& request) override;
  bool admits(const Connection& connection, const RequestHead& head, std::uint64_t& body_bytes_max,
              Problem& problem) override;
  void handle_grpc(Connection& connection, Pending& pending, const Request& request) override {
    grpc_.start(connection, pending, request);
  }
  bool admits_grpc(const Connection&, const RequestHead& head, std::uint64_t& body_bytes_max,
                   Problem& problem) override {
    return grpc_.admits(head, body_bytes_max, problem);
  }
  MessageStream* open_messages(Connection& connection, Pending& pending, const RequestHead& head,
                               Problem& problem) override {
    return grpc_.open_messages(connection, pending, head, problem);
  }
  void abandon(Connection& connection, Pending& pending) override;
  void handle_prediction(Connection& connection, Pending& pending, const Request& request, const RouteTarget& target);
  [[nodiscard]] bool is_for_control(const Connection& connection, const Request& request) const noexcept;
  void handle_by_control(Connection& connection, Pending& pending, const Request& request);
  void handle_health(Connection& connection, Pending& pending, const RouteTarget& target);
  void refuse_reserved(Connection& connection, Pending& pending);

  void run();
  void pass();
  void wait(epoll_event* events, int& count);
  [[nodiscard]] int wait_ms() const noexcept;
  [[nodiscard]] bool spin_for_answer();
  void dispatch_all(const epoll_event* events, int count);
  void send_refusals(std::uint64_t read_ns);
  void dispatch(const epoll_event& event);
  void adopt_changes();
  void end_accepting();
  bool accept_all(const Watch& listener);
  struct Admission {
    bool reserved = false;
    bool internal = false;
  };
  // Called by the first loop's thread.
  void give(int fd, Admission admission);
  void refuse_socket(int fd);
  void finish_pass();

  LoopContext loop_;
  HttpSession session_;
  PredictPath predict_;
  ControlProxy control_;
  GrpcPath grpc_;
  Watch wake_{WatchKind::kWake};
  struct Accepted {
    int fd;
    bool reserved;
    bool internal;
  };

  std::vector<Watch> listeners_;     // of the first loop
  std::uint32_t next_internal_ = 0;  // likewise: the control plane's connections go round
  const std::vector<std::unique_ptr<EventLoop>>& loops_;
  int spare_fd_ = -1;  // given up to accept and refuse when descriptors run out
  bool accepting_ = true;
  std::mutex inbox_mutex_;
  std::vector<std::unique_ptr<Job>> inbox_;
  std::vector<Accepted> accepted_;  // guarded like the inbox
  std::atomic<bool> inbox_filled_{false};
  std::atomic<bool> drained_{false};
  unsigned rotation_ = 0;  // where the next pass starts among its events, after one that was cut short
  batcher::Spinner spinner_;
  std::thread thread_;
};

}  // namespace penstock::dataplane
