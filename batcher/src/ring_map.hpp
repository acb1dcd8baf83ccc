// A mapped region and the typed places in it. Keeps its own copy of the plan: the header is not read again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "ring_layout.hpp"
#include "shared_region.hpp"

namespace penstock::batcher {

class RingMap {
 public:
  RingMap(SharedRegion region, RingPlan plan) : region_(std::move(region)), plan_(std::move(plan)) {}

  [[nodiscard]] const RingPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] int fd() const noexcept { return region_.fd(); }
  [[nodiscard]] std::span<std::byte> region() const noexcept { return {region_.data(), region_.bytes()}; }

  [[nodiscard]] RingHeader& header() const noexcept { return *at<RingHeader>(0); }
  [[nodiscard]] HintBitmap& done(std::uint32_t loop) const noexcept { return at<HintBitmap>(plan_.done_offset)[loop]; }
  [[nodiscard]] BufferControl& control(std::uint32_t buffer) const noexcept {
    return at<BufferControl>(plan_.control_offset)[buffer];
  }
  [[nodiscard]] const LanePlan& lane_of(std::uint32_t buffer) const noexcept {
    return plan_.lanes[plan_.lane_of[buffer]];
  }
  // Rows of all lanes are numbered through.
  [[nodiscard]] std::uint32_t row_index(std::uint32_t buffer, std::uint32_t row) const noexcept {
    return plan_.first_row[buffer] + row;
  }
  [[nodiscard]] RowMeta& meta(std::uint32_t row_index) const noexcept {
    return at<RowMeta>(plan_.meta_offset)[row_index];
  }
  [[nodiscard]] Completion& completion(std::uint32_t row_index) const noexcept {
    return at<Completion>(plan_.completion_offset)[row_index];
  }
  [[nodiscard]] std::byte* input(const LanePlan& lane, std::uint32_t row_index, std::size_t index) const noexcept {
    return at<std::byte>(lane.input_offsets[index]) +
           (row_index - lane.first_row) * lane.schema.inputs.tensor_bytes(index);
  }
  [[nodiscard]] std::byte* output(const LanePlan& lane, std::uint32_t row_index, std::size_t index) const noexcept {
    return at<std::byte>(lane.output_offsets[index]) +
           (row_index - lane.first_row) * lane.schema.outputs.tensor_bytes(index);
  }
  [[nodiscard]] std::byte* slot(std::uint32_t slot) const noexcept { return at<std::byte>(slot_offset(slot)); }
  [[nodiscard]] std::uint64_t slot_offset(std::uint32_t slot) const noexcept {
    return plan_.arena_offset + slot * plan_.slot_stride;
  }

 private:
  template <typename Type>
  [[nodiscard]] Type* at(std::uint64_t offset) const noexcept {
    return reinterpret_cast<Type*>(region_.data() + offset);
  }
  SharedRegion region_;
  RingPlan plan_;
};

}  // namespace penstock::batcher
