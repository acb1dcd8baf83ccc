// A mapping of a memfd: made and sealed by the main process, attached by workers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace penstock::batcher {

class SharedRegion {
 public:
  SharedRegion() = default;
  ~SharedRegion();
  SharedRegion(SharedRegion&& other) noexcept { swap(other); }
  SharedRegion& operator=(SharedRegion&& other) noexcept {
    swap(other);
    return *this;
  }
  SharedRegion(const SharedRegion&) = delete;
  SharedRegion& operator=(const SharedRegion&) = delete;

  // A new memfd of `bytes` zero bytes, sealed against any change of size. Throws std::system_error.
  static SharedRegion create(std::uint64_t bytes);
  // Maps the whole of `fd`, which the caller keeps. Throws std::system_error, and std::runtime_error when it could
  // shrink.
  static SharedRegion attach(int fd);

  [[nodiscard]] int fd() const noexcept { return fd_; }  // -1 when attached
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  void swap(SharedRegion& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  int fd_ = -1;
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

}  // namespace penstock::batcher
