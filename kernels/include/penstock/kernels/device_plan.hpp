// What kernels of the CUDA lane know of a model for good: its program or its resizing, as constants in device memory,
// and the work of a launch that refers to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "penstock/kernels/device_work.hpp"
#include "penstock/kernels/images.hpp"
#include "penstock/kernels/steps.hpp"

namespace penstock::device {

// Constants begin at a multiple of this.
inline constexpr std::size_t kConstantsAlignment = 16;

// A program of feature steps.
class StepsPlan {
 public:
  // Throws std::invalid_argument for more sources or matrices than one launch has, and for more registers than a
  // block's shared memory holds.
  explicit StepsPlan(const Program& program);

  [[nodiscard]] std::span<const std::byte> constants() const noexcept { return constants_; }
  [[nodiscard]] std::size_t sources() const noexcept { return source_count_; }
  [[nodiscard]] std::size_t matrices() const noexcept { return matrices_.size(); }

  // `constants`: where they lie on the side that runs the work. As many sources and results as the program has.
  [[nodiscard]] StepsWork work(const std::byte* constants, BatchHead* head, std::span<const RowSource> sources,
                               std::span<std::byte* const> results, std::uint32_t rows_max) const noexcept;

 private:
  std::vector<std::byte> constants_;
  std::vector<MatrixOp> matrices_;
  std::size_t source_count_ = 0;
  std::uint32_t load_count_ = 0;
  std::uint32_t step_count_ = 0;
  std::uint32_t registers_ = 0;
  std::uint32_t tile_rows_ = 0;
  std::size_t steps_at_ = 0;
  std::size_t tables_at_ = 0;
  std::size_t cells_at_ = 0;
};

// What becomes of the pixels.
struct PixelFormat {
  PixelType type = PixelType::kFloat32;
  std::uint32_t channels = 3;
  bool planes = false;
  float scale[4] = {1, 1, 1, 1};
  float offset[4] = {0, 0, 0, 0};
};

// Images of one size on their way to another, or to the same.
class ImagePlan {
 public:
  // Throws as Resizer, and std::invalid_argument where not even a line of a tile fits a block's shared memory.
  ImagePlan(ImageSize from, ImageSize to, Filter filter, const ImageBox& box, const PixelFormat& format);
  ImagePlan(ImageSize size, const PixelFormat& format);

  [[nodiscard]] std::span<const std::byte> constants() const noexcept { return constants_; }
  [[nodiscard]] ImageWork work(const std::byte* constants, const BatchHead* head, const RowSource& images,
                               std::byte* to, std::uint32_t images_max) const noexcept;

 private:
  [[nodiscard]] bool fits_tile(const std::vector<Resizer::Taps>& rows, std::uint32_t height,
                               std::uint32_t width) const noexcept;

  ImageWork work_;  // but for what is asked for later
  std::vector<std::byte> constants_;
  std::size_t rows_at_ = 0;
  std::size_t weights_at_ = 0;
  bool resizes_ = false;
};

}  // namespace penstock::device
