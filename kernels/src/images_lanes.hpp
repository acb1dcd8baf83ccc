// What each lane provides for images. It includes nothing with inline functions: see avx2.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock {

// Weights of resizing are fixed-point numbers: 1 is 1 << kWeightBits.
inline constexpr int kWeightBits = 22;

}  // namespace penstock

namespace penstock::scalar {
void normalize(const std::uint8_t* from, std::size_t pixels, std::uint32_t channels, const float* scale,
               const float* offset, bool planes, float* to) noexcept;
// One row of `bytes` bytes out of `count` rows, `stride` bytes apart.
void blend(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, std::size_t count,
           std::size_t bytes, std::uint8_t* to) noexcept;
}  // namespace penstock::scalar

namespace penstock::avx2 {
// Three channels into planes: what models take most.
void normalize_rgb(const std::uint8_t* from, std::size_t pixels, const float* scale, const float* offset,
                   float* to) noexcept;
void blend(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, std::size_t count,
           std::size_t bytes, std::uint8_t* to) noexcept;
}  // namespace penstock::avx2
