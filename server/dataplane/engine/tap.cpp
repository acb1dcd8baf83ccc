#include "engine/tap.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <span>
#include <stdexcept>
#include <system_error>

#include "engine/batch_stamps.hpp"
#include "engine/connection.hpp"
#include "engine/key_table.hpp"
#include "engine/loop_context.hpp"
#include "http/ascii.hpp"
#include "http/fields.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

template <std::size_t N>
std::uint8_t copy_cut(char (&out)[N], std::string_view text) noexcept {
  static_assert(N <= 255);
  const std::size_t bytes = std::min(N, text.size());
  std::memcpy(out, text.data(), bytes);
  return static_cast<std::uint8_t>(bytes);
}

void put_bits(std::uint64_t bits, std::uint8_t* out) noexcept { std::memcpy(out, &bits, sizeof bits); }

// Whole members only (section 3.3 of Trace Context): what does not fit is left out from the right.
void copy_trace_state(TapRecord& record, std::string_view fields) noexcept {
  for_each_field(fields, [&record](std::string_view name, std::string_view value, std::string_view) {
    if (!equals_ignoring_case(name, "tracestate")) return;
    const std::size_t begin = record.trace_state_bytes;
    const std::size_t comma = begin == 0 ? 0 : 1;
    std::size_t room = sizeof record.trace_state - begin;
    if (room <= comma) return;
    room -= comma;
    if (value.size() > room) {
      const std::size_t end = value.substr(0, room + 1).rfind(',');
      value = value.substr(0, end == std::string_view::npos ? 0 : end);
    }
    if (value.empty()) return;
    if (comma != 0) record.trace_state[begin] = ',';
    std::memcpy(record.trace_state + begin + comma, value.data(), value.size());
    record.trace_state_bytes = static_cast<std::uint16_t>(begin + comma + value.size());
  });
}

// One system call for a record that is written; remembered at accept it would cost every connection one.
void write_client(TapRecord& record, int fd) noexcept {
  record.client_bytes = 0;
  sockaddr_storage peer{};
  socklen_t bytes = sizeof peer;
  if (fd < 0 || ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &bytes) != 0) return;
  const void* address = nullptr;
  if (peer.ss_family == AF_INET) address = &reinterpret_cast<sockaddr_in&>(peer).sin_addr;
  if (peer.ss_family == AF_INET6) address = &reinterpret_cast<sockaddr_in6&>(peer).sin6_addr;
  if (address == nullptr || ::inet_ntop(peer.ss_family, address, record.client, sizeof record.client) == nullptr)
    return;
  record.client_bytes = static_cast<std::uint8_t>(::strnlen(record.client, sizeof record.client));
}

// Of an answer that begins as one of HTTP/1 does; else what it was.
std::uint16_t status_of(std::string_view reply, std::uint16_t otherwise) noexcept {
  if (reply.size() < 12 || !reply.starts_with("HTTP/1.") || !all_in(reply.substr(9, 3), kDigit)) return otherwise;
  return static_cast<std::uint16_t>((reply[9] - '0') * 100 + (reply[10] - '0') * 10 + (reply[11] - '0'));
}

}  // namespace

Ratio::Ratio(double share) : always_(share >= 1) {
  if (!(share >= 0 && share <= 1)) throw std::invalid_argument("a sample is a share from 0 to 1");
  if (!always_) threshold_ = static_cast<std::uint64_t>(std::ldexp(share, 64));
}

Tap::Tap(const TapOptions& options)
    : traces_(options.trace_sample.has_value()),
      logs_(options.access_log_sample.has_value()),
      on_(traces_ || logs_),
      trace_ratio_(options.trace_sample.value_or(0)),
      log_ratio_(options.access_log_sample.value_or(0)),
      ring_(on_ ? kTapRecords : 0),
      bell_(on_ ? ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1) {
  if (on_ && bell_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Tap::~Tap() {
  if (bell_ >= 0) ::close(bell_);
}

void Tap::open(const Connection& connection, Pending& pending, const RequestHead& head, std::uint64_t body_bytes,
               const KeyTable& keys) {
  TraceContext parent;
  const bool has_parent = !head.traceparent.empty() && parse_traceparent(head.traceparent, parent);
  // Whoever began the trace has decided for all of it. The control plane begins none for its own predictions.
  const bool traced =
      traces_ && (has_parent ? parent.sampled : !connection.internal && trace_ratio_.admits(random_.next()));
  // The control plane's own predictions belong to a request that is logged already.
  const bool may_log = logs_ && !connection.internal;
  if (!traced && !may_log) return;
  const bool logged = may_log && log_ratio_.admits(random_.next());
  TapRecord& record =
      begin(pending, static_cast<std::uint8_t>((traced ? TapRecord::kTraced : 0) | (logged ? TapRecord::kLogged : 0) |
                                               (may_log ? TapRecord::kMayLog : 0)));
  record.bytes_in = body_bytes;
  record.method = static_cast<std::uint8_t>(head.method);
  record.http_minor = head.version_minor;
  record.path_bytes = copy_cut(record.path, head.path);
  if (traced || has_parent) fill_trace(record, pending, head, has_parent ? &parent : nullptr);
  if ((traced || logged) && !(head.authorization.empty() && head.api_key.empty())) {
    Principal principal;
    Problem ignored;  // whoever handles the request finds it, too
    if (keys.admits_predict(head, principal, ignored))
      record.principal_bytes = copy_cut(record.principal, principal.id);
  }
}

TapRecord& Tap::begin(Pending& pending, std::uint8_t flags) {
  if (free_.empty()) {
    records_.push_back(std::make_unique<TapRecord>());
    free_.reserve(records_.size());
    free_.push_back(records_.back().get());
  }
  TapRecord& record = *free_.back();
  free_.pop_back();
  std::memset(&record, 0, offsetof(TapRecord, request_id));  // the texts are as long as this part says
  record.arrival_ns = pending.arrival_ns;
  record.method = static_cast<std::uint8_t>(Method::kOther);
  record.flags = flags;
  pending.tap = &record;
  return record;
}

void Tap::fill_trace(TapRecord& record, Pending& pending, const RequestHead& head, const TraceContext* parent) {
  if (parent != nullptr) {
    record.flags |= TapRecord::kHasParent;
    record.trace_id = parent->trace_id;
    record.parent_id = parent->span_id;
  }
  if (!record.is_traced()) return;
  if (parent != nullptr) {
    copy_trace_state(record, head.fields);
  } else {
    put_bits(random_.next() | 1, record.trace_id.data());  // an id of zeros is none
    put_bits(random_.next(), record.trace_id.data() + 8);
  }
  put_bits(random_.next() | 1, record.span_id.data());
  pending.trace_id = record.trace_id;
}

void Tap::see(const Connection& connection, const RequestHead& head) noexcept {
  seen_.connection = connection.index;
  seen_.generation = connection.generation;
  seen_.method = head.method;
  seen_.path_bytes = copy_cut(seen_.path, head.path);
}

void Tap::note_problem(const Connection& connection, Pending& pending, ProblemCode code) {
  if (pending.tap == nullptr) {
    if (!logs_ || connection.internal) return;
    TapRecord& record = begin(pending, TapRecord::kMayLog);
    if (seen_.connection == connection.index && seen_.generation == connection.generation) {
      record.method = static_cast<std::uint8_t>(seen_.method);
      record.path_bytes = copy_cut(record.path, {seen_.path, seen_.path_bytes});
    }
  }
  const ProblemInfo& info = info_of(code);
  pending.tap->status = static_cast<std::uint16_t>(info.status);
  pending.tap->code_bytes = copy_cut(pending.tap->code, info.code);
}

void Tap::close(const Connection& connection, Pending& pending, std::string_view reply) noexcept {
  TapRecord& record = *pending.tap;
  pending.tap = nullptr;
  record.status = status_of(reply, record.status);
  record.bytes_out = reply.size();
  const std::uint64_t now_ns = monotonic_ns();
  if ((record.flags & TapRecord::kLogged) == 0 && (record.flags & TapRecord::kMayLog) != 0 &&
      (record.status >= 400 || (record.flags & TapRecord::kAborted) != 0) && logs_failure(now_ns)) {
    record.flags |= TapRecord::kLogged;
  }
  if ((record.flags & (TapRecord::kTraced | TapRecord::kLogged)) != 0) write(connection, pending, record, now_ns);
  free_.push_back(&record);  // reserved
}

void Tap::abort(const Connection& connection, Pending& pending) noexcept {
  pending.tap->flags |= TapRecord::kAborted;
  close(connection, pending, {});
}

bool Tap::logs_failure(std::uint64_t now_ns) noexcept {
  if (now_ns / kSecondNs != second_) {
    second_ = now_ns / kSecondNs;
    failures_ = 0;
  }
  if (failures_ < kFailuresMax) {
    ++failures_;
    return true;
  }
  suppressed.add();
  return false;
}

void Tap::note_model(const Pending& pending, TapRecord& record) noexcept {
  if (record.model_bytes != 0 || pending.entry == nullptr) return;
  record.model_bytes = copy_cut(record.model, pending.entry->model);
  record.version_bytes = copy_cut(record.version, pending.entry->version);
}

void Tap::write(const Connection& connection, const Pending& pending, TapRecord& record,
                std::uint64_t now_ns) noexcept {
  record.replied_ns = now_ns;
  record.row_class = static_cast<std::uint8_t>(pending.row_class);
  record.request_id_bytes = copy_cut(record.request_id, pending.request_id());
  note_model(pending, record);
  write_client(record, connection.carrier == nullptr ? connection.fd : connection.carrier->fd);
  if (!ring_.put(record)) {
    dropped.add();
    return;
  }
  written.add();
  if (ring_.held() == kTapMany) ::eventfd_write(bell_, 1);  // it may be asleep; else it will look by itself
}

void note_streamed(TapRecord& record, std::string_view head) noexcept {
  record.status = status_of(head, record.status);
  record.flags |= TapRecord::kStreamed;
}

void note_batch(TapRecord& record, const BatchStamps& stamps, const ModelEntry& entry, std::uint32_t rows) noexcept {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15ull;
  record.taken_ns = stamps.taken_ns;
  record.run_ns = stamps.run_ns;
  record.done_ns = stamps.done_ns;
  // A worker takes one batch at a time.
  record.batch = (stamps.taken_ns ^ (std::uint64_t{entry.id} << 40) ^ (std::uint64_t{stamps.worker} << 56)) * kOdd;
  record.rows = rows;
  record.batch_rows = stamps.batch_rows;
  record.padding_rows = stamps.padding_rows;
  record.worker = stamps.worker;
  record.reason = static_cast<std::uint8_t>(stamps.reason);
}

}  // namespace penstock::dataplane
