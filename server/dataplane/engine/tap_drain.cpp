#include "engine/tap_drain.hpp"

#include <charconv>
#include <cstring>
#include <ctime>
#include <string_view>

#include "engine/batch_stamps.hpp"
#include "engine/loop_context.hpp"
#include "http/json_text.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kMicrosecondNs = 1000;
constexpr std::uint64_t kSecondNs = 1'000'000'000;

void add_text(std::string& out, std::string_view name, std::string_view text) {
  if (text.empty()) return;
  char quoted[6 * sizeof(TapRecord::path) + 2];
  out.append(",\"").append(name).append("\":");
  out.append(quoted, static_cast<std::size_t>(write_json_string(quoted, text) - quoted));
}

void add_number(std::string& out, std::string_view name, std::uint64_t number) {
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  out.append(",\"").append(name).append("\":").append(digits, end);
}

void add_hex(std::string& out, std::string_view name, const std::uint8_t* bytes, std::size_t count) {
  char digits[2 * sizeof(TraceId)];
  add_text(out, name, {digits, write_hex(digits, bytes, count)});
}

// RFC 3339 with microseconds.
void add_time(std::string& out, std::uint64_t time_ns) {
  const auto seconds = static_cast<std::time_t>(time_ns / kSecondNs);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[64];
  std::size_t bytes = std::strftime(text, sizeof text, "{\"time\":\"%Y-%m-%dT%H:%M:%S.", &parts);
  std::uint64_t micros = time_ns % kSecondNs / kMicrosecondNs;
  for (std::size_t i = 6; i-- > 0; micros /= 10) text[bytes + i] = static_cast<char>('0' + micros % 10);
  out.append(text, bytes + 6).append("Z\"");
}

std::uint64_t micros_between(std::uint64_t from_ns, std::uint64_t to_ns) noexcept {
  return to_ns > from_ns ? (to_ns - from_ns) / kMicrosecondNs : 0;
}

void add_batch(std::string& out, const TapRecord& record) {
  if (record.taken_ns == 0) return;
  add_number(out, "rows", record.rows);
  add_number(out, "queue_us", micros_between(record.arrival_ns, record.taken_ns));
  add_number(out, "batch_us", micros_between(record.taken_ns, record.done_ns));
  add_number(out, "run_us", micros_between(record.run_ns, record.done_ns));
  add_number(out, "batch_rows", record.batch_rows);
}

std::uint64_t realtime_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecondNs + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

TapDrain::TapDrain() : since_1970_ns_(realtime_ns() - monotonic_ns()) {}

void TapDrain::take(Tap& tap) {
  tap.drain(kTapRecords, [this](TapRecord& record) { take(record); });
}

// The record is ours until the ring is told that it was taken.
void TapDrain::take(TapRecord& record) {
  for (std::uint64_t* const time_ns :
       {&record.arrival_ns, &record.taken_ns, &record.run_ns, &record.done_ns, &record.replied_ns}) {
    if (*time_ns != 0) *time_ns += since_1970_ns_;
  }
  if ((record.flags & TapRecord::kLogged) != 0) {
    append_line(lines, record);
    ++lines_count;
  }
  if (record.is_traced()) records.append(reinterpret_cast<const char*>(&record), sizeof record);
}

void append_line(std::string& out, const TapRecord& record) {
  add_time(out, record.arrival_ns);
  add_text(out, "request_id", {record.request_id, record.request_id_bytes});
  add_text(out, "client", {record.client, record.client_bytes});
  add_text(out, "principal", {record.principal, record.principal_bytes});
  add_text(out, "method", kMethodNames[record.method % kMethodNames.size()]);
  add_text(out, "path", {record.path, record.path_bytes});
  if ((record.flags & TapRecord::kAborted) != 0) {
    out.append(",\"aborted\":true");
  }
  if (record.status != 0) add_number(out, "status", record.status);
  add_text(out, "code", {record.code, record.code_bytes});
  add_text(out, "model", {record.model, record.model_bytes});
  add_text(out, "version", {record.version, record.version_bytes});
  add_number(out, "bytes_in", record.bytes_in);
  add_number(out, "bytes_out", record.bytes_out);
  add_number(out, "total_us", micros_between(record.arrival_ns, record.replied_ns));
  add_batch(out, record);
  if ((record.flags & (TapRecord::kTraced | TapRecord::kHasParent)) != 0) {
    add_hex(out, "trace_id", record.trace_id.data(), record.trace_id.size());
    if (record.is_traced()) add_hex(out, "span_id", record.span_id.data(), record.span_id.size());
  }
  out.append("}\n");
}

}  // namespace penstock::dataplane
