#include "engine/row_padding.hpp"

#include <cstring>

namespace penstock::dataplane {

void copy_padded(const TensorSpec& tensor, std::uint32_t length, const std::byte* from, std::byte* to) noexcept {
  const std::uint64_t room = tensor.bytes();
  const std::uint64_t bytes = tensor.varies ? tensor.bytes_of_length(length) : room;
  if (from != to) std::memmove(to, from, bytes);
  std::memset(to + bytes, 0, room - bytes);
}

void copy_padded_row(const batcher::BatchRing& ring, const batcher::Claim& claim, std::uint32_t lane,
                     std::uint32_t length, const std::byte* row) noexcept {
  const RowLayout& longest = ring.schema().inputs;
  const RowLayout& bucket = ring.lane_schema(lane).inputs;
  for (std::size_t i = 0; i < bucket.size(); ++i)
    copy_padded(bucket.tensors()[i], length, row + longest.offset(i), ring.input(claim, 0, i));
}

void pad_slot(const RowLayout& longest, const RowLayout& bucket, std::uint32_t length, std::byte* row) noexcept {
  // In this order no tensor is overwritten before it was moved: each moves towards the front or stays, and its room in
  // the bucket's layout ends before the next one begins in either.
  for (std::size_t i = 0; i < bucket.size(); ++i)
    copy_padded(bucket.tensors()[i], length, row + longest.offset(i), row + bucket.offset(i));
}

}  // namespace penstock::dataplane
