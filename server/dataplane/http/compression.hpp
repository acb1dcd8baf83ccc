// Compresses and decompresses whole bodies. An object belongs to one thread and keeps the libraries' contexts from one
// body to the next: making one costs more than a small body does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "http/content_coding.hpp"

namespace penstock::dataplane {

class Compressor {
 public:
  Compressor() noexcept;
  ~Compressor();
  Compressor(const Compressor&) = delete;
  Compressor& operator=(const Compressor&) = delete;

  // Bytes written to `out`; 0 when they are more than `bytes_max`, there is no memory, or the coding is not built.
  [[nodiscard]] std::size_t compress(Coding coding, std::string_view body, char* out, std::size_t bytes_max) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;  // made for the first body
};

class Decompressor {
 public:
  // kFull: there may be more; go on with decode() and more room. kCut: the input ends too early. kForeign: something
  // follows the end.
  enum class Status : std::uint8_t { kDone, kFull, kCut, kDamaged, kForeign, kWindowTooLarge, kNoMemory };
  struct Step {
    Status status;
    std::size_t consumed;
    std::size_t produced;
  };

  Decompressor() noexcept;
  ~Decompressor();
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  // Begins a body; what the one before left is forgotten. False: there is no memory, or the coding is not built.
  [[nodiscard]] bool start(Coding coding) noexcept;
  // Decodes as much of `in`, which is all that is left of the body, as `out` holds.
  [[nodiscard]] Step decode(std::string_view in, char* out, std::size_t bytes_max) noexcept;

 private:
  struct State;
  [[nodiscard]] Step decode_gzip(std::string_view in, char* out, std::size_t bytes_max) noexcept;
  [[nodiscard]] Step decode_zstd(std::string_view in, char* out, std::size_t bytes_max) noexcept;

  Coding coding_ = Coding::kIdentity;
  std::unique_ptr<State> state_;
};

// What a body says it will be when decompressed; 0 when it does not say. It may lie.
[[nodiscard]] std::uint64_t announced_bytes(Coding coding, std::string_view body) noexcept;

}  // namespace penstock::dataplane
