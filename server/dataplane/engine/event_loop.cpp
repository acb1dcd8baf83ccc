#include "engine/event_loop.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>
#include <system_error>

#include "engine/options_reply.hpp"

namespace penstock::dataplane {
namespace {

constexpr int kEventsMax = 256;
constexpr int kAcceptsMax = 64;     // per pass and listener
constexpr int kSafetyMs = 200;      // longest sleep while a worker owes an answer
constexpr int kMemoryRetryMs = 10;  // memory that another loop frees wakes nobody

constexpr int kEventsBetweenLooks = 8;
constexpr std::uint64_t kReadingNsMax = 1'000'000;  // of a pass, after which it stops reading
constexpr std::uint64_t kSpinRowsMax = 2;           // with more under way there is other work for the core

}  // namespace

EventLoop::EventLoop(EngineState& engine, JobPool& jobs, std::uint32_t index, const std::vector<int>& listeners,
                     const std::vector<std::unique_ptr<EventLoop>>& loops)
    : loop_(engine, index),
      session_(loop_, *this),
      predict_(loop_, session_, jobs, *this),
      control_(loop_, session_),
      grpc_(loop_, session_, *this, predict_, control_),
      loops_(loops) {
  session_.use_jobs(jobs, *this);
  loop_.epoll = ::epoll_create1(EPOLL_CLOEXEC);
  wake_.fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  spare_fd_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (loop_.epoll < 0 || wake_.fd < 0) throw std::system_error(errno, std::generic_category(), "I/O loop");
  // Edge-triggered: every write is an event, so the counter never has to be read.
  epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.ptr = &wake_}};
  ::epoll_ctl(loop_.epoll, EPOLL_CTL_ADD, wake_.fd, &event);
  if (index != 0) return;
  listeners_.reserve(listeners.size());
  for (const int fd : listeners) {
    listeners_.push_back({fd == engine.private_listener ? WatchKind::kPrivateListener : WatchKind::kListener, fd});
    epoll_event listening{.events = EPOLLIN, .data = {.ptr = &listeners_.back()}};
    ::epoll_ctl(loop_.epoll, EPOLL_CTL_ADD, fd, &listening);
  }
}

EventLoop::~EventLoop() {
  join();
  for (const auto& connection : loop_.connections) {
    if (connection->fd >= 0) ::close(connection->fd);
  }
  for (const Accepted& accepted : accepted_) ::close(accepted.fd);
  for (const int fd : {loop_.epoll, wake_.fd, spare_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

void EventLoop::start() {
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "penstock-io");
}

void EventLoop::join() {
  if (thread_.joinable()) thread_.join();
}

void EventLoop::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.fd, &one, sizeof one);  // full means: awake already
}

void EventLoop::post(std::unique_ptr<Job> job) {
  {
    const std::lock_guard lock(inbox_mutex_);
    inbox_.push_back(std::move(job));
  }
  inbox_filled_.store(true, std::memory_order_release);  // pairs with the acquire in adopt_changes()
  wake();
}

void EventLoop::run() {
  adopt_changes();
  while (!loop_.engine.stopping.load(std::memory_order_relaxed)) pass();
}

void EventLoop::pass() {
  epoll_event events[kEventsMax];
  int count = 0;
  wait(events, count);
  loop_.now_ns = monotonic_ns();
  loop_.stats.passes.add();
  loop_.date.refresh_date(std::time(nullptr));
  adopt_changes();
  dispatch_all(events, count);
  predict_.continue_requests();
  predict_.ring_bells();
  predict_.collect();
  grpc_.tell_watchers();
  session_.flush_dirty();
  // Requests that were waiting in a connection's buffer may have become rows just now.
  predict_.ring_bells();
  loop_.timers.advance(loop_.now_ns,
                       [this](Timer& timer) { session_.on_timer(*static_cast<Connection*>(timer.owner)); });
  session_.resume_memory_waiters();
  session_.resume_unread();
  session_.flush_dirty();
  send_refusals(loop_.now_ns);  // of requests that had waited for room
  predict_.ring_bells();
  predict_.compare_mirrored();
  finish_pass();
}

void EventLoop::finish_pass() {
  session_.recycle_closed();
  control_.recycle_closed();
  if (loop_.engine.draining.load(std::memory_order_relaxed)) {
    session_.drain();
    session_.recycle_closed();
    drained_.store(!accepting_ && loop_.connections_given.load(std::memory_order_relaxed) == 0,
                   std::memory_order_release);  // read by is_drained()
  }
  loop_.stats.longest_pass_ns.raise_to(monotonic_ns() - loop_.now_ns);
}

int EventLoop::wait_ms() const noexcept {
  int timeout_ms = loop_.timers.wait_ms(monotonic_ns());
  const auto at_most = [&timeout_ms](int bound_ms) {
    if (timeout_ms < 0 || timeout_ms > bound_ms) timeout_ms = bound_ms;
  };
  if (predict_.rows_in_flight() > 0) at_most(kSafetyMs);
  if (session_.has_memory_waiters()) at_most(kMemoryRetryMs);
  if (predict_.has_stalled()) at_most(kMemoryRetryMs);  // another loop's rows may have made room
  if (predict_.has_unfinished()) at_most(0);
  if (session_.has_unread()) at_most(0);
  if (session_.has_dirty()) at_most(0);  // a call that waited for the control plane failed at the end of the pass
  return timeout_ms;
}

void EventLoop::wait(epoll_event* events, int& count) {
  const bool owed = predict_.rows_in_flight() > 0;
  if (owed) {
    // Announcing a sleep costs the workers a look and maybe a system call: first see whether there is anything to do.
    count = ::epoll_wait(loop_.epoll, events, kEventsMax, 0);
    if (count != 0 || predict_.has_done() || spin_for_answer() || !predict_.prepare_wait()) return;
  }
  loop_.stats.wakeups.add();
  const int timeout_ms = wait_ms();
  count = ::epoll_wait(loop_.epoll, events, kEventsMax, timeout_ms);
  if (owed && count == 0 && timeout_ms == kSafetyMs && predict_.has_done()) {
    // A worker may have completed in this very moment: then its wake-up is on the way.
    count = ::epoll_wait(loop_.epoll, events, kEventsMax, kSafetyMs);
    if (count == 0) loop_.stats.lost_wakeups.add();
  }
  if (owed) predict_.finish_wait();
  count = std::max(count, 0);  // EINTR
}

bool EventLoop::spin_for_answer() {
  const std::uint64_t rows = predict_.rows_awaited();
  return rows > 0 && rows <= kSpinRowsMax && spinner_.find([this] { return predict_.has_done(); });
}

// Large bodies may make a pass long. It stops reading then, answers what is done, and goes on with the next connection.
void EventLoop::dispatch_all(const epoll_event* events, int count) {
  const int first = count > 0 ? static_cast<int>(rotation_ % static_cast<unsigned>(count)) : 0;
  rotation_ = 0;
  std::uint64_t look_ns = loop_.now_ns;
  for (int i = 0; i < count; ++i) {
    dispatch(events[(first + i) % count]);
    if (i % kEventsBetweenLooks != kEventsBetweenLooks - 1) continue;
    send_refusals(look_ns);
    look_ns = monotonic_ns();
    if (look_ns - loop_.now_ns > kReadingNsMax) {
      rotation_ = static_cast<unsigned>(first + i + 1);  // level-triggered: who was left out is reported again
      return;
    }
  }
  send_refusals(look_ns);
}

// Who is refused hears so at once, before the answers of this pass are formed: a refusal is worth something only while
// the client can still ask elsewhere. They were read at `read_ns` or later.
void EventLoop::send_refusals(std::uint64_t read_ns) {
  if (loop_.refusals == 0) return;
  session_.flush_dirty();
  loop_.stats.refusal.add(monotonic_ns() - read_ns, loop_.refusals);
  loop_.refusals = 0;
}

void EventLoop::dispatch(const epoll_event& event) {
  Watch& watch = *static_cast<Watch*>(event.data.ptr);
  switch (watch.kind) {
    case WatchKind::kListener:
    case WatchKind::kPrivateListener:
      accept_all(watch);
      break;
    case WatchKind::kConnection:
      session_.on_event(static_cast<Connection&>(watch), event.events);
      break;
    case WatchKind::kControlCall:
      control_.on_event(static_cast<ControlCall&>(watch), event.events);
      break;
    case WatchKind::kWake:
    case WatchKind::kClosed:
      break;
  }
}

void EventLoop::adopt_changes() {
  EngineState& engine = loop_.engine;
  if (engine.table_version.load(std::memory_order_acquire) != loop_.table_version) {  // pairs with Engine::publish()
    const std::lock_guard lock(engine.table_mutex);
    loop_.table = engine.table;
    loop_.keys = engine.keys;
    loop_.tls = engine.tls;
    loop_.table_version = engine.table_version.load(std::memory_order_relaxed);
    predict_.adopt_table();
  }
  if (accepting_ && engine.draining.load(std::memory_order_relaxed)) end_accepting();
  // A load first: it is in every pass, and an exchange is a locked instruction.
  if (inbox_filled_.load(std::memory_order_relaxed) &&
      inbox_filled_.exchange(false, std::memory_order_acquire)) {  // pairs with post()
    std::vector<std::unique_ptr<Job>> jobs;
    std::vector<Accepted> accepted;
    {
      const std::lock_guard lock(inbox_mutex_);
      jobs.swap(inbox_);
      accepted.swap(accepted_);
    }
    for (const Accepted& each : accepted) session_.open(each.fd, each.reserved, each.internal);
    for (auto& job : jobs) {
      if (job->kind == Job::Kind::kInflate || job->kind == Job::Kind::kCompress) {
        session_.on_job(*job);
      } else {
        predict_.on_job(std::move(job));
      }
    }
  }
}

// Whoever is in a listener's queue has been told by the kernel that there is a server, and may have sent a request. The
// kernel refuses connections from then on, without a descriptor being closed under a loop.
void EventLoop::end_accepting() {
  accepting_ = false;
  for (const Watch& listener : listeners_) {
    if (listener.kind != WatchKind::kListener) continue;
    for (int left = SOMAXCONN; left > 0 && accept_all(listener); left -= kAcceptsMax) {
    }
    ::epoll_ctl(loop_.epoll, EPOLL_CTL_DEL, listener.fd, nullptr);
    ::shutdown(listener.fd, SHUT_RD);
  }
}

// False when there was nobody left.
bool EventLoop::accept_all(const Watch& listener) {
  const EngineOptions& options = loop_.engine.options;
  for (int i = 0; i < kAcceptsMax; ++i) {
    const int fd = ::accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EMFILE || errno == ENFILE) {
        // The queue of the listener would stay full and epoll would report it for ever: take one and refuse it.
        ::close(spare_fd_);
        const int refused = ::accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (refused >= 0) refuse_socket(refused);
        spare_fd_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (refused >= 0) continue;
      }
      return false;
    }
    if (listener.kind == WatchKind::kPrivateListener) {
      loops_[next_internal_++ % loops_.size()]->give(fd, {.internal = true});
      continue;
    }
    const std::uint32_t open = loop_.engine.connections.fetch_add(1, std::memory_order_relaxed);
    if (open >= options.max_connections + options.reserved_connections) {
      loop_.engine.connections.fetch_sub(1, std::memory_order_relaxed);
      refuse_socket(fd);
      continue;
    }
    const auto& chosen = *std::ranges::min_element(loops_, {}, [](const auto& loop) {
      return loop->loop_.connections_given.load(std::memory_order_relaxed);  // a loop's closing may show a little later
    });
    chosen->give(fd, {.reserved = open >= options.max_connections});
  }
  return true;
}

void EventLoop::give(int fd, Admission admission) {
  if (!admission.internal) loop_.connections_given.fetch_add(1, std::memory_order_relaxed);
  if (loop_.index == 0) {
    session_.open(fd, admission.reserved, admission.internal);
    return;
  }
  {
    const std::lock_guard lock(inbox_mutex_);
    accepted_.push_back({fd, admission.reserved, admission.internal});
  }
  inbox_filled_.store(true, std::memory_order_release);  // pairs with the acquire in adopt_changes()
  wake();
}

void EventLoop::refuse_socket(int fd) {
  Problem problem;
  problem.set(ProblemCode::kConnectionsExhausted, "the server has all the connections it may have");
  char id[kRequestIdBytesMax];
  const std::size_t id_bytes = loop_.request_ids.write(id);
  char reply[kProblemBytesMax];
  const std::size_t bytes =
      write_problem(reply, problem,
                    {.request_id = {id, id_bytes}, .date = loop_.date.view(), .keep_alive = false, .retry_after_s = 1});
  // Without TLS it would be no answer where there is TLS.
  [[maybe_unused]] const ssize_t sent = loop_.tls ? 0 : ::send(fd, reply, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
  loop_.stats.connections_refused.add();
  loop_.stats.responses[503].add();
}

}  // namespace penstock::dataplane
