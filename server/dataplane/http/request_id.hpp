// Request ids: which of a client's are honoured, and how one is made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::dataplane {

inline constexpr std::size_t kRequestIdBytesKept = 128;

// 1 to 128 visible ASCII characters, neither quote nor backslash: safe in a header, in JSON and in a log line.
[[nodiscard]] bool valid_request_id(std::string_view text) noexcept;

// Makes request ids: 128 bits, random enough to be unique across servers, not secret. One thread; a system call only at
// the start (std::system_error when the kernel gives no randomness).
class RequestIdSource {
 public:
  static constexpr std::size_t kBytes = 32;

  RequestIdSource();
  // Writes kBytes hexadecimal digits and returns kBytes.
  std::size_t write(char* out) noexcept;

  // 64 bits of the same kind.
  [[nodiscard]] std::uint64_t next() noexcept;

 private:
  std::array<std::uint64_t, 2> state_{};
};

}  // namespace penstock::dataplane
