// Which encoding a body has (Content-Type) and which one a reply should have (Accept). RFC 9110 8.3 and 12.5.1.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "codec/codec.hpp"
#include "http/http_parser.hpp"

namespace penstock::dataplane {

enum class MediaType : std::uint8_t { kJson, kMsgpack, kRaw, kAbsent, kOther };

// application/json (charset absent or utf-8), application/msgpack or its names vnd.msgpack and x-msgpack,
// application/octet-stream; in any case, other parameters are ignored. kAbsent: an empty value. kOther: anything else,
// also what does not parse.
[[nodiscard]] MediaType parse_content_type(std::string_view value) noexcept;

struct ReplyFormat {
  Encoding encoding = Encoding::kJson;
  std::string_view content_type = "application/json";  // the name that was asked for
};

// The format that Accept gives the highest quality; of equals the one it names most exactly, then JSON, msgpack,
// octet-stream. JSON without the field. Parameters other than q are ignored, elements that do not parse count for
// nothing. Nothing when no format is acceptable. All Accept fields of the head together are one list.
[[nodiscard]] std::optional<ReplyFormat> negotiate(const RequestHead& head) noexcept;

}  // namespace penstock::dataplane
