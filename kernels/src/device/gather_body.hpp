// Rows side by side: a copy of every unit, kLoadsAhead of them on the way at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "both.hpp"
#include "penstock/kernels/device_work.hpp"

namespace penstock::device {

struct alignas(16) Unit16 {
  std::uint32_t word[4];
};

template <typename Unit>
PENSTOCK_BOTH inline const Unit* unit_at(const GatherWork& work, std::uint32_t row, std::uint32_t unit) {
  return reinterpret_cast<const Unit*>(work.rows.base + work.rows.offsets[row]) + unit;
}

// Thread `thread` of a block of `threads` does every so many units of the block's part.
template <typename Unit>
PENSTOCK_BOTH inline void gather_units(const GatherWork& work, std::uint32_t block, std::uint32_t blocks,
                                       std::uint32_t thread, std::uint32_t threads) {
  const std::uint32_t rows = work.head->rows < work.rows_max ? work.head->rows : work.rows_max;
  const auto units = static_cast<std::uint32_t>(work.row_bytes / sizeof(Unit));
  const std::uint64_t total = std::uint64_t{rows} * units;
  const std::uint64_t stride = std::uint64_t{threads} * kLoadsAhead;
  auto* const to = reinterpret_cast<Unit*>(work.to);
  for (std::uint64_t first = block * stride; first < total; first += blocks * stride) {
    Unit loaded[kLoadsAhead] = {};
    PENSTOCK_UNROLL
    for (std::uint32_t k = 0; k < kLoadsAhead; ++k) {
      const std::uint64_t i = first + k * threads + thread;
      if (i < total) {
        const auto row = static_cast<std::uint32_t>(i / units);
        loaded[k] = *unit_at<Unit>(work, row, static_cast<std::uint32_t>(i % units));
      }
    }
    PENSTOCK_UNROLL
    for (std::uint32_t k = 0; k < kLoadsAhead; ++k) {
      const std::uint64_t i = first + k * threads + thread;
      if (i < total) to[i] = loaded[k];
    }
  }
}

PENSTOCK_BOTH inline void gather_body(const GatherWork& work, std::uint32_t block, std::uint32_t blocks,
                                      std::uint32_t thread, std::uint32_t threads) {
  if (work.unit == 16) return gather_units<Unit16>(work, block, blocks, thread, threads);
  if (work.unit == 4) return gather_units<std::uint32_t>(work, block, blocks, thread, threads);
  gather_units<std::uint8_t>(work, block, blocks, thread, threads);
}

}  // namespace penstock::device
