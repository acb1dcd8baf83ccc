// One tensor of a row, read from nested JSON arrays.
#pragma once

#include "codec/codec_json_text.hpp"

namespace penstock::dataplane {

// Reads the value at `text` (behind white space) into `out`, spec.bytes() bytes aligned for its elements, and sets the
// length of one that varies. False: the problem of `text` is set, and `out` holds part of the value.
[[nodiscard]] bool read_json_tensor(JsonText& text, const TensorSpec& spec, bool named, std::byte* out,
                                    std::uint32_t& length) noexcept;

}  // namespace penstock::dataplane
