// SHA-256 (FIPS 180-4), for keys of a few dozen bytes: a library for this one function would be a dependency of every
// wheel.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace penstock::dataplane {

using Sha256 = std::array<std::uint8_t, 32>;

[[nodiscard]] Sha256 sha256(std::string_view text) noexcept;

}  // namespace penstock::dataplane
