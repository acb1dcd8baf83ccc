// One tensor of a row, read from nested JSON arrays.
#pragma once

#include "codec/codec_json_text.hpp"

namespace penstock::dataplane {

// Reads the value at `text` (behind white space) into `out`, place.spec.bytes() bytes aligned for its elements. False:
// the problem of `text` is set, and `out` holds part of the value.
[[nodiscard]] bool read_json_tensor(JsonText& text, const TensorSpec& spec, bool named, std::byte* out) noexcept;

}  // namespace penstock::dataplane
