// Text as a JSON string (RFC 8259 7).
#pragma once

#include <string_view>

namespace penstock::dataplane {

// Writes `text` in quotes, at most 6 * text.size() + 2 bytes, and returns one past the last. Bytes that are not UTF-8
// become U+FFFD, one each, so that what a client sent can be quoted in a reply.
char* write_json_string(char* out, std::string_view text) noexcept;

}  // namespace penstock::dataplane
