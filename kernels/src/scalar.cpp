// The reference lane.
#include <cstring>

#include "lanes.hpp"
#include "penstock/kernels/half.hpp"

namespace penstock::scalar {

void widen(const std::byte* halves, std::size_t count, float* floats) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    Half half;
    std::memcpy(&half, halves + i * sizeof(Half), sizeof(Half));
    const float value = to_float(half);
    std::memcpy(floats + i, &value, sizeof(value));
  }
}

}  // namespace penstock::scalar
