// The date of a reply, kept as text.
#pragma once

#include <array>
#include <ctime>
#include <string_view>

namespace penstock::dataplane {

// The text of a Date field (RFC 9110 5.6.7), formatted once a second rather than once a reply. One thread.
class DateCache {
 public:
  DateCache() noexcept;
  void refresh_date(std::time_t now) noexcept;
  [[nodiscard]] std::string_view view() const noexcept { return {text_.data(), text_.size()}; }

 private:
  std::time_t formatted_ = 0;
  std::array<char, 29> text_{};
};

}  // namespace penstock::dataplane
