// What each lane provides. Every lane has its own file and compile flags; this header is all that they share.
#pragma once

#include <cstddef>

namespace penstock::scalar {
void widen(const std::byte* halves, std::size_t count, float* floats) noexcept;
}

namespace penstock::avx2 {
void widen(const std::byte* halves, std::size_t count, float* floats) noexcept;
}
