// Images: the AVX2 lane. Compiled with -mavx2 and entered only after lane.cpp has asked.
#include <immintrin.h>

#include "images_lanes.hpp"

namespace penstock::avx2 {
namespace {

constexpr std::size_t kPixels = 16;  // 48 bytes in, a vector of bytes for each channel

// Which bytes of a vector of the 48 belong to a channel, and where they go; -1: none.
struct Shuffle {
  char places[3][16];
};

constexpr Shuffle shuffle_of(int channel) {
  Shuffle shuffle{};
  for (int part = 0; part < 3; ++part) {
    for (int pixel = 0; pixel < 16; ++pixel) {
      const int byte = pixel * 3 + channel - part * 16;
      shuffle.places[part][pixel] = static_cast<char>(byte >= 0 && byte < 16 ? byte : -1);
    }
  }
  return shuffle;
}

constexpr Shuffle kShuffles[3] = {shuffle_of(0), shuffle_of(1), shuffle_of(2)};

__m128i load(const void* from) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(from)); }

void store_eight(__m128i bytes, __m256 scale, __m256 offset, float* to) noexcept {
  const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
  _mm256_storeu_ps(to, _mm256_add_ps(_mm256_mul_ps(values, scale), offset));
}

}  // namespace

void normalize_rgb(const std::uint8_t* from, std::size_t pixels, const float* scale, const float* offset,
                   float* to) noexcept {
  std::size_t pixel = 0;
  for (; pixel + kPixels <= pixels; pixel += kPixels) {
    const __m128i parts[3] = {load(from + pixel * 3), load(from + pixel * 3 + 16), load(from + pixel * 3 + 32)};
    for (int channel = 0; channel < 3; ++channel) {
      const char (*places)[16] = kShuffles[channel].places;
      const __m128i bytes = _mm_or_si128(
          _mm_or_si128(_mm_shuffle_epi8(parts[0], load(places[0])), _mm_shuffle_epi8(parts[1], load(places[1]))),
          _mm_shuffle_epi8(parts[2], load(places[2])));
      const __m256 factor = _mm256_set1_ps(scale[channel]);
      const __m256 shift = _mm256_set1_ps(offset[channel]);
      float* const plane = to + static_cast<std::size_t>(channel) * pixels + pixel;
      store_eight(bytes, factor, shift, plane);
      store_eight(_mm_srli_si128(bytes, 8), factor, shift, plane + 8);
    }
  }
  for (; pixel < pixels; ++pixel) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const float value = static_cast<float>(from[pixel * 3 + channel]) * scale[channel] + offset[channel];
      __builtin_memcpy(to + channel * pixels + pixel, &value, sizeof value);
    }
  }
}

void blend(const std::uint8_t* rows, std::size_t stride, const std::int32_t* weights, std::size_t count,
           std::size_t bytes, std::uint8_t* to) noexcept {
  const __m256i half = _mm256_set1_epi32(1 << (kWeightBits - 1));
  std::size_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    __m256i low = half;
    __m256i high = half;
    for (std::size_t row = 0; row < count; ++row) {
      const __m128i pixels = load(rows + row * stride + i);
      const __m256i weight = _mm256_set1_epi32(weights[row]);
      low = _mm256_add_epi32(low, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(pixels), weight));
      high = _mm256_add_epi32(high, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(_mm_srli_si128(pixels, 8)), weight));
    }
    // Saturation clamps to 0 and 255; packing works in halves of the vector, which the permutation puts in order.
    const __m256i words = _mm256_packs_epi32(_mm256_srai_epi32(low, kWeightBits), _mm256_srai_epi32(high, kWeightBits));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0b11'01'10'00);
    const __m128i packed = _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), packed);
  }
  for (; i < bytes; ++i) {
    std::int32_t sum = 1 << (kWeightBits - 1);
    for (std::size_t row = 0; row < count; ++row) sum += rows[row * stride + i] * weights[row];
    const std::int32_t value = sum >> kWeightBits;
    to[i] = static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
  }
}

}  // namespace penstock::avx2
