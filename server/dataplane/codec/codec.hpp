// The codec contract: a request body becomes the packed tensors of one row, the outputs of one row become a reply body.
//
// Every function here is called on an I/O loop or a decode thread, allocates nothing, takes no lock and keeps no state
// between calls. A decoder writes nothing outside the row it was given and reads nothing outside the body.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/problem.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::dataplane {

class RecordPlan;  // record_plan.hpp

enum class Encoding : std::uint8_t { kJson, kMsgpack, kRaw };

// Bounds of a schema: decoding keeps its state on the stack.
inline constexpr std::size_t kTensorsMax = 1024;
inline constexpr std::size_t kRankMax = 32;

// Where the decoder puts a row: packed as `schema->inputs` says, 64-byte aligned. Of a tensor that varies in length the
// row has its first elements; those behind are not written.
struct RowTarget {
  const ModelSchema* schema = nullptr;
  std::byte* row = nullptr;
};

// Turns the names in a request into a row to fill. Called at most once per body, as soon as both names are known or
// known to be absent (empty). A target without a schema means refused: `problem` says why.
class RowResolver {
 public:
  virtual RowTarget resolve(std::string_view model, std::string_view version, Problem& problem) = 0;

  // Of the row that was decoded, where its tensors vary; 0: they do not.
  [[nodiscard]] std::uint32_t length() const noexcept { return length_; }
  void set_length(std::uint32_t length) noexcept { length_ = length; }  // the decoder
  // What clients send instead of the tensors, once resolve() was asked; null: the tensors.
  [[nodiscard]] const RecordPlan* record() const noexcept { return record_; }
  // What a problem says of the fields of a record is kept here.
  void keep_faults(std::shared_ptr<const FieldFaults> faults) noexcept { faults_ = std::move(faults); }
  [[nodiscard]] std::shared_ptr<const FieldFaults> take_faults() noexcept { return std::move(faults_); }

 protected:
  ~RowResolver() = default;
  void set_record(const RecordPlan* record) noexcept { record_ = record; }

 private:
  std::uint32_t length_ = 0;
  const RecordPlan* record_ = nullptr;
  std::shared_ptr<const FieldFaults> faults_;
};

// Names given in the query string; empty when absent. A body that names something else is a kContradiction.
struct QueryNames {
  std::string_view model;
  std::string_view version;
};

// {"model": ..., "version": ..., "inputs": [...] | {name: value}}, names in any order. `inputs` without names is for
// models of one input. False: `problem` is set (kMalformedBody with the byte offset; kInvalidInput with the field, what
// was expected and what came; kContradiction; or what the resolver set).
[[nodiscard]] bool decode_json(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem);
[[nodiscard]] bool decode_msgpack(std::string_view body, const QueryNames& names, RowResolver& resolver,
                                  Problem& problem);
// One row of a single-input model, little-endian, C order, exactly the tensor's bytes; their number gives the length of
// a tensor that varies.
[[nodiscard]] bool decode_raw(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem);

// Rows in a raw body: more than one when it holds exactly so many rows of a single-input model, whose length does not
// vary: then they are for decode_raw_rows(). Else 1, which decode_raw() accepts or refuses.
[[nodiscard]] std::uint32_t count_raw_rows(const ModelSchema& schema, std::size_t body_bytes) noexcept;

struct RowsOutputs;  // codec_rows.hpp

// Replies of one model version. Built once per route snapshot (may allocate then); encoding allocates nothing.
class ReplyEncoder {
 public:
  ReplyEncoder() = default;
  // `schema` must outlive the encoder. Throws std::invalid_argument for more than kTensorsMax inputs or outputs, for
  // one of more than kRankMax dimensions, and for a reply too long to count.
  ReplyEncoder(std::string_view model, std::string_view version, const ModelSchema& schema);

  // Upper bound in bytes of any reply body in this encoding (for kRaw: of the largest output).
  [[nodiscard]] std::size_t bytes_max(Encoding encoding) const noexcept { return bounds_of(encoding).bytes_max; }
  // The same for a row of this length; 0: nothing varies.
  [[nodiscard]] std::size_t bytes_max(Encoding encoding, std::uint32_t length) const noexcept;

  // Strings may be spoilt, or bytes that are no UTF-8, which JSON cannot carry. False: `problem` is set (kModelError).
  // Only for outputs that hold strings; encode() is safe without, and writes something in their place.
  [[nodiscard]] bool has_texts() const noexcept { return has_texts_; }
  [[nodiscard]] bool check_texts(Encoding encoding, std::span<const std::byte* const> outputs, std::uint32_t length,
                                 Problem& problem) const noexcept;

  // Writes a body into `out` (at least bytes_max bytes) and returns its length. `outputs[i]` points at output i of this
  // row. `output` selects the tensor for kRaw and is ignored otherwise. Outputs that vary are cut to `length`.
  [[nodiscard]] std::size_t encode(Encoding encoding, std::span<const std::byte* const> outputs, std::size_t output,
                                   char* out, std::uint32_t length = 0) const noexcept;

  // Replies to bodies of many rows (codec_rows.hpp), in JSON or msgpack.
  [[nodiscard]] std::size_t rows_bytes_max(Encoding encoding, const RowsOutputs& outputs) const noexcept;
  [[nodiscard]] std::size_t encode_rows(Encoding encoding, const RowsOutputs& outputs, char* out) const noexcept;

 private:
  struct Bounds {
    std::size_t bytes_max = 0;
    // Of a row of no length, and what each element of its length adds.
    std::size_t fixed_bytes = 0;
    std::size_t item_bytes = 0;

    void add_text(std::size_t bytes) noexcept {
      bytes_max += bytes;
      fixed_bytes += bytes;
    }
    void add_value(std::uint64_t bytes, std::uint64_t bytes_of_item, std::uint64_t items) noexcept {
      fixed_bytes += bytes - bytes_of_item * items;
      if (items != 0) item_bytes += bytes_of_item;
    }
  };

  [[nodiscard]] const Bounds& bounds_of(Encoding encoding) const noexcept {
    return bounds_[static_cast<std::size_t>(encoding)];
  }
  [[nodiscard]] Bounds& bounds_of(Encoding encoding) noexcept { return bounds_[static_cast<std::size_t>(encoding)]; }
  void add_bounds(const TensorSpec& output, std::size_t json_bytes, std::size_t msgpack_bytes);
  template <Encoding E>
  [[nodiscard]] char* write_row(const RowsOutputs& outputs, std::uint32_t row, char* out) const noexcept;

  const ModelSchema* schema_ = nullptr;
  bool has_texts_ = false;
  // Everything of a reply that does not depend on the values, rendered once: what stands before each output's value.
  std::vector<std::string> json_prefix_;
  std::vector<std::string> msgpack_prefix_;
  // Where a row's outputs begin in the first of each: with the opening of their object.
  std::size_t json_row_at_ = 0;
  std::size_t msgpack_row_at_ = 0;
  std::array<Bounds, 3> bounds_{};  // by Encoding
};

}  // namespace penstock::dataplane
