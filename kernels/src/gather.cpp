#include "penstock/kernels/gather.hpp"

#include <cstring>

#include "lanes.hpp"

namespace penstock {

void gather(std::span<const std::byte* const> rows, std::size_t row_bytes, std::byte* batch) noexcept {
  if (row_bytes == 0) return;
  for (const std::byte* row : rows) {
    std::memcpy(batch, row, row_bytes);
    batch += row_bytes;
  }
}

void gather_widened(Lane lane, std::span<const std::byte* const> rows, std::size_t row_elements,
                    float* batch) noexcept {
  for (const std::byte* row : rows) {
    widen(lane, row, row_elements, batch);
    batch += row_elements;
  }
}

void widen(Lane lane, const std::byte* halves, std::size_t count, float* floats) noexcept {
#if PENSTOCK_LANE_AVX2
  if (lane != Lane::kScalar) {
    avx2::widen(halves, count, floats);
    return;
  }
#endif
  static_cast<void>(lane);
  scalar::widen(halves, count, floats);
}

}  // namespace penstock
