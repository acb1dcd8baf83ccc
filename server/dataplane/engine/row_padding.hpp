// Rows of fewer elements than their length bucket has: the rest is zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "penstock/batcher/batch_ring.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::dataplane {

// One tensor of a row of `length` elements, behind which its room in the bucket's `tensor` is zero. One that does not
// vary is copied. The places may overlap.
void copy_padded(const TensorSpec& tensor, std::uint32_t length, const std::byte* from, std::byte* to) noexcept;

// Copies a row of `length` elements, packed with room for the longest, into a claimed row of a lane.
void copy_padded_row(const batcher::BatchRing& ring, const batcher::Claim& claim, std::uint32_t lane,
                     std::uint32_t length, const std::byte* row) noexcept;

// Packs a row of `length` elements anew where it lies: from the room for the longest, `longest`, to that of its bucket.
void pad_slot(const RowLayout& longest, const RowLayout& bucket, std::uint32_t length, std::byte* row) noexcept;

}  // namespace penstock::dataplane
