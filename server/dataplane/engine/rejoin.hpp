// A request of many rows: they run in whatever batches, come back in whatever order, and leave as one reply.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "codec/codec_oip.hpp"
#include "codec/codec_rows.hpp"
#include "engine/batch_stamps.hpp"
#include "engine/body_pool.hpp"
#include "engine/connection.hpp"
#include "engine/model_entry.hpp"

namespace penstock::dataplane {

inline constexpr std::uint32_t kRequestRowsMax = 65'536;
inline constexpr std::uint64_t kRowsBytesMax = 32ull << 20;  // of a body of many rows

// Belongs to a Pending, or to a job on its way to or from one, until it is answered, refused or abandoned; then to the
// loop's pool again. Rows that are still out then find no request that waits for them and are dropped.
struct Rejoin {
  // kRaw: one output, row behind row; a row that fails fails the request. kRows: outputs and faults by row. From kInfer
  // on, the Open Inference Protocol, where a row that fails fails the request unless it asks for row_errors: as REST
  // has it, and as a message of gRPC.
  enum class Form : std::uint8_t { kRaw, kRows, kInfer, kMessage };

  struct Part {  // rows that were claimed together, so they lie in one block and come back together
    batcher::Claim claim;
    bool answered = false;
  };
  struct Output {
    std::uint32_t tensor = 0;  // of the schema
    const TensorSpec* spec = nullptr;
    char* data = nullptr;
    std::size_t stride = 0;
  };

  Form form = Form::kRaw;
  bool shares = false;               // its rows look for answers of equal ones, and leave theirs to others
  bool joined = false;               // some row had its answer from the run of an equal one
  bool stalled = false;              // no row goes into the queue before another one has come back
  std::uint32_t rows = 0;            // of the request
  std::uint32_t cursor = 0;          // of them, those behind it are still to be submitted
  std::uint32_t refused = 0;         // that do not fit the schema, and are not run
  std::uint32_t answered = 0;        // with outputs, or with a fault of their own
  std::uint32_t under_way = 0;       // in the queue or further, or waiting for a row that is
  std::uint32_t waiting = 0;         // of these, for the row of another request, or an equal one of this
  std::vector<Part> parts;           // keeps its capacity from request to request
  std::vector<std::uint32_t> again;  // rows behind the cursor that are to be submitted after all
  std::uint64_t oldest_ns = 0;       // age of the oldest answer that was found
  BatchStamps stamps;                // of the batch that came back last, when it shares
  ModelEntry* entry = nullptr;

  std::vector<Column> columns;         // the inputs
  std::vector<std::uint32_t> lengths;  // of the rows, where tensors vary; else empty
  std::uint32_t longest = 0;
  std::vector<RowFault> faults;  // rows that were refused come first, ascending
  std::uint32_t next_fault = 0;  // of those, the first at or behind the cursor
  InferRequest infer;
  std::vector<Output> outputs;
  std::vector<Column> results;  // the same for an encoder

  // What the columns point into: the request's body, blocks, and the first bytes here.
  Block body;
  std::vector<Block> blocks;
  std::unique_ptr<char[]> small;
  std::size_t small_used = 0;

  // Whether the reply, which is in `encoding`, says what is wrong with a row alone.
  [[nodiscard]] bool has_place_for_faults(Encoding encoding) const noexcept {
    return form == Form::kRows ? encoding != Encoding::kRaw : form == Form::kInfer && infer.row_errors;
  }
  [[nodiscard]] bool is_submitted() const noexcept { return cursor == rows && again.empty(); }
  [[nodiscard]] bool is_complete() const noexcept { return answered == rows; }
  [[nodiscard]] std::uint32_t length_of(std::uint32_t row) const noexcept { return lengths.empty() ? 0 : lengths[row]; }
  // Memory until it is answered; null when the pool has none.
  [[nodiscard]] char* allocate(std::size_t bytes, BodyPool& pool);
  // Some input lies in these bytes.
  [[nodiscard]] bool refers_to(std::string_view bytes) const noexcept;
  // A body without a block goes with the call that brought it: keep what the columns point to in it.
  [[nodiscard]] bool keep_body(std::string_view bytes, BodyPool& pool);
};

// Of one loop. Allocates only when more requests of many rows are under way than ever before.
class RejoinPool {
 public:
  [[nodiscard]] Rejoin* acquire();
  void release(Rejoin& rejoin) noexcept;

 private:
  std::vector<std::unique_ptr<Rejoin>> all_;
  std::vector<Rejoin*> free_;
};

}  // namespace penstock::dataplane
