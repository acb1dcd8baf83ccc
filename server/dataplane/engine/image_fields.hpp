// Images in bodies of JSON: {"base64": "..."} with a file in it and not a tensor.
#pragma once

#include <string_view>

#include "http/http_parser.hpp"

namespace penstock::dataplane {

// Whether a body of JSON has a field of base64 that begins as PNG, JPEG, WebP, BMP or GIF files do. A tensor may begin
// so, too: who decodes images looks at its length.
[[nodiscard]] bool holds_images(const RequestHead& head, std::string_view body) noexcept;

}  // namespace penstock::dataplane
