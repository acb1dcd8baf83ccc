// Messages of a stream: from DATA to requests.
#include "engine/grpc_stream.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "codec/codec_utf8.hpp"
#include "codec/proto_reader.hpp"
#include "engine/grpc_path.hpp"
#include "engine/grpc_port.hpp"
#include "engine/tap_record.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kHeldBytes = 16 * 1024;  // to begin with
constexpr std::size_t kSmallBytes = 4096;
constexpr std::uint64_t kBodyBytesPerMs = 64;  // as of any body
constexpr std::size_t kInferIdField = 3;

Connection& make_connection(LoopContext& loop, GrpcStream& stream) {
  loop.connections.push_back(std::make_unique<Connection>());
  Connection& made = *loop.connections.back();
  made.kind = WatchKind::kClosed;
  made.index = static_cast<std::uint32_t>(loop.connections.size() - 1);
  made.phase = Connection::Phase::kHttp2;
  made.timer.owner = &made;
  made.http2 = std::make_unique<GrpcPort>(loop, stream);
  return made;
}

}  // namespace

GrpcStream::GrpcStream(LoopContext& loop, HttpSession& session, RequestHandler& handler, GrpcPath& path)
    : loop_(loop), session_(session), handler_(handler), path_(path), requests_(make_connection(loop, *this)) {}

void GrpcStream::open(Kind kind, Connection& carrier, Pending& call, const RequestHead& head) {
  kind_ = kind;
  carrier_ = &carrier;
  requests_.carrier = &carrier;
  call_ = &call;
  head_ = head;
  deadline_ns_ = call.timeout_ns == 0 ? 0 : call.arrival_ns + call.timeout_ns;
  call.deadline_ns = 0;  // it is kept here
  if (deadline_ns_ != 0) loop_.timers.arm(requests_.timer, deadline_ns_);
}

void GrpcStream::close() {
  abandon_requests();
  loop_.timers.disarm(requests_.timer);
  ++requests_.generation;
  carrier_ = nullptr;
  requests_.carrier = nullptr;
  call_ = nullptr;
  prefix_bytes_ = message_bytes_ = message_end_ = 0;
  message_.reset();
  held_ = {};
  read_deadline_ns_ = deadline_ns_ = 0;
  client_ended_ = watching_ = ending_set_ = false;
  told_ = status_left_ = 0;
  path_.recycle(*this);
}

// --- requests --------------------------------------------------------------------------------------------------------

std::uint64_t GrpcStream::message_bytes_max() const {
  return kind_ == Kind::kInfer ? path_.infer_bytes_max() : kGrpcNamesBytesMax;
}

bool GrpcStream::may_take() const noexcept {
  return kind_ == Kind::kInfer ? requests_.may_read_request() : !requests_.has_pending();
}

void GrpcStream::take(std::string_view bytes) {
  if (ending_set_) {  // what still comes is not looked at
    carrier_->http2->messages_taken(*call_, bytes.size());
    return;
  }
  if (!held_.block) bytes.remove_prefix(feed(bytes));
  if (!bytes.empty() && !ending_set_) hold(bytes);
}

void GrpcStream::end() {
  client_ended_ = true;
  end_if_over();
}

// Reads messages as long as there is room for another; returns how many bytes were used. After the end all are.
std::size_t GrpcStream::feed(std::string_view bytes) {
  std::size_t used = 0;
  while (used < bytes.size() && !ending_set_ && (prefix_bytes_ > 0 || may_take())) {
    if (prefix_bytes_ < kGrpcPrefixBytes) {
      const std::size_t count = std::min(kGrpcPrefixBytes - prefix_bytes_, bytes.size() - used);
      std::memcpy(prefix_.data() + prefix_bytes_, bytes.data() + used, count);
      prefix_bytes_ += count;
      used += count;
      if (prefix_bytes_ < kGrpcPrefixBytes || !begin_message()) continue;
    }
    const std::size_t count = std::min(message_bytes_ - message_end_, bytes.size() - used);
    if (count > 0) std::memcpy(message_.data() + message_end_, bytes.data() + used, count);
    message_end_ += count;
    used += count;
    if (message_end_ == message_bytes_) dispatch();
  }
  if (ending_set_) used = bytes.size();
  carrier_->http2->messages_taken(*call_, used);
  if (prefix_bytes_ == 0) {
    read_deadline_ns_ = 0;
  } else if (read_deadline_ns_ == 0) {
    const std::uint64_t patience_ms = loop_.engine.options.body_timeout_ms + message_bytes_ / kBodyBytesPerMs;
    read_deadline_ns_ = loop_.now_ns + patience_ms * kMillisecondNs;
    loop_.timers.arm(requests_.timer, read_deadline_ns_);
  }
  return used;
}

// The prefix is there. False: the call ends.
bool GrpcStream::begin_message() {
  Problem problem;
  message_bytes_ = 0;
  for (std::size_t i = 1; i < kGrpcPrefixBytes; ++i)
    message_bytes_ = message_bytes_ << 8 | static_cast<unsigned char>(prefix_[i]);
  message_end_ = 0;
  read_deadline_ns_ = 0;
  if (prefix_[0] != 0) {
    problem.set(ProblemCode::kNotImplemented, "the message is compressed: send it with grpc-encoding identity");
  } else if (message_bytes_ > message_bytes_max()) {
    problem.set(ProblemCode::kBodyTooLarge, "the message has %zu bytes, at most %llu are accepted here", message_bytes_,
                static_cast<unsigned long long>(message_bytes_max()));
  } else if (message_bytes_ > 0) {
    // Small ones are bounded by their number.
    message_ = message_bytes_ <= kSmallBytes ? loop_.engine.pool.acquire_owed(message_bytes_)
                                             : loop_.engine.pool.try_acquire(message_bytes_);
    if (!message_) problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the message; try again");
  }
  if (problem) end_with(problem);
  return !problem;
}

// There is no room for another message. The client may send as much as fits its window, and no more until it is taken.
void GrpcStream::hold(std::string_view bytes) {
  const std::size_t used = held_.end - held_.begin;
  if (held_.block.bytes() - held_.end < bytes.size()) {
    const std::size_t wanted = used + bytes.size();
    Block larger;
    if (wanted > held_.block.bytes() / 2) {
      larger = loop_.engine.pool.try_acquire(std::max(2 * wanted, kHeldBytes));
      if (!larger) {
        Problem problem;
        problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the messages; try again");
        end_with(problem);
        carrier_->http2->messages_taken(*call_, bytes.size());  // they are not looked at
        return;
      }
    }
    char* const to = larger ? larger.data() : held_.block.data();
    if (used > 0) std::memmove(to, held_.block.data() + held_.begin, used);
    if (larger) held_.block = std::move(larger);
    held_.begin = 0;
    held_.end = used;
  }
  std::memcpy(held_.block.data() + held_.end, bytes.data(), bytes.size());
  held_.end += bytes.size();
}

// A message was answered: the next ones have their turn.
void GrpcStream::feed_held() {
  if (held_.block) {
    Held held = std::exchange(held_, {});
    held.begin += feed({held.block.data() + held.begin, held.end - held.begin});
    if (held.begin != held.end && !ending_set_) held_ = std::move(held);
  }
  end_if_over();
}

void GrpcStream::dispatch() {
  Block block = std::move(message_);
  const std::string_view message(block.data(), message_bytes_);
  prefix_bytes_ = message_bytes_ = message_end_ = 0;
  if (kind_ == Kind::kWatch) {
    watch(message);
  } else {
    submit(message, block);
  }
}

void GrpcStream::submit(std::string_view message, Block& block) {
  const std::uint32_t id = requests_.last++;
  Pending& pending = requests_.slot(id);
  session_.open_pending(requests_, pending, id);
  Slot& slot = slot_of(pending);
  slot.lead_begin = slot.lead_end = slot.tail_left = 0;
  slot.id.clear();
  RequestHead head = head_;
  char timeout[24];
  if (deadline_ns_ != 0) {  // what is left of the call's time is the message's, as far as it may have so much
    const std::uint64_t left_ms = deadline_ns_ > loop_.now_ns ? (deadline_ns_ - loop_.now_ns) / kMillisecondNs : 0;
    const std::uint64_t own_ms = std::min(left_ms, loop_.engine.options.request_timeout_ms);
    const auto end = std::to_chars(timeout, timeout + sizeof timeout, std::max<std::uint64_t>(own_ms, 1)).ptr;
    head.timeout_ms = {timeout, end};
  }
  if (loop_.tap.is_on()) loop_.tap.open(requests_, pending, head, message.size(), *loop_.keys);
  if (pending.tap != nullptr) pending.tap->flags |= TapRecord::kGrpc;
  const Request request{head, message, block};
  if (kind_ == Kind::kRelay) {
    path_.relay(requests_, pending, request);
    return;
  }
  ProtoReader reader(message);
  ProtoField field;
  while (reader.next(field)) {
    if (field.is_bytes(kInferIdField)) slot.id = utf8_begin(field.bytes, kInferIdBytesMax);
  }
  path_.start_infer(requests_, pending, request);
}

void GrpcStream::abandon_requests() {
  for (; requests_.has_pending(); ++requests_.first) {
    Pending& pending = requests_.slot(requests_.first);
    if (pending.tap != nullptr) loop_.tap.abort(requests_, pending);
    if (pending.state != Pending::State::kReady) handler_.abandon(requests_, pending);
    pending.reply.reset();
    pending.state = Pending::State::kFree;
  }
  requests_.owed_bytes = 0;
}

std::uint64_t GrpcStream::check_deadlines() {
  const std::uint64_t now = loop_.now_ns;
  std::uint64_t next = std::numeric_limits<std::uint64_t>::max();
  const auto is_due = [&](std::uint64_t deadline_ns) {
    if (deadline_ns == 0) return false;
    if (deadline_ns > now) next = std::min(next, deadline_ns);
    return deadline_ns <= now;
  };
  if (carrier_ == nullptr || (ending_set_ && !requests_.has_pending())) return next;
  Problem problem;
  if (is_due(deadline_ns_)) {
    if (is_torn()) {
      deadline_ns_ = 0;
      carrier_->http2->messages_broken(*call_);
      return next;
    }
    abandon_requests();
    status_left_ = 0;
    problem.set(ProblemCode::kDeadlineExceeded, "the call has lasted as long as its client allows");
    ending_set_ = false;  // with whatever it was going to
    end_with(problem);
    return next;
  }
  if (is_due(read_deadline_ns_)) {
    read_deadline_ns_ = 0;
    problem.set(ProblemCode::kRequestTimeout, "the message did not arrive completely in time");
    end_with(problem);
  }
  for (std::uint32_t id = requests_.first; id != requests_.last; ++id) {
    Pending& pending = requests_.slot(id);
    if (pending.state == Pending::State::kReady || !is_due(pending.deadline_ns)) continue;
    handler_.abandon(requests_, pending);
    problem.set(ProblemCode::kDeadlineExceeded, "no answer within %llu ms; the row may still run",
                static_cast<unsigned long long>((pending.deadline_ns - pending.arrival_ns) / kMillisecondNs));
    session_.refuse(requests_, pending, problem);
  }
  return next;
}

}  // namespace penstock::dataplane
