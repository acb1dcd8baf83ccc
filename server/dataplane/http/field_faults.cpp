#include "http/field_faults.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "http/json_text.hpp"

namespace penstock::dataplane {
namespace {

char* write_text(char* out, std::string_view text) noexcept {
  if (!text.empty()) std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

}  // namespace

void FieldFaults::add(std::string_view field, std::string_view rule, std::string_view detail) noexcept {
  if (is_full() || field.size() + detail.size() > kTextBytes - used_) {
    add_untold();
    return;
  }
  Place& place = places_[count_++];
  const auto keep = [this](std::string_view text, std::uint16_t& at, std::uint16_t& bytes) {
    at = static_cast<std::uint16_t>(used_);
    bytes = static_cast<std::uint16_t>(text.size());
    std::ranges::copy(text, text_.begin() + static_cast<std::ptrdiff_t>(used_));
    used_ += text.size();
  };
  keep(field, place.field_at, place.field_bytes);
  keep(detail, place.detail_at, place.detail_bytes);
  place.rule = rule;
}

FieldFaults::Fault FieldFaults::operator[](std::size_t i) const noexcept {
  const Place& place = places_[i];
  return {{text_.data() + place.field_at, place.field_bytes},
          place.rule,
          {text_.data() + place.detail_at, place.detail_bytes}};
}

std::size_t FieldFaults::write_summary(char* out, std::size_t room) const noexcept {
  constexpr std::size_t kMoreBytes = 24;
  std::size_t used = 0;
  std::uint32_t shown = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    const Fault fault = (*this)[i];
    const std::size_t bytes = fault.field.size() + fault.detail.size() + 4;
    if (used + bytes + kMoreBytes > room) break;
    char* at = out + used;
    if (i != 0) at = write_text(at, "; ");
    if (!fault.field.empty()) at = write_text(write_text(at, fault.field), ": ");
    at = write_text(at, fault.detail);
    used = static_cast<std::size_t>(at - out);
    ++shown;
  }
  const std::uint32_t left = static_cast<std::uint32_t>(count_) - shown + more_;
  if (left == 0 || room < kMoreBytes) return used;
  char* at = write_text(out + used, shown == 0 ? "" : "; and ");
  at = std::to_chars(at, at + 10, left).ptr;
  at = write_text(at, shown == 0 ? " faults" : " more");
  return static_cast<std::size_t>(at - out);
}

char* FieldFaults::write_json(char* out, std::size_t room) const noexcept {
  char* const end = out + room - 1;
  *out++ = '[';
  bool first = true;
  for (std::size_t i = 0; i < count_; ++i) {
    const Fault fault = (*this)[i];
    const std::size_t bytes = 64 + 6 * (fault.field.size() + fault.detail.size());
    if (static_cast<std::size_t>(end - out) < bytes) continue;
    if (!first) *out++ = ',';
    first = false;
    out = write_json_string(write_text(out, R"({"field":)"), fault.field);
    out = write_text(write_text(out, R"(,"rule":")"), fault.rule);
    out = write_json_string(write_text(out, R"(","detail":)"), fault.detail);
    *out++ = '}';
  }
  *out++ = ']';
  return out;
}

}  // namespace penstock::dataplane
