// From scattered rows to one contiguous batch.
#pragma once

#include <cstddef>
#include <span>

#include "penstock/kernels/half.hpp"
#include "penstock/kernels/lane.hpp"

namespace penstock {

// Copies rows of `row_bytes` bytes behind each other into `batch` (rows.size() * row_bytes bytes, overlapping no row).
// One lane only: the C library's memcpy is dispatched already.
void gather(std::span<const std::byte* const> rows, std::size_t row_bytes, std::byte* batch) noexcept;

// The same for rows of `row_elements` float16, widened to float32 on the way. Neither side needs to be aligned.
void gather_widened(Lane lane, std::span<const std::byte* const> rows, std::size_t row_elements, float* batch) noexcept;

// Widens `count` float16 values to float32. Exact; a signalling NaN becomes quiet.
void widen(Lane lane, const std::byte* halves, std::size_t count, float* floats) noexcept;

}  // namespace penstock
