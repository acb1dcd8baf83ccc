#include "sender.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>
#include <utility>

#include "clock.hpp"

namespace penstock::loadgen {
namespace {

constexpr std::size_t kBufferBytes = 256 * 1024;
constexpr int kEvents = 256;
// How often overdue replies and closed connections are looked for.
constexpr std::int64_t kCheckNs = 10'000'000;

std::uint32_t share_of(std::uint32_t total, std::uint32_t parts, std::uint32_t part) {
  return total / parts + (part < total % parts ? 1 : 0);
}

std::int64_t thread_cpu_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

Sender::Sender(const Plan& plan, std::uint32_t index)
    : plan_(plan),
      index_(index),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      buffer_(std::make_unique<char[]>(kBufferBytes)),
      connections_(share_of(plan.connections, plan.threads, index)),
      answers_(plan.answer_bytes_max / plan.threads) {
  if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
  for (std::uint32_t i = 0; i < connections_.size(); ++i) closed_.push_back(i);
  if (!plan.is_open_loop()) return;
  arrivals_ = (plan.due_ns.size() + plan.threads - 1 - index) / plan.threads;
  records_.resize(arrivals_);
  for (std::size_t i = 0; i < arrivals_; ++i) {
    records_[i].due_ns = plan.due_ns[i * plan.threads + index];
    records_[i].pick = pick_of(i);
  }
  send_until_ns_ = plan.due_ns.back() + plan.timeout_ns;
}

Sender::~Sender() { ::close(epoll_); }

std::uint32_t Sender::connect(std::int64_t deadline_ns, const std::atomic<bool>& stopping) {
  start_ns_ = now_ns();
  const auto open = [this] {
    return std::ranges::count_if(connections_,
                                 [](const Connection& c) { return c.state() == Connection::State::kOpen; });
  };
  while (std::cmp_less(open(), connections_.size()) && start_ns_ + now_ < deadline_ns &&
         !stopping.load(std::memory_order_relaxed)) {
    check_now_and_then();
    open_closed();
    wait(next_check_ns_);
    now_ = now_ns() - start_ns_;
  }
  return static_cast<std::uint32_t>(open());
}

void Sender::run(std::int64_t start_ns, const std::atomic<bool>& stopping) {
  // A sleeping thread is otherwise woken up to 50 us late.
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  const std::int64_t cpu_before = thread_cpu_ns();
  start_ns_ = start_ns;
  next_check_ns_ = 0;
  for (;;) {
    now_ = now_ns() - start_ns_;
    if (plan_.is_open_loop()) {
      notice_due();
      send_due();
    } else {
      send_closed();
    }
    check_now_and_then();
    open_closed();
    if (is_over(stopping)) break;
    wait(wake_ns());
  }
  end_unanswered();
  cpu_ns_ = thread_cpu_ns() - cpu_before;
}

std::uint32_t Sender::pick_of(std::size_t record) const noexcept {
  return plan_.picks[(record * plan_.threads + index_) % plan_.picks.size()];
}

void Sender::notice_due() {
  while (noticed_ < arrivals_ && records_[noticed_].due_ns <= now_) records_[noticed_++].noticed_ns = now_;
}

void Sender::send_due() {
  if (now_ > send_until_ns_) return;
  while (sent_ < noticed_) {
    const std::optional<std::uint32_t> index = take_free();
    if (!index.has_value()) break;
    add(*index);
    flush(*index);
  }
}

void Sender::send_closed() {
  while (now_ >= 0 && now_ < plan_.duration_ns) {
    const std::optional<std::uint32_t> index = take_free();
    if (!index.has_value()) break;
    while (can_take(connections_[*index])) {
      records_.emplace_back().pick = pick_of(sent_);
      add(*index);
      Record& record = records_.back();
      record.due_ns = record.noticed_ns = record.sent_ns;
    }
    flush(*index);
  }
}

// The next record's request goes over the connection.
void Sender::add(std::uint32_t index) {
  Record& record = records_[sent_];
  record.sent_ns = now_ns() - start_ns_;
  connections_[index].add(plan_.request(record.pick), sent_++);
  ++in_flight_;
  progress_.sent.store(sent_, std::memory_order_relaxed);
}

void Sender::flush(std::uint32_t index) {
  if (!connections_[index].flush()) return read(index, true);
  queue(index);
}

bool Sender::can_take(const Connection& connection) const noexcept {
  return connection.state() == Connection::State::kOpen && connection.awaited().size() < plan_.depth;
}

void Sender::queue(std::uint32_t index) {
  Connection& connection = connections_[index];
  if (connection.is_queued || !can_take(connection)) return;
  connection.is_queued = true;
  free_.push_back(index);
}

std::optional<std::uint32_t> Sender::take_free() {
  while (!free_.empty()) {
    const std::uint32_t index = free_.front();
    free_.pop_front();
    connections_[index].is_queued = false;
    if (can_take(connections_[index])) return index;  // it may have closed meanwhile
  }
  return std::nullopt;
}

// When the loop must look again though nothing arrives.
std::int64_t Sender::wake_ns() const noexcept {
  if (!plan_.is_open_loop()) return now_ < 0 ? 0 : next_check_ns_;
  const std::int64_t due = noticed_ < arrivals_ ? records_[noticed_].due_ns - plan_.spin_ns : next_check_ns_;
  return std::min(due, next_check_ns_);
}

void Sender::wait(std::int64_t until_ns) {
  std::array<epoll_event, kEvents> events;
  const std::int64_t sleep = std::max<std::int64_t>(0, until_ns - now_);
  const timespec timeout{sleep / 1'000'000'000, sleep % 1'000'000'000};
  const int count = ::epoll_pwait2(epoll_, events.data(), kEvents, &timeout, nullptr);
  // Linux has it since 5.11; connect() waits first, so this is said before the run.
  if (count < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "epoll_pwait2");
  for (int i = 0; i < count; ++i) handle(events[static_cast<std::size_t>(i)]);
}

void Sender::handle(const epoll_event& event) {
  const std::uint32_t index = event.data.u32;
  Connection& connection = connections_[index];
  if (connection.state() == Connection::State::kConnecting) {
    if (const int error = connection.finish_connecting(); error != 0) return fail_to_connect(index, error);
    queue(index);
  }
  if (connection.state() != Connection::State::kOpen) return;
  const bool can_write = (event.events & EPOLLOUT) == 0 || connection.flush();
  const bool is_ended = !can_write || (event.events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0;
  if (is_ended || (event.events & EPOLLIN) != 0) read(index, is_ended);
}

// Takes every reply that is there. Of a connection that has ended, up to its end: no further event will tell of it, and
// a server may answer before it has read the whole request.
void Sender::read(std::uint32_t index, bool is_ended) {
  Connection& connection = connections_[index];
  Reply reply;
  for (;;) {
    std::string_view received;
    const Connection::ReadResult got = connection.receive(buffer_.get(), kBufferBytes, received);
    if (got == Connection::ReadResult::kClosed && connection.last_reply(reply) == Connection::ReadResult::kReply) {
      settle(connection, reply);
    }
    if (got == Connection::ReadResult::kNothing && !is_ended) break;
    if (got != Connection::ReadResult::kReply) return give_up(index, Failure::kClosed);
    const bool is_drained = received.size() < kBufferBytes && !is_ended;
    Connection::ReadResult next = Connection::ReadResult::kNothing;
    while ((next = connection.next_reply(received, reply)) == Connection::ReadResult::kReply) {
      settle(connection, reply);
      if (!reply.keep_alive) return give_up(index, Failure::kClosed);
    }
    if (next == Connection::ReadResult::kNotHttp) return give_up(index, Failure::kNotHttp);
    // A short read has emptied the socket: edge-triggered epoll tells when more arrives.
    if (is_drained) break;
  }
  queue(index);
}

void Sender::settle(Connection& connection, const Reply& reply) {
  Record& record = records_[connection.awaited().front()];
  connection.awaited().pop_front();
  --in_flight_;
  connection.has_answered = true;
  record.done_ns = now_ns() - start_ns_;
  record.status = reply.status;
  record.retry_after = reply.retry_after;
  answers_.add(record.pick, reply.status, reply.body);
  progress_.answered.fetch_add(1, std::memory_order_relaxed);
}

// Fails what is awaited and closes; a connection that the server closed while nothing was awaited is no failure.
void Sender::give_up(std::uint32_t index, Failure failure) {
  Connection& connection = connections_[index];
  const std::int64_t when = now_ns() - start_ns_;
  for (const std::size_t awaited : connection.awaited()) {
    records_[awaited].done_ns = when;
    records_[awaited].failure = failure;
    --in_flight_;
    progress_.failed.fetch_add(1, std::memory_order_relaxed);
  }
  if (connection.state() == Connection::State::kOpen) progress_.reconnects.fetch_add(1, std::memory_order_relaxed);
  connection.close();
  (connection.has_answered ? closed_ : broken_).push_back(index);
}

void Sender::open_closed() {
  for (const std::uint32_t index : std::exchange(closed_, {})) open(index);
}

void Sender::open(std::uint32_t index) {
  Connection& connection = connections_[index];
  connection.endpoint = endpoint_;
  if (const int error = connection.open(plan_.endpoints[endpoint_]); error != 0) return fail_to_connect(index, error);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u32 = index;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd(), &event) != 0) return fail_to_connect(index, errno);
  queue(index);
}

void Sender::fail_to_connect(std::uint32_t index, int error) {
  Connection& connection = connections_[index];
  connect_error_ = error;
  if (connection.endpoint == endpoint_) endpoint_ = (endpoint_ + 1) % plan_.endpoints.size();
  connection.close();
  broken_.push_back(index);
}

void Sender::check_now_and_then() {
  if (now_ < next_check_ns_) return;
  next_check_ns_ = now_ + kCheckNs;
  closed_.insert(closed_.end(), broken_.begin(), broken_.end());
  broken_.clear();
  for (std::uint32_t index = 0; index < connections_.size(); ++index) {
    const auto& awaited = connections_[index].awaited();
    if (!awaited.empty() && now_ - records_[awaited.front()].sent_ns > plan_.timeout_ns)
      give_up(index, Failure::kTimeout);
  }
}

bool Sender::is_over(const std::atomic<bool>& stopping) const noexcept {
  if (stopping.load(std::memory_order_relaxed)) return true;
  if (in_flight_ > 0) return false;
  if (!plan_.is_open_loop()) return now_ >= plan_.duration_ns;
  return sent_ == arrivals_ || now_ > send_until_ns_;
}

void Sender::end_unanswered() {
  const std::int64_t when = now_ns() - start_ns_;
  const bool is_connected = std::ranges::any_of(
      connections_, [](const Connection& connection) { return connection.state() == Connection::State::kOpen; });
  for (Record& record : records_) {
    if (record.done_ns >= 0) continue;
    record.done_ns = when;
    record.failure = record.sent_ns >= 0 ? Failure::kTimeout : is_connected ? Failure::kUnsent : Failure::kUnconnected;
    progress_.failed.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace penstock::loadgen
