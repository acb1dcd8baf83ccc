// What is wrong with the fields of a record, all of it at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::dataplane {

// Of one row. Fixed size; what does not fit is counted.
class FieldFaults {
 public:
  static constexpr std::size_t kFaultsMax = 32;
  static constexpr std::size_t kTextBytes = 4096;

  struct Fault {
    std::string_view field;   // its path with dots
    std::string_view rule;    // the keyword of JSON Schema that it breaks
    std::string_view detail;  // what was expected and what came
  };

  // `rule` must be a literal.
  void add(std::string_view field, std::string_view rule, std::string_view detail) noexcept;

  // One that is counted and not kept: whoever finds thousands need not say what they are.
  void add_untold() noexcept { ++more_; }
  [[nodiscard]] bool is_full() const noexcept { return count_ == kFaultsMax || more_ != 0; }

  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] std::uint32_t more() const noexcept { return more_; }  // that are not kept
  [[nodiscard]] Fault operator[](std::size_t i) const noexcept;
  // "age: missing; sex: expected one of ...; and 3 more": at most `room` bytes, into `out`. How many were written.
  [[nodiscard]] std::size_t write_summary(char* out, std::size_t room) const noexcept;

  // Upper bound of what write_json() writes.
  [[nodiscard]] std::size_t json_bytes_max() const noexcept { return 2 + count_ * 64 + 6 * used_; }
  // [{"field": ..., "rule": ..., "detail": ...}, ...], of which those that fit into `room` bytes (2 at least); the end
  // of it.
  [[nodiscard]] char* write_json(char* out, std::size_t room) const noexcept;

 private:
  struct Place {
    std::uint16_t field_at = 0;
    std::uint16_t field_bytes = 0;
    std::uint16_t detail_at = 0;
    std::uint16_t detail_bytes = 0;
    std::string_view rule;
  };
  std::array<Place, kFaultsMax> places_;
  std::array<char, kTextBytes> text_;
  std::size_t used_ = 0;
  std::size_t count_ = 0;
  std::uint32_t more_ = 0;
};

}  // namespace penstock::dataplane
