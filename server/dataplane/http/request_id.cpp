#include "http/request_id.hpp"

#include <sys/random.h>

#include <bit>
#include <cerrno>
#include <system_error>

namespace penstock::dataplane {

bool valid_request_id(std::string_view text) noexcept {
  if (text.empty() || text.size() > kRequestIdBytesKept) return false;
  for (const char c : text) {
    if (c <= ' ' || c > '~' || c == '"' || c == '\\') return false;
  }
  return true;
}

RequestIdSource::RequestIdSource() {
  // An all-zero state would stay so.
  while ((state_[0] | state_[1]) == 0) {
    const ssize_t bytes = ::getrandom(state_.data(), sizeof(state_), 0);
    if (bytes < 0 && errno != EINTR) throw std::system_error(errno, std::generic_category(), "getrandom");
  }
}

// xoroshiro128++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021).
std::uint64_t RequestIdSource::next() noexcept {
  const std::uint64_t a = state_[0];
  const std::uint64_t b = state_[1] ^ a;
  const std::uint64_t result = std::rotl(a + state_[1], 17) + a;
  state_[0] = std::rotl(a, 49) ^ b ^ (b << 21);
  state_[1] = std::rotl(b, 28);
  return result;
}

std::size_t RequestIdSource::write(char* out) noexcept {
  constexpr char kDigits[] = "0123456789abcdef";
  for (int half = 0; half < 2; ++half) {
    std::uint64_t bits = next();
    for (int i = 0; i < 16; ++i) {
      *out++ = kDigits[bits >> 60];
      bits <<= 4;
    }
  }
  return kBytes;
}

}  // namespace penstock::dataplane
