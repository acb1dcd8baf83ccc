// Content codings (RFC 9110 8.4): what a body is compressed with, and what a reply may be.
#pragma once

#include <cstdint>
#include <string_view>

#include "http/http_parser.hpp"

namespace penstock::dataplane {

enum class Coding : std::uint8_t { kIdentity, kGzip, kZstd, kUnknown };

// Whether this build has the library for it.
[[nodiscard]] constexpr bool is_built(Coding coding) noexcept {
#ifdef PENSTOCK_HAS_ZLIB
  if (coding == Coding::kGzip) return true;
#endif
#ifdef PENSTOCK_HAS_ZSTD
  if (coding == Coding::kZstd) return true;
#endif
  return coding == Coding::kIdentity;
}

[[nodiscard]] std::string_view name_of(Coding coding) noexcept;  // as in Content-Encoding
// What a body may come in, as a list for Accept-Encoding.
[[nodiscard]] std::string_view codings_taken() noexcept;

// Of a Content-Encoding; empty is kIdentity. kUnknown: one that this build does not take, or several on top of each
// other.
[[nodiscard]] Coding parse_content_encoding(std::string_view value) noexcept;

struct CodingChoice {
  Coding coding = Coding::kIdentity;
  bool identity_refused = false;  // "identity;q=0", or "*;q=0" without a word for identity
};

// What Accept-Encoding prefers of what this build has; of equals zstd, then gzip, and identity last unless its quality
// is higher. kIdentity without the field, and when nothing else remains, even if it was refused (RFC 9110 12.5.3).
// Elements that do not parse count for nothing. All such fields of the head together are one list.
[[nodiscard]] CodingChoice negotiate_coding(const RequestHead& head) noexcept;

}  // namespace penstock::dataplane
