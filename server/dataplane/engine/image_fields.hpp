// Images in bodies: {"base64": "..."} with a file in it and not a tensor, and fields of records that are pictures.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "http/http_parser.hpp"

namespace penstock::dataplane {

// Whether a body of JSON has a field of base64 that begins as PNG, JPEG, WebP, BMP or GIF files do, or a string in one
// of `pictures`; or a body of msgpack a string or such a file in one of them. A tensor may begin so, too: who decodes
// images looks at its length.
[[nodiscard]] bool holds_images(const RequestHead& head, std::string_view body,
                                const std::vector<std::string>& pictures) noexcept;

}  // namespace penstock::dataplane
