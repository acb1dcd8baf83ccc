// Field lines of a head that is passed on.
#pragma once

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

}  // namespace penstock::dataplane
