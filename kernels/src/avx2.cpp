// The AVX2 lane. Compiled with -mavx2 -mf16c and entered only after lane.cpp has asked the processor; it includes
// nothing with inline functions, because the linker may keep this file's copy of one for the whole program.
#include <immintrin.h>

#include "lanes.hpp"

namespace penstock::avx2 {

void widen(const std::byte* halves, std::size_t count, float* floats) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + i * 2));
    _mm256_storeu_ps(floats + i, _mm256_cvtph_ps(packed));
  }
  for (; i < count; ++i) {
    unsigned short bits = 0;
    __builtin_memcpy(&bits, halves + i * 2, sizeof(bits));
    const float value = _cvtsh_ss(bits);
    __builtin_memcpy(floats + i, &value, sizeof(value));
  }
}

}  // namespace penstock::avx2
