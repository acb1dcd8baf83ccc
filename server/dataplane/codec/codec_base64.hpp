// Base64 (RFC 4648 4) inside a JSON string.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace penstock::dataplane {

// How many bytes `text` stands for: padding may be left out, and '/' and '+' may be written as escapes of JSON. Nothing
// when no base64 is so long; decode_base64() looks at the rest.
[[nodiscard]] std::optional<std::size_t> base64_bytes(std::string_view text) noexcept;

// Writes base64_bytes() bytes. False: it is no base64.
[[nodiscard]] bool decode_base64(std::string_view text, char* out) noexcept;

}  // namespace penstock::dataplane
