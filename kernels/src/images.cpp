// Resizing: the weights of its two passes, and the passes.
#include "penstock/kernels/images.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numbers>
#include <stdexcept>

#include "images_lanes.hpp"

namespace penstock {
namespace {

constexpr std::array<std::string_view, kFilters> kFilterNames{"nearest", "box", "bilinear", "bicubic", "lanczos"};

[[nodiscard]] double support_of(Filter filter) noexcept {
  constexpr std::array<double, kFilters> kSupports{0.0, 0.5, 1.0, 2.0, 3.0};
  return kSupports[static_cast<std::size_t>(filter)];
}

[[nodiscard]] double sinc(double x) noexcept {
  if (x == 0) return 1.0;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

// Keys (1981) with a = -1/2.
[[nodiscard]] double bicubic(double x) noexcept {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

[[nodiscard]] double weight_at(Filter filter, double x) noexcept {
  switch (filter) {
    case Filter::kBox:
      return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case Filter::kBilinear:
      return std::max(0.0, 1.0 - std::abs(x));
    case Filter::kBicubic:
      return bicubic(x);
    case Filter::kLanczos:
      return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
    case Filter::kNearest:
      break;
  }
  return 0.0;
}

[[nodiscard]] std::int32_t fixed(double weight) noexcept {
  return static_cast<std::int32_t>(weight * (1 << kWeightBits) + (weight < 0 ? -0.5 : 0.5));
}

void check(ImageSize size) {
  if (size.height == 0 || size.width == 0 || size.height > Resizer::kExtentMax || size.width > Resizer::kExtentMax) {
    throw std::invalid_argument("an image has between 1 and 32768 pixels either way");
  }
}

void blend(Lane lane, const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, std::size_t count,
           std::size_t bytes, std::uint8_t* to) noexcept {
#if PENSTOCK_LANE_AVX2
  if (lane != Lane::kScalar) return avx2::blend(rows, stride, weights, count, bytes, to);
#endif
  static_cast<void>(lane);
  scalar::blend(rows, stride, weights, count, bytes, to);
}

}  // namespace

std::string_view name_of(Filter filter) noexcept { return kFilterNames[static_cast<std::size_t>(filter)]; }

std::optional<Filter> filter_from_name(std::string_view name) noexcept {
  const auto* const found = std::ranges::find(kFilterNames, name);
  if (found == kFilterNames.end()) return std::nullopt;
  return static_cast<Filter>(found - kFilterNames.begin());
}

Resizer::Resizer(ImageSize from, ImageSize to, std::uint32_t channels, Filter filter, const ImageBox& box)
    : from_(from), to_(to), channels_(channels), filter_(filter) {
  check(from);
  check(to);
  if (channels < 1 || channels > 4) throw std::invalid_argument("an image has 1 to 4 channels");
  const bool inside = box.left >= 0 && box.top >= 0 && box.right <= from.width && box.bottom <= from.height;
  if (!inside || !(box.left < box.right) || !(box.top < box.bottom)) {
    throw std::invalid_argument("the box is empty, or not inside the image");
  }
  horizontal_ = axis_of(from.width, to.width, box.left, box.right, filter);
  vertical_ = axis_of(from.height, to.height, box.top, box.bottom, filter);
  first_row_ = vertical_.taps.front().first;
  last_row_ = first_row_;
  for (const Taps& taps : vertical_.taps) last_row_ = std::max(last_row_, taps.first + taps.count);
  if (filter != Filter::kNearest) {
    narrowed_.resize(std::size_t{last_row_ - first_row_} * to.width * channels);
  }
}

Resizer::Axis Resizer::axis_of(std::uint32_t from, std::uint32_t to, double first, double last, Filter filter) {
  if (filter == Filter::kNearest) return nearest(from, to, first, last);
  Axis axis;
  const double scale = (last - first) / to;
  // Enlarging looks at no less than the filter's own width.
  const double width = std::max(scale, 1.0);
  const double support = support_of(filter) * width;
  std::vector<double> weights;
  for (std::uint32_t place = 0; place < to; ++place) {
    const double center = first + (place + 0.5) * scale;
    const auto begin = static_cast<std::uint32_t>(std::max(center - support + 0.5, 0.0));
    const auto end = static_cast<std::uint32_t>(std::min(center + support + 0.5, static_cast<double>(from)));
    weights.clear();
    double sum = 0;
    for (std::uint32_t x = begin; x < end; ++x) {
      weights.push_back(weight_at(filter, (x - center + 0.5) * (1.0 / width)));
      sum += weights.back();
    }
    axis.taps.push_back({.first = begin, .count = end - begin, .at = static_cast<std::uint32_t>(axis.weights.size())});
    for (const double weight : weights) axis.weights.push_back(fixed(sum != 0 ? weight / sum : weight));
  }
  return axis;
}

Resizer::Axis Resizer::nearest(std::uint32_t from, std::uint32_t to, double first, double last) {
  Axis axis;
  const double scale = (last - first) / to;
  // Added up as Pillow does: where a sum falls between two pixels, its rounding decides.
  double at = first + scale * 0.5;
  for (std::uint32_t place = 0; place < to; ++place, at += scale) {
    axis.taps.push_back({.first = std::min(static_cast<std::uint32_t>(at), from - 1), .count = 1, .at = 0});
  }
  return axis;
}

void Resizer::run(Lane lane, const std::uint8_t* pixels, std::uint8_t* to) {
  if (filter_ == Filter::kNearest) {
    pick(pixels, to);
    return;
  }
  along_rows(pixels, narrowed_.data());
  along_columns(lane, narrowed_.data(), to);
}

void Resizer::pick(const std::uint8_t* pixels, std::uint8_t* to) const noexcept {
  for (const Taps& row : vertical_.taps) {
    const std::uint8_t* const line = pixels + std::size_t{row.first} * from_.width * channels_;
    for (const Taps& column : horizontal_.taps) {
      std::memcpy(to, line + std::size_t{column.first} * channels_, channels_);
      to += channels_;
    }
  }
}

void Resizer::along_rows(const std::uint8_t* pixels, std::uint8_t* to) const noexcept {
  for (std::uint32_t row = first_row_; row < last_row_; ++row) {
    const std::uint8_t* const line = pixels + std::size_t{row} * from_.width * channels_;
    for (const Taps& taps : horizontal_.taps) {
      const std::uint8_t* const first = line + std::size_t{taps.first} * channels_;
      const std::int32_t* const weights = horizontal_.weights.data() + taps.at;
      std::array<std::int32_t, 4> sums;
      sums.fill(1 << (kWeightBits - 1));
      for (std::uint32_t x = 0; x < taps.count; ++x) {
        for (std::uint32_t channel = 0; channel < channels_; ++channel) {
          sums[channel] += first[x * channels_ + channel] * weights[x];
        }
      }
      for (std::uint32_t channel = 0; channel < channels_; ++channel) {
        *to++ = static_cast<std::uint8_t>(std::clamp(sums[channel] >> kWeightBits, 0, 255));
      }
    }
  }
}

void Resizer::along_columns(Lane lane, const std::uint8_t* pixels, std::uint8_t* to) noexcept {
  const std::size_t stride = std::size_t{to_.width} * channels_;
  for (const Taps& taps : vertical_.taps) {
    blend(lane, pixels + (taps.first - first_row_) * stride, stride, vertical_.weights.data() + taps.at, taps.count,
          stride, to);
    to += stride;
  }
}

void normalize(Lane lane, const std::uint8_t* from, std::size_t pixels, std::uint32_t channels, const float* scale,
               const float* offset, bool planes, float* to) noexcept {
#if PENSTOCK_LANE_AVX2
  if (lane != Lane::kScalar && channels == 3 && planes) return avx2::normalize_rgb(from, pixels, scale, offset, to);
#endif
  static_cast<void>(lane);
  scalar::normalize(from, pixels, channels, scale, offset, planes, to);
}

}  // namespace penstock
