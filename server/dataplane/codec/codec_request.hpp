// What a structured request says about itself, whatever its encoding: names, members, and where a tensor is in it.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "codec/codec.hpp"
#include "codec/codec_record_row.hpp"
#include "codec/codec_rows.hpp"

namespace penstock::dataplane {

// A string with escapes is decoded into this much; no name of a model or a tensor needs more.
inline constexpr std::size_t kEscapedNameBytesMax = 256;
inline constexpr std::size_t kNestingMax = 64;

enum class Member : std::uint8_t { kModel, kVersion, kInputs, kEntities, kUnknown };

[[nodiscard]] Member member_from_name(std::string_view name) noexcept;

// At most 64 bytes of a name for a message, cut between characters.
[[nodiscard]] std::string_view clip(std::string_view name) noexcept;

// Collects the names of a request, resolves them once, and counts off the inputs.
class RowRequest {
 public:
  RowRequest(const QueryNames& names, RowResolver& resolver, Problem& problem) noexcept
      : model_(names.model), version_(names.version), resolver_(resolver), problem_(problem) {}

  // A member of the body begins. False: it came before (kMalformedBody), or is none of ours (kInvalidInput).
  [[nodiscard]] bool begin_member(Member member, std::string_view name) noexcept;
  // `name` stays valid as long as this object. False: empty, or another than the query's.
  [[nodiscard]] bool set_name(Member member, std::string_view name) noexcept;
  [[nodiscard]] bool has(Member member) const noexcept { return (members_ & bit(member)) != 0; }
  // Whatever may still come, it cannot change the names.
  [[nodiscard]] bool names_settled() const noexcept { return !model_.empty() && !version_.empty(); }

  // Asks the resolver. False: it refused, and said why.
  [[nodiscard]] bool resolve();
  [[nodiscard]] bool resolved() const noexcept { return target_.schema != nullptr; }

  // Below: only after resolve().
  [[nodiscard]] const RowLayout& inputs() const noexcept { return target_.schema->inputs; }
  [[nodiscard]] const RecordPlan* record() const noexcept { return resolver_.record(); }
  // Where the tensors of the row go that is read now.
  [[nodiscard]] RecordPlace record_place() const noexcept { return {&inputs(), target_.row, rows_, row_, &resolver_}; }
  [[nodiscard]] std::byte* input(std::size_t index) const noexcept {
    if (rows_ != nullptr) [[unlikely]]
      return rows_->place(index, row_);
    return target_.row + inputs().offset(index);
  }
  // A body of many rows has so many. False: they are not taken.
  [[nodiscard]] bool begin_rows(RowsSink& rows, std::uint64_t count);
  // What is read now belongs to row `row`.
  void begin_row(std::uint32_t row) noexcept;
  // Row `row` was read, or was not and is refused. False: the body cannot be read any further.
  [[nodiscard]] bool end_row(std::uint32_t row, bool read);
  // The index of the input called `name`. Nothing: there is none, or it came before.
  [[nodiscard]] std::optional<std::size_t> begin_input(std::string_view name) noexcept;
  // An input that varies was read and has this length. False: an input before it had another one.
  [[nodiscard]] bool agree_on_length(std::size_t index, bool named, std::uint32_t length) noexcept;
  // False: an input is missing.
  [[nodiscard]] bool end_inputs() noexcept;
  // False: `inputs` came without names, and the model does not have one input.
  [[nodiscard]] bool allow_unnamed(const char* got) noexcept;
  [[nodiscard]] bool refuse_missing_inputs() noexcept;

 private:
  static constexpr std::uint8_t bit(Member member) noexcept {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(member));
  }

  std::string_view model_;
  std::string_view version_;
  RowResolver& resolver_;
  Problem& problem_;
  RowTarget target_{};
  RowsSink* rows_ = nullptr;  // of a body of many rows
  std::uint32_t row_ = 0;     // of them
  std::uint8_t members_ = 0;
  std::size_t next_input_ = 0;  // names mostly come in the schema's order
  std::size_t inputs_seen_ = 0;
  std::bitset<kTensorsMax> seen_;
};

// Where a reader stands inside `inputs`; used by messages only.
struct TensorPlace {
  const TensorSpec& spec;
  bool named = false;  // whether the client wrote the input's name
  std::array<std::uint32_t, kRankMax> index{};
};

// "inputs.x[3]: expected 4 values, got 5 (float32 of shape [8, 4])", for the element or array at the first `depth`
// indices.
void refuse_tensor(Problem& problem, const TensorPlace& place, std::size_t depth, std::string_view expected,
                   std::string_view got) noexcept;
void refuse_count(Problem& problem, const TensorPlace& place, std::size_t depth, std::uint64_t got) noexcept;

// How many elements a tensor that varies may have.
[[nodiscard]] inline bool is_length(const TensorSpec& spec, std::uint64_t count) noexcept {
  return spec.varies && count >= 1 && count <= spec.shape.front();
}

// How many elements of a tensor that varies are so many bytes.
[[nodiscard]] inline std::uint64_t elements_in(const TensorSpec& spec, std::uint64_t bytes) noexcept {
  const std::uint64_t element_bytes = spec.bytes() / spec.shape.front();
  return element_bytes == 0 ? 0 : bytes / element_bytes;
}

// Many rows of a model of one input as their bytes, side by side: checks them, and refers `rows` to them.
[[nodiscard]] bool refer_raw_rows(std::string_view bytes, const RowLayout& inputs, RowsSink& rows, Problem& problem);

// Checks bytes that are a whole tensor: their number, and that each bool is 0 or 1.
[[nodiscard]] bool check_tensor(Problem& problem, const TensorPlace& place, std::string_view bytes) noexcept;
// The same, and copies them into `out`.
[[nodiscard]] bool copy_tensor(Problem& problem, const TensorPlace& place, std::string_view bytes,
                               std::byte* out) noexcept;

}  // namespace penstock::dataplane
