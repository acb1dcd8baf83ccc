// One tensor of a row, read from nested msgpack arrays, or from a bin that is the tensor's bytes.
#pragma once

#include "codec/codec_msgpack_text.hpp"

namespace penstock::dataplane {

// Reads the object at `text` into `out`, spec.bytes() bytes aligned for its elements, and sets the length of one that
// varies. False: the problem of `text` is set, and `out` holds part of the value.
[[nodiscard]] bool read_msgpack_tensor(MsgpackText& text, const TensorSpec& spec, bool named, std::byte* out,
                                       std::uint32_t& length) noexcept;

}  // namespace penstock::dataplane
