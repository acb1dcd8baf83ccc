// The sampled tap of an I/O loop: which requests leave a record, and what stands in it.
//
// Used by its loop's thread, but for drain() and the counters. Off, it costs the loop a branch where a request begins
// and one where it ends. On, requests that are not sampled cost a few random bits; with an access log also a record
// that is begun and thrown away, since only their end shows whether they fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "engine/stats.hpp"
#include "engine/tap_record.hpp"
#include "http/http_parser.hpp"
#include "http/problem.hpp"
#include "http/request_id.hpp"

namespace penstock::dataplane {

struct BatchStamps;
struct Connection;
class KeyTable;
class ModelEntry;
struct Pending;

struct TapOptions {
  std::optional<double> trace_sample = {};  // share of the requests without a trace of their own; nothing: no tracing
  std::optional<double> access_log_sample = {};  // share of the requests that do not fail; nothing: no access log
};

inline constexpr std::size_t kTapRecords = 8192;  // of a loop
inline constexpr std::size_t kTapMany = kTapRecords / 8;
inline constexpr std::uint32_t kFailuresMax = 100;  // logged in a second beyond the sample, by a loop

// A share of what is drawn.
class Ratio {
 public:
  // std::invalid_argument unless it is 0 to 1.
  explicit Ratio(double share);
  [[nodiscard]] bool admits(std::uint64_t bits) const noexcept { return always_ || bits < threshold_; }

 private:
  std::uint64_t threshold_ = 0;
  bool always_ = false;
};

class Tap {
 public:
  // std::system_error when the kernel gives no bell.
  explicit Tap(const TapOptions& options);
  ~Tap();
  Tap(const Tap&) = delete;
  Tap& operator=(const Tap&) = delete;

  [[nodiscard]] bool is_on() const noexcept { return on_; }

  // A request begins whose body has so many bytes.
  void open(const Connection& connection, Pending& pending, const RequestHead& head, std::uint64_t body_bytes,
            const KeyTable& keys);
  // A head whose body may be refused before it is read, and with it the request before it begins.
  void see(const Connection& connection, const RequestHead& head) noexcept;
  // It is refused. One that never began is logged with what see() saw of it.
  void note_problem(const Connection& connection, Pending& pending, ProblemCode code);
  // It has its answer: all of it, or nothing where it was streamed.
  void close(const Connection& connection, Pending& pending, std::string_view reply) noexcept;
  // Its client is gone.
  void abort(const Connection& connection, Pending& pending) noexcept;
  // What the pending's model is called, while it is there: a reply may be compressed for longer than its model lives.
  static void note_model(const Pending& pending, TapRecord& record) noexcept;

  // Any one thread at a time.
  template <class Take>
  std::size_t drain(std::size_t records_max, Take&& take) {
    return ring_.drain(records_max, take);
  }

  // An eventfd that rings when there are many to take; -1 when it is off.
  [[nodiscard]] int bell() const noexcept { return bell_; }

  Counter written;
  Counter dropped;     // for want of room
  Counter suppressed;  // requests that failed and are not logged, since too many did

 private:
  struct Seen {
    std::uint32_t connection = ~std::uint32_t{0};
    std::uint32_t generation = 0;
    Method method = Method::kOther;
    std::uint8_t path_bytes = 0;
    char path[sizeof(TapRecord::path)];
  };

  TapRecord& begin(Pending& pending, std::uint8_t flags);
  void fill_trace(TapRecord& record, Pending& pending, const RequestHead& head, const TraceContext* parent);
  [[nodiscard]] bool logs_failure(std::uint64_t now_ns) noexcept;
  void write(const Connection& connection, const Pending& pending, TapRecord& record, std::uint64_t now_ns) noexcept;

  const bool traces_;
  const bool logs_;
  const bool on_;
  const Ratio trace_ratio_;
  const Ratio log_ratio_;
  RequestIdSource random_;
  TapRing ring_;
  const int bell_;
  std::vector<std::unique_ptr<TapRecord>> records_;  // as many as were ever under way
  std::vector<TapRecord*> free_;
  Seen seen_;
  std::uint64_t second_ = 0;
  std::uint32_t failures_ = 0;  // logged in it
};

// The head of an answer that is streamed: its status.
void note_streamed(TapRecord& record, std::string_view head) noexcept;

// The batch that answered the last of its rows.
void note_batch(TapRecord& record, const BatchStamps& stamps, const ModelEntry& entry, std::uint32_t rows) noexcept;

}  // namespace penstock::dataplane
