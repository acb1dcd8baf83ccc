// One output tensor as the value of a reply: nested arrays of a row's shape.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/codec.hpp"

namespace penstock::dataplane {

// Upper bound of what the writers below write, saturated at 2^62.
[[nodiscard]] std::uint64_t json_value_bytes_max(const TensorSpec& spec) noexcept;
[[nodiscard]] std::uint64_t msgpack_value_bytes_max(const TensorSpec& spec) noexcept;

// Write the tensor at `data` (which may be shared with a worker: every element is read once) and return the end. One
// that varies has its first `length` elements written.
[[nodiscard]] char* write_json_value(const TensorSpec& spec, const std::byte* data, std::uint32_t length,
                                     char* out) noexcept;
[[nodiscard]] char* write_msgpack_value(const TensorSpec& spec, const std::byte* data, std::uint32_t length,
                                        char* out) noexcept;

// Of a tensor of strings: whether each can be read, and with `utf8` whether each is UTF-8. False: `problem` is set
// (kModelError). The writers above write nothing that is worse for a tensor that was not checked.
[[nodiscard]] bool check_texts(const TensorSpec& spec, const std::byte* data, std::uint32_t length, bool utf8,
                               Problem& problem) noexcept;

// The same for `elements` elements in a row, with commas between and no brackets.
[[nodiscard]] char* write_json_elements(const TensorSpec& spec, const std::byte* data, std::uint64_t elements,
                                        char* out) noexcept;

}  // namespace penstock::dataplane
