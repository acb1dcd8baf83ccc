// Field lines of a head that was parsed: CRLF each.
#pragma once

#include <cstddef>
#include <string_view>

#include "http/ascii.hpp"

namespace penstock::dataplane {

// Calls visit(name, value, line) for every field line.
template <class Visit>
void for_each_field(std::string_view fields, Visit&& visit) {
  while (!fields.empty()) {
    const std::size_t end = fields.find("\r\n");
    const std::string_view line = fields.substr(0, end);
    fields.remove_prefix(end == std::string_view::npos ? fields.size() : end + 2);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    visit(line.substr(0, colon), trim_blanks(line.substr(colon + 1)), line);
  }
}

// The value of the first field of that name, in lower case; its data() is null when there is none. For names that few
// requests have: the others are members of RequestHead.
[[nodiscard]] inline std::string_view find_field(std::string_view fields, std::string_view lower) {
  std::string_view found;
  for_each_field(fields, [&](std::string_view name, std::string_view value, std::string_view) {
    if (found.data() == nullptr && name.size() == lower.size() && equals_ignoring_case(name, lower)) found = value;
  });
  return found;
}

}  // namespace penstock::dataplane
