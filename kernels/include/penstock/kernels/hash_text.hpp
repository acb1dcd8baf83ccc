// The hash of a string that becomes a number in a record.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock {

// MurmurHash3 (32 bits, seed 0) of the bytes: what scikit-learn hashes features with, and exact in a float64. Not for
// tables that clients can fill: they can make strings that collide.
[[nodiscard]] std::uint32_t hash_text(std::string_view text) noexcept;

}  // namespace penstock
