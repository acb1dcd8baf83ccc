// Images: the reference lane.
#include <algorithm>
#include <cstring>

#include "images_lanes.hpp"

namespace penstock::scalar {

void normalize(const std::uint8_t* from, std::size_t pixels, std::uint32_t channels, const float* scale,
               const float* offset, bool planes, float* to) noexcept {
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::uint32_t channel = 0; channel < channels; ++channel) {
      const float value = static_cast<float>(from[pixel * channels + channel]) * scale[channel] + offset[channel];
      std::memcpy(to + (planes ? channel * pixels + pixel : pixel * channels + channel), &value, sizeof value);
    }
  }
}

void blend(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, std::size_t count,
           std::size_t bytes, std::uint8_t* to) noexcept {
  for (std::size_t i = 0; i < bytes; ++i) {
    std::int32_t sum = 1 << (kWeightBits - 1);
    for (std::size_t row = 0; row < count; ++row) sum += rows[row * stride + i] * weights[row];
    to[i] = static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
  }
}

}  // namespace penstock::scalar
