// Requests: from bytes that arrive to a complete head and body.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/http_session.hpp"
#include "engine/transport.hpp"

namespace penstock::dataplane {
namespace {

constexpr int kReadRoundsMax = 4;                      // one connection may not keep the others waiting
constexpr std::size_t kReadBytesMax = 128 * 1024;      // likewise, per recv()
constexpr std::size_t kChunkedBlockBytes = 32 * 1024;  // first block of a body of unknown length
constexpr std::uint64_t kBodyBytesPerMs = 64;          // a body may arrive as slowly as 64 kB/s

}  // namespace

void HttpSession::on_event(Connection& connection, std::uint32_t events) {
  if (connection.fd < 0) return;  // closed earlier in this pass
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    close(connection);
    return;
  }
  if ((events & EPOLLOUT) != 0) {
    if (connection.tls && connection.tls->wants_write()) events |= EPOLLIN;  // the handshake goes on
    connection.writable = true;
    connection.write_deadline_ns = 0;
    mark_dirty(connection);
  }
  if ((events & EPOLLIN) != 0) read(connection);
}

void HttpSession::read(Connection& connection) {
  for (int round = 0; round < kReadRoundsMax; ++round) {
    const Destination destination = read_destination(connection);
    if (destination.bytes == 0) break;
    const ssize_t received = transport_recv(connection, destination.data, destination.bytes);
    if (received < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) close(connection);
      break;
    }
    if (received == 0) {
      if (connection.phase == Connection::Phase::kStream) {  // whoever has the first half of the body shall know
        close(connection);
        break;
      }
      connection.peer_closed = true;
      mark_dirty(connection);  // flush closes it once nothing is owed
      break;
    }
    accept_bytes(connection, static_cast<std::size_t>(received));
    if (connection.fd < 0 || static_cast<std::size_t>(received) < destination.bytes) break;
    if (connection.phase == Connection::Phase::kBody) break;  // a long one: the others first
  }
  if (connection.fd < 0) return;
  update_interest(connection);
  if (connection.tls) note_unread(connection);
}

HttpSession::Destination HttpSession::read_destination(Connection& connection) noexcept {
  using Phase = Connection::Phase;
  if (connection.phase == Phase::kBody) {
    return {connection.block.data() + connection.block_filled,
            std::min(connection.block.bytes() - connection.block_filled, kReadBytesMax)};
  }
  if (connection.phase == Phase::kMemory || connection.phase == Phase::kTurn) return {nullptr, 0};
  if (connection.phase == Phase::kLinger) connection.in.begin = connection.in.end = 0;
  if (connection.phase == Phase::kHead && !connection.may_read_request()) return {nullptr, 0};
  if (connection.in.space() == 0) connection.in.compact();
  return {connection.in.data + connection.in.end, connection.in.space()};
}

void HttpSession::accept_bytes(Connection& connection, std::size_t bytes) {
  if (connection.phase == Connection::Phase::kBody) {
    connection.block_filled += bytes;
  } else {
    connection.in.end += bytes;
  }
  process(connection);
}

void HttpSession::process(Connection& connection) {
  using Phase = Connection::Phase;
  for (bool more = true; more && connection.fd >= 0;) {
    switch (connection.phase) {
      case Phase::kHead:
        more = process_head(connection);
        break;
      case Phase::kBody:
        more = connection.block_filled == connection.block.bytes();
        if (more) dispatch_block(connection);
        break;
      case Phase::kChunked:
        more = process_chunks(connection);
        break;
      case Phase::kStream:
        more = process_stream(connection);
        break;
      case Phase::kTurn:
        more = !connection.has_pending() && connection.out.empty();
        if (more) connection.phase = Phase::kHead;
        break;
      case Phase::kHttp2:
        process_http2(connection);
        more = false;
        break;
      case Phase::kMemory:
      case Phase::kLinger:
        more = false;
        break;
    }
  }
}

bool HttpSession::process_head(Connection& connection) {
  Buffer& in = connection.in;
  if (in.empty() || !connection.may_read_request() || in.size() < connection.wanted) return false;
  RequestHead head;
  Problem problem;
  const HeadLimits limits{.head_bytes_max = loop_.engine.options.head_bytes_max};
  switch (parse_head(in.view(), connection.scanned, limits, head, problem)) {
    case ParseStatus::kComplete:
      return begin_body(connection, head);
    case ParseStatus::kRefused:
      if (begins_http2(connection)) return false;
      refuse_connection(connection, problem);
      return false;
    case ParseStatus::kIncomplete:
      break;
  }
  if (connection.read_deadline_ns == 0) {
    expect_by(connection, connection.read_deadline_ns,
              loop_.now_ns + loop_.engine.options.head_timeout_ms * kMillisecondNs);
  }
  if (in.space() == 0) in.compact();
  return false;
}

bool HttpSession::begin_body(Connection& connection, const RequestHead& head) {
  connection.oip = is_oip(head.path);
  if (is_streamed(head)) [[unlikely]]
    return begin_stream(connection, head);
  Buffer& in = connection.in;
  // The first half keeps the sum from wrapping: a length may be any 64-bit number.
  const std::uint64_t total = head.head_bytes + head.content_length;
  const bool fits = !head.chunked && head.content_length < kConnectionBytes && total <= kConnectionBytes;
  if (fits && in.size() >= total) {
    Block none;
    dispatch(connection, head, in.view().substr(head.head_bytes, head.content_length), none);
    if (connection.fd < 0) return false;
    in.consume(total);
    connection.wanted = 0;
    connection.scanned = 0;
    connection.read_deadline_ns = 0;
    return true;
  }
  connection.cors = loop_.engine.cors.find(head.origin);
  Problem problem;
  if (loop_.tap.is_on()) loop_.tap.see(connection, head);
  if (!takes_coding(head, problem) || !handler_.admits(connection, head, connection.body_limit, problem)) {
    refuse_connection(connection, problem);
    return false;
  }
  if (head.content_length > connection.body_limit) {
    problem.set(ProblemCode::kBodyTooLarge, "the body has %llu bytes, at most %llu are accepted here",
                static_cast<unsigned long long>(head.content_length),
                static_cast<unsigned long long>(connection.body_limit));
    refuse_connection(connection, problem);
    return false;
  }
  const std::uint64_t patience_ms = loop_.engine.options.body_timeout_ms + head.content_length / kBodyBytesPerMs;
  expect_by(connection, connection.read_deadline_ns, loop_.now_ns + patience_ms * kMillisecondNs);
  if (!fits) return begin_block(connection, head);
  if (head.expect_continue && in.size() == head.head_bytes) connection.owes_continue = true;
  if (connection.owes_continue) mark_dirty(connection);
  connection.wanted = total;
  if (in.begin + total > kConnectionBytes) in.compact();
  return false;
}

bool HttpSession::begin_block(Connection& connection, const RequestHead& head) {
  const std::size_t bytes =
      head.head_bytes + (head.chunked ? std::min<std::size_t>(connection.body_limit, kChunkedBlockBytes)
                                      : static_cast<std::size_t>(head.content_length));
  connection.block = acquire_in_turn(bytes);
  if (!connection.block) {
    // The head stays in the buffer and is parsed again when there is memory; meanwhile nothing is read.
    if (bytes > loop_.engine.pool.bytes_max()) {
      Problem problem;
      problem.set(ProblemCode::kBodyTooLarge,
                  "the body has %zu bytes, the server keeps %llu for all bodies together (body_pool_bytes)", bytes,
                  static_cast<unsigned long long>(loop_.engine.pool.bytes_max()));
      refuse_connection(connection, problem);
      return false;
    }
    connection.phase = Connection::Phase::kMemory;
    if (!connection.waited) loop_.stats.memory_waits.add();
    connection.waited = true;
    memory_waiters_.push_back({&connection, 0});
    return false;
  }
  connection.waited = false;
  Buffer& in = connection.in;
  std::size_t copied = head.head_bytes;
  if (!head.chunked) copied = std::min<std::size_t>(in.size(), bytes);
  std::memcpy(connection.block.data(), in.data + in.begin, copied);
  connection.block_filled = copied;
  connection.block_head = head.head_bytes;
  connection.phase = head.chunked ? Connection::Phase::kChunked : Connection::Phase::kBody;
  connection.chunks.reset();
  connection.scanned = 0;
  if (head.expect_continue && in.size() == head.head_bytes) {
    connection.owes_continue = true;
    mark_dirty(connection);
  }
  in.consume(copied);
  return true;
}

bool HttpSession::process_chunks(Connection& connection) {
  Buffer& in = connection.in;
  if (in.empty()) return false;
  Problem problem;
  const ChunkedDecoder::Step step = connection.chunks.decode(in.data + in.begin, in.size(), problem);
  if (step.status == ParseStatus::kRefused) {
    refuse_connection(connection, problem);
    return false;
  }
  const std::size_t body_bytes = connection.block_filled - connection.block_head + step.produced;
  if (body_bytes > connection.body_limit) {
    problem.set(ProblemCode::kBodyTooLarge, "the chunked body has more than %llu bytes",
                static_cast<unsigned long long>(connection.body_limit));
    refuse_connection(connection, problem);
    return false;
  }
  if (!grow_block(connection, connection.block_filled + step.produced)) {
    // Not a wait: a body that grew may hold what another one waits for.
    problem.set(ProblemCode::kMemoryExhausted,
                "no memory is left for a body of unknown length; send Content-Length or try again");
    refuse_connection(connection, problem);
    return false;
  }
  std::memcpy(connection.block.data() + connection.block_filled, in.data + in.begin, step.produced);
  connection.block_filled += step.produced;
  in.consume(step.consumed);
  if (step.status == ParseStatus::kIncomplete) return false;
  dispatch_block(connection);
  return true;
}

bool HttpSession::grow_block(Connection& connection, std::size_t bytes) {
  if (bytes <= connection.block.bytes()) return true;
  const std::size_t ceiling = connection.block_head + connection.body_limit;
  Block larger = loop_.engine.pool.try_acquire(std::min(std::max(bytes, connection.block.bytes() * 2), ceiling));
  if (!larger) return false;
  std::memcpy(larger.data(), connection.block.data(), connection.block_filled);
  connection.block = std::move(larger);
  return true;
}

void HttpSession::dispatch_block(Connection& connection) {
  Block block = std::move(connection.block);
  const std::string_view bytes(block.data(), connection.block_filled);
  connection.phase = Connection::Phase::kHead;
  connection.read_deadline_ns = 0;
  connection.wanted = 0;
  RequestHead head;
  Problem problem;
  std::size_t scanned = 0;
  const HeadLimits limits{.head_bytes_max = loop_.engine.options.head_bytes_max};
  // It parsed before, in the connection's buffer: now its views point into the block.
  if (parse_head(bytes.substr(0, connection.block_head), scanned, limits, head, problem) != ParseStatus::kComplete) {
    problem.set(ProblemCode::kInternalError, "the request's head was lost");
    refuse_connection(connection, problem);
    return;
  }
  dispatch(connection, head, bytes.substr(connection.block_head), block);
}

void HttpSession::dispatch(Connection& connection, const RequestHead& head, std::string_view body, Block& block) {
  Pending& pending = open_pending(connection, head);
  if (loop_.tap.is_on()) [[unlikely]]
    loop_.tap.open(connection, pending, head, body.size(), *loop_.keys);
  if (!head.content_encoding.empty()) [[unlikely]] {
    dispatch_compressed(connection, pending, {head, body, block}, {body.data() - head.head_bytes, head.head_bytes});
    return;
  }
  handler_.handle(connection, pending, Request{head, body, block});
}

Pending& HttpSession::open_pending(Connection& connection, const RequestHead& head) {
  Pending& pending = open_pending(connection);
  pending.keep_alive = head.keep_alive && !loop_.engine.draining.load(std::memory_order_relaxed);
  pending.head_only = head.method == Method::kHead;
  pending.http_1_0 = head.version_minor == 0;
  if (!pending.keep_alive) connection.closing = true;
  connection.owes_continue = false;  // the client did not wait for it
  if (loop_.engine.has_manners) [[unlikely]]
    note_manners(connection, pending, head);
  if (valid_request_id(head.request_id)) {
    pending.request_id_bytes = static_cast<std::uint8_t>(head.request_id.size());
    std::memcpy(pending.request_id_text, head.request_id.data(), head.request_id.size());
  }
  return pending;
}

Pending& HttpSession::open_pending(Connection& connection) {
  const std::uint32_t id = connection.last++;
  Pending& pending = connection.slot(id);
  open_pending(connection, pending, id);
  return pending;
}

void HttpSession::open_pending(Connection& connection, Pending& pending, std::uint32_t id) {
  pending.state = Pending::State::kOpen;
  pending.id = id;
  pending.encoding = Encoding::kJson;
  pending.output = 0;
  pending.head_only = false;
  pending.keep_alive = true;
  pending.http_1_0 = false;
  pending.oip = std::exchange(connection.oip, false);
  pending.receipt_wanted = false;
  pending.row_class = batcher::RowClass::kNormal;
  pending.timeout_ns = 0;
  pending.row_deadline_ns = 0;
  pending.predicted_ns = 0;
  pending.rejoin = nullptr;
  pending.owed_bytes = 0;
  pending.length = 0;
  pending.infer_header_bytes = 0;
  pending.arrival_ns = loop_.now_ns;
  pending.entry = nullptr;
  pending.cors = nullptr;
  pending.coding = Coding::kIdentity;
  pending.identity_refused = false;
  pending.varies = false;
  pending.request_id_bytes = static_cast<std::uint8_t>(loop_.request_ids.write(pending.request_id_text));
  expect_by(connection, pending.deadline_ns, loop_.now_ns + loop_.engine.options.request_timeout_ms * kMillisecondNs);
}

void HttpSession::refuse_connection(Connection& connection, const Problem& problem) {
  Pending& pending = open_pending(connection);
  pending.keep_alive = false;
  pending.cors = connection.cors != nullptr ? connection.cors : loop_.engine.cors.find({});
  connection.cors = nullptr;
  connection.closing = true;
  connection.read_deadline_ns = 0;
  connection.owes_continue = false;
  leave_memory_queue(connection);
  connection.block.reset();
  connection.phase = Connection::Phase::kHead;  // `closing` keeps it from reading another request
  connection.in.begin = connection.in.end = 0;
  refuse(connection, pending, problem);
}

void HttpSession::leave_memory_queue(Connection& connection) {
  if (connection.phase == Connection::Phase::kMemory) leave_memory_queue(connection, 0);
}

void HttpSession::leave_memory_queue(Connection& connection, std::int32_t stream) noexcept {
  std::erase(memory_waiters_, MemoryWaiter{&connection, stream});
}

// Whoever comes while others wait goes behind them.
Block HttpSession::acquire_in_turn(std::size_t bytes) {
  return memory_waiters_.empty() ? loop_.engine.pool.try_acquire(bytes) : Block();
}

void HttpSession::wait_for_memory(Connection& connection, std::int32_t stream) {
  loop_.stats.memory_waits.add();
  memory_waiters_.push_back({&connection, stream});
}

// False: it still waits.
bool HttpSession::resume_memory_waiter(Connection& connection, std::int32_t stream) {
  if (connection.fd < 0) return true;
  if (stream != 0) return !connection.http2 || connection.http2->resume_waiter(stream);
  if (connection.phase != Connection::Phase::kMemory) return true;
  const std::uint64_t deadline_ns = connection.read_deadline_ns;
  connection.phase = Connection::Phase::kHead;
  process(connection);
  if (connection.fd < 0) return true;
  update_interest(connection);
  if (connection.phase != Connection::Phase::kMemory) return true;
  connection.read_deadline_ns = deadline_ns;  // another attempt is no progress
  memory_waiters_.pop_back();                 // it has joined the line anew
  return false;
}

void HttpSession::resume_memory_waiters() {
  if (memory_waiters_.empty()) return;
  std::vector<MemoryWaiter> waiters;
  waiters.swap(memory_waiters_);
  for (std::size_t i = 0; i < waiters.size(); ++i) {
    if (resume_memory_waiter(*waiters[i].connection, waiters[i].stream)) continue;
    // First come, first served: who is behind waits too, or a stream of small bodies would starve a large one.
    memory_waiters_.insert(memory_waiters_.end(), waiters.begin() + static_cast<std::ptrdiff_t>(i), waiters.end());
    break;
  }
}

}  // namespace penstock::dataplane
