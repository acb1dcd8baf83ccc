// Strings in bodies: what the codecs say when a string does not fit, and the readers and writers of their storage.
#pragma once

#include <cstddef>
#include <string_view>

#include "codec/codec_request.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::dataplane {

// kInvalidInput: the strings of the tensor have no room for the one at the first `depth` indices of `place`.
void refuse_text(Problem& problem, const TensorPlace& place, std::size_t depth) noexcept;

// `text` as a JSON string, quotes included, and the end of it: 2 bytes and 6 for each of its own are enough. Bytes that
// are not UTF-8 become U+FFFD, one for each.
[[nodiscard]] char* write_json_text(std::string_view text, char* out) noexcept;

}  // namespace penstock::dataplane
