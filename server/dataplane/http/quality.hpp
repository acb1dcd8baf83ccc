// Quality values of Accept and Accept-Encoding (RFC 9110 12.4.2).
#pragma once

#include <cstddef>
#include <string_view>

#include "http/ascii.hpp"

namespace penstock::dataplane {

// Thousandths; -1 when it does not parse. ".2" is no qvalue, but old clients send it.
[[nodiscard]] constexpr int parse_quality(std::string_view text) noexcept {
  if (text.size() > 5 || text.empty()) return -1;
  const std::size_t point = text.find('.');
  const std::string_view whole = text.substr(0, point);
  const std::string_view fraction = point == std::string_view::npos ? std::string_view{} : text.substr(point + 1);
  if (whole.size() > 1 || fraction.size() > 3 || (whole.empty() && fraction.empty())) return -1;
  if (!all_in(whole, kDigit) || !all_in(fraction, kDigit)) return -1;
  int quality = whole.empty() ? 0 : (whole[0] - '0') * 1000;
  int weight = 100;
  for (const char digit : fraction) {
    quality += (digit - '0') * weight;
    weight /= 10;
  }
  return quality <= 1000 ? quality : -1;
}

}  // namespace penstock::dataplane
