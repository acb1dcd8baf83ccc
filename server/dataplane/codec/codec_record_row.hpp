// One row of a record while it is read, whatever the encoding: its slots, which fields came, and what is wrong.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string_view>

#include "codec/codec_rows.hpp"
#include "codec/record_plan.hpp"
#include "http/field_faults.hpp"
#include "penstock/kernels/hash_text.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::dataplane {

// Where the tensors of a row are: packed, or in the columns of many rows.
struct RecordPlace {
  const RowLayout* layout = nullptr;
  std::byte* row = nullptr;
  RowsSink* rows = nullptr;
  std::uint32_t index = 0;
  RowResolver* resolver = nullptr;

  [[nodiscard]] std::byte* tensor(std::size_t tensor) const noexcept {
    return rows != nullptr ? rows->place(tensor, index) : row + layout->offset(tensor);
  }
};

class RecordRow {
 public:
  RecordRow(const RecordPlan& plan, const RecordPlace& place) noexcept : plan_(plan), place_(place) {
    if (plan.slots() != 0) slots_ = place.tensor(0);
    std::memset(seen_.data(), 0, (plan.elements().size() + 63) / 64 * sizeof seen_[0]);
  }

  [[nodiscard]] const RecordPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] const RecordElement& element(std::uint32_t at) const noexcept { return plan_.elements()[at]; }
  [[nodiscard]] const TensorSpec& spec(const RecordElement& element) const noexcept {
    return place_.layout->tensors()[element.target];
  }
  [[nodiscard]] std::byte* tensor(const RecordElement& element) const noexcept { return place_.tensor(element.target); }

  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  // The member of element `object` that is called so; in the record itself, the field whose path that is, too. kNone:
  // there is none, which is a fault where no others are taken.
  [[nodiscard]] std::uint32_t find_member(std::uint32_t object, std::string_view name) noexcept;
  // The objects around a field that came by its path.
  void mark_above(std::uint32_t at) noexcept {
    for (at = element(at).parent; at != 0; at = element(at).parent) static_cast<void>(mark(at));
  }
  // The same of null: an object that may be absent is not there for that.
  void mark_above_null(std::uint32_t at) noexcept {
    if (!element(element(at).parent).may_miss) mark_above(at);
  }
  // The member came. False: for the second time.
  [[nodiscard]] bool mark(std::uint32_t at) noexcept {
    std::uint64_t& word = seen_[at / 64];
    const std::uint64_t bit = std::uint64_t{1} << (at % 64);
    if ((word & bit) != 0) return false;
    word |= bit;
    ++seen_count_;
    return true;
  }

  // Of an object that is none nothing further is said.
  [[gnu::cold]] void mark_members(const RecordElement& object) noexcept;

  void store(const RecordElement& element, double value) noexcept {
    std::memcpy(slots_ + std::size_t{element.target} * sizeof value, &value, sizeof value);
  }
  // Null, which is missing. False: it may not be null.
  [[nodiscard]] bool store_null(const RecordElement& element) noexcept {
    if (!element.nullable) return false;
    store(element, std::numeric_limits<double>::quiet_NaN());
    return true;
  }

  // The field has no value in a form that cannot leave it out of one row: null where it may be, else it did not come.
  void store_missing(std::uint32_t at) noexcept {
    if (!has_slot(element(at).kind) || !store_null(element(at))) return;
    static_cast<void>(mark(at));
    mark_above_null(at);
  }
  // A text or the bytes of an image. False: there is no room for them.
  [[nodiscard]] bool write_text(const RecordElement& element, std::string_view text) noexcept {
    TextWriter writer(spec(element), tensor(element));
    const bool fits = writer.append(0, text);
    writer.finish();
    return fits;
  }

  // What is stored, or the keyword that a value breaks; empty: none. The value is of the right type.
  [[nodiscard]] std::string_view take_number(const RecordElement& element, double value) noexcept {
    if (element.kind == RecordKind::kInteger && (value != std::trunc(value) || std::fabs(value) > kWholeMax))
      return value == std::trunc(value) ? "range" : "type";
    if (value >= element.low && value <= element.high) {
      store(element, value);
      return {};
    }
    if (value < element.low) return element.exclusive_minimum ? "exclusiveMinimum" : "minimum";
    return element.exclusive_maximum ? "exclusiveMaximum" : "maximum";
  }
  // A whole number from 2^53 on, as it is written: from there on two of them are one float64.
  [[nodiscard]] std::string_view take_large(const RecordElement& element, std::string_view digits) noexcept;
  [[nodiscard]] std::string_view take_number_category(const RecordElement& element, double value) noexcept;
  [[nodiscard]] std::string_view take_boolean(const RecordElement& element, bool value) noexcept;
  // Of a category, a date, a hashed string; or of anything where strings that spell a value are taken for it.
  [[nodiscard]] std::string_view take_text(const RecordElement& element, std::string_view text) noexcept;
  // A number, where the field may be something else that is written as one.
  [[nodiscard]] std::string_view take_other_number(const RecordElement& element, double value) noexcept;
  // After a text tensor was written.
  [[nodiscard]] std::string_view check_text(const RecordElement& element) const noexcept;

  // `got` is what came, as it stands there; empty: nothing did.
  [[gnu::cold]] void fault(std::string_view path, std::string_view rule, std::string_view expected,
                           std::string_view got) noexcept;
  [[gnu::cold]] void fault(const RecordElement& element, std::string_view rule, std::string_view got) noexcept;
  // Of the number that is to be a slot itself.
  [[gnu::cold]] void fault_slot(const RecordElement& element, std::string_view rule, std::string_view got) noexcept;
  // What the reader of its tensor says; of a picture's pixels, what else there may be.
  [[gnu::cold]] void fault_tensor(const RecordElement& element, std::string_view rule,
                                  std::string_view detail) noexcept;
  // More bytes than its tensor has room for.
  [[gnu::cold]] void fault_full(const RecordElement& element, std::string_view got) noexcept;
  [[gnu::cold]] void fault_unknown(const RecordElement& object, std::string_view name) noexcept;
  [[gnu::cold]] void fault_twice(const RecordElement& element) noexcept;
  [[nodiscard]] bool is_faulty() const noexcept { return is_faulty_; }

  // All members were read: fills in what did not come. False: `problem` is set to all that is wrong.
  [[nodiscard]] bool finish(Problem& problem) noexcept {
    if (seen_count_ + 1 != plan_.elements().size()) fill_absent();
    return !is_faulty_ || refuse(problem);
  }

 private:
  [[nodiscard]] bool is_seen(std::uint32_t at) const noexcept {
    return at == 0 || (seen_[at / 64] >> (at % 64) & 1) != 0;
  }
  [[nodiscard]] std::string_view take_spelt(const RecordElement& element, std::string_view text) noexcept;
  // There are so many faults already that one more is only counted, which it is then.
  [[nodiscard]] bool is_untold() noexcept {
    if (faults_ == nullptr || !faults_->is_full()) return false;
    faults_->add_untold();
    return true;
  }
  void fill_absent() noexcept;
  [[gnu::cold]] bool refuse(Problem& problem) noexcept;

  const RecordPlan& plan_;
  RecordPlace place_;
  std::byte* slots_ = nullptr;
  std::size_t seen_count_ = 0;
  bool is_faulty_ = false;
  std::shared_ptr<FieldFaults> faults_;                      // null where no memory is left for them
  std::array<std::uint64_t, kRecordElementsMax / 64> seen_;  // as far as there are elements
};

// At most so many bytes, cut between characters.
[[nodiscard]] std::string_view clip_text(std::string_view text, std::size_t bytes_max) noexcept;
// The same, of what came.
[[nodiscard]] inline std::string_view clip_value(std::string_view value) noexcept { return clip_text(value, 40); }

}  // namespace penstock::dataplane
