// Images: resized in 8 bits a channel, and turned into the floats that models take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "penstock/kernels/lane.hpp"

namespace penstock {

enum class Filter : std::uint8_t { kNearest, kBox, kBilinear, kBicubic, kLanczos };
inline constexpr std::size_t kFilters = 5;

[[nodiscard]] std::string_view name_of(Filter filter) noexcept;
[[nodiscard]] std::optional<Filter> filter_from_name(std::string_view name) noexcept;

// Rows of pixels of 1 to 4 channels side by side, nothing between rows.
struct ImageSize {
  std::uint32_t height = 0;
  std::uint32_t width = 0;
};

// The part of an image that a resized one shows, in pixels of the first; may begin inside a pixel.
struct ImageBox {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;
};

// Resizes images of one size, their width first. The filter is as wide as the pixels that become one, and each of the
// two passes computes what Pillow's does, to the bit: models were trained on that. Releases of Pillow from 13 on may
// take the height first, which changes pixels, in noise by up to 41 of 255. Made for one image, or kept for many; used
// by one thread.
class Resizer {
 public:
  // Throws std::invalid_argument for a size of 0 or over kExtentMax, other channels than 1 to 4, and a box that is
  // empty or outside.
  Resizer(ImageSize from, ImageSize to, std::uint32_t channels, Filter filter, const ImageBox& box);

  static constexpr std::uint32_t kExtentMax = 32'768;

  // What makes one pixel of a line: `count` pixels from `first` on, each with its weight.
  struct Taps {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    std::uint32_t at = 0;  // of its first weight
  };
  struct Axis {
    std::vector<Taps> taps;
    std::vector<std::int32_t> weights;
  };

  // What each column and each row of the result is made of; weights are absent where the nearest pixel is taken.
  [[nodiscard]] const Axis& horizontal() const noexcept { return horizontal_; }
  [[nodiscard]] const Axis& vertical() const noexcept { return vertical_; }

  // `pixels`: from.height * from.width * channels bytes; `to` has room for the other size.
  void run(Lane lane, const std::uint8_t* pixels, std::uint8_t* to);

 private:
  [[nodiscard]] static Axis axis_of(std::uint32_t from, std::uint32_t to, double first, double last, Filter filter);
  [[nodiscard]] static Axis nearest(std::uint32_t from, std::uint32_t to, double first, double last);
  void pick(const std::uint8_t* pixels, std::uint8_t* to) const noexcept;
  void along_rows(const std::uint8_t* pixels, std::uint8_t* to) const noexcept;
  void along_columns(Lane lane, const std::uint8_t* pixels, std::uint8_t* to) noexcept;

  ImageSize from_;
  ImageSize to_;
  std::uint32_t channels_;
  Filter filter_;
  Axis horizontal_;
  Axis vertical_;
  // Rows of the first image that the second needs.
  std::uint32_t first_row_ = 0;
  std::uint32_t last_row_ = 0;
  std::vector<std::uint8_t> narrowed_;  // those rows, as wide as the second image
};

// pixel * scale[channel] + offset[channel] for `pixels` pixels, as float32: channel by channel (planes of `pixels`
// floats each), or in the order that the pixels have. Neither side needs to be aligned; channels: 1 to 4.
void normalize(Lane lane, const std::uint8_t* from, std::size_t pixels, std::uint32_t channels, const float* scale,
               const float* offset, bool planes, float* to) noexcept;

}  // namespace penstock
