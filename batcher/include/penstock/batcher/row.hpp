// What travels beside a row: its metadata on the way in, its completion on the way out. Both lie in shared memory.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace penstock::batcher {

inline constexpr std::size_t kShapeRankMax = 6;

// Written by the producer before it publishes the row; read by the worker. Laid out early because a later field would
// change every ring: version it with RingHeader::version.
struct alignas(64) RowMeta {
  std::uint64_t arrival_ns = 0;   // CLOCK_MONOTONIC, when the request's last byte was read
  std::uint64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none. Not run when it cannot be met
  std::array<std::uint8_t, 16> request_id{};
  std::array<std::uint8_t, 16> trace_id{};
  std::uint64_t span_offset = 0;  // arena bytes of the packed row, from the start of the region; 0: the row is in place
  std::uint64_t span_bytes = 0;
  std::uint32_t row_index = 0;                       // row k ...
  std::uint32_t row_count = 1;                       // ... of n of its request
  std::uint32_t principal = 0;                       // index into the identities of the route snapshot; 0: anonymous
  std::uint16_t arm = 0;                             // arm of a traffic split
  std::uint8_t priority = 1;                         // RowClass
  std::uint8_t rank = 0;                             // 0: the schema's shape
  std::array<std::uint32_t, kShapeRankMax> shape{};  // shape[0]: the row's length, where its tensors vary
  // Set by the producer when nobody waits for the answer any more. A hint: the row may still run.
  std::atomic<std::uint8_t> cancelled{0};
};
static_assert(sizeof(RowMeta) == 128);

enum class CompletionKind : std::uint8_t { kNone = 0, kPartial = 1, kFinal = 2, kError = 3 };

// Why a row failed, as the worker or the recovery says it.
enum class RowError : std::uint8_t {
  kNone = 0,
  kModelRaised = 1,   // the model raised for this row alone
  kWorkerDied = 2,    // its worker died and the model may not run it twice
  kCulprit = 3,       // this row killed its worker when it ran alone
  kBadOutput = 4,     // the model returned something of another shape or dtype
  kShed = 5,          // it would have been late, and was dropped before it ran
  kInvalidInput = 6,  // what the plan makes of the row does not fit the model's inputs; it was not run
};

// Written by the worker, read (and distrusted) by the main process. `detail` names the exception's type and message.
struct alignas(64) Completion {
  std::atomic<CompletionKind> kind{CompletionKind::kNone};
  RowError error = RowError::kNone;
  std::uint8_t detail_bytes = 0;
  std::array<char, 125> detail{};
};
static_assert(sizeof(Completion) == 128);

}  // namespace penstock::batcher
