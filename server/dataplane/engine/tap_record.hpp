// What the tap keeps of one answered request, and the ring that takes it from an I/O loop to whoever writes it down.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "engine/trace_context.hpp"

namespace penstock::dataplane {

// Travels as it is to the process that exports traces.
struct TapRecord {
  static constexpr std::uint8_t kTraced = 1;
  static constexpr std::uint8_t kLogged = 2;
  static constexpr std::uint8_t kAborted = 4;    // the client went before all of its answer was formed
  static constexpr std::uint8_t kHasParent = 8;  // the trace came with the request
  static constexpr std::uint8_t kStreamed = 16;  // neither its length nor that of its answer is known
  static constexpr std::uint8_t kMayLog = 32;    // should it fail
  static constexpr std::uint8_t kGrpc = 64;      // it was a call of gRPC

  std::uint64_t arrival_ns;  // monotonic; of what is drained, since 1970
  std::uint64_t taken_ns;    // this and the next two: 0 when no batch was waited for
  std::uint64_t run_ns;
  std::uint64_t done_ns;
  std::uint64_t replied_ns;
  std::uint64_t bytes_in;   // of the body
  std::uint64_t bytes_out;  // of the whole answer
  std::uint64_t batch;      // equal for requests that shared one
  std::uint32_t rows;
  std::uint32_t batch_rows;
  std::uint32_t padding_rows;
  std::uint32_t worker;
  std::uint16_t status;
  std::uint16_t trace_state_bytes;
  std::uint8_t flags;
  std::uint8_t reason;     // batcher::SealReason
  std::uint8_t row_class;  // batcher::RowClass
  std::uint8_t http_minor;
  TraceId trace_id;
  SpanId parent_id;
  SpanId span_id;
  std::uint8_t method;  // Method
  std::uint8_t request_id_bytes;
  std::uint8_t path_bytes;
  std::uint8_t model_bytes;
  std::uint8_t version_bytes;
  std::uint8_t principal_bytes;
  std::uint8_t client_bytes;
  std::uint8_t code_bytes;
  char request_id[128];
  char path[128];  // as sent, without the query; cut
  char model[64];
  char version[64];
  char principal[64];  // the key's id
  char client[48];     // address, without the port
  char code[48];       // of the problem
  char trace_state[512];

  [[nodiscard]] bool is_traced() const noexcept { return (flags & kTraced) != 0; }
};

static_assert(sizeof(TapRecord) == 1184 && offsetof(TapRecord, request_id) == 128, "tests/tap_records.py reads this");

// By Method.
inline constexpr std::array<std::string_view, 8> kMethodNames{"GET",   "HEAD",   "POST",    "PUT",
                                                              "PATCH", "DELETE", "OPTIONS", "_OTHER"};

// One producer, one consumer. When it is full the record is lost: the producer never waits.
class TapRing {
 public:
  // A power of two; 0: nothing is ever put in.
  explicit TapRing(std::size_t capacity)
      : capacity_(capacity), records_(std::make_unique_for_overwrite<TapRecord[]>(capacity)) {}

  // False: it is full.
  [[nodiscard]] bool put(const TapRecord& record) noexcept {
    const std::uint64_t head = head_.load(std::memory_order_relaxed);  // its own
    if (head - tail_seen_ == capacity_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);  // pairs with drain(): what was read there may be overwritten
      if (head - tail_seen_ == capacity_) return false;
    }
    records_[head & (capacity_ - 1)] = record;
    head_.store(head + 1, std::memory_order_release);  // pairs with drain(): the record is whole
    return true;
  }

  // Hands over at most `records_max` records, oldest first; how many.
  template <class Take>
  std::size_t drain(std::size_t records_max, Take&& take) {
    const std::uint64_t tail = tail_.load(std::memory_order_relaxed);  // its own
    const std::uint64_t head = head_.load(std::memory_order_acquire);  // pairs with put()
    const std::size_t count = static_cast<std::size_t>(head - tail) < records_max ? head - tail : records_max;
    for (std::size_t i = 0; i < count; ++i) take(records_[(tail + i) & (capacity_ - 1)]);
    tail_.store(tail + count, std::memory_order_release);  // pairs with put()
    return count;
  }

  // The producer's view: it is no fewer than there are.
  [[nodiscard]] std::size_t held() const noexcept {
    return static_cast<std::size_t>(head_.load(std::memory_order_relaxed) - tail_.load(std::memory_order_relaxed));
  }

 private:
  const std::size_t capacity_;
  const std::unique_ptr<TapRecord[]> records_;
  alignas(64) std::atomic<std::uint64_t> head_{0};
  std::uint64_t tail_seen_ = 0;  // the producer's; beside its own counter
  alignas(64) std::atomic<std::uint64_t> tail_{0};
};

}  // namespace penstock::dataplane
