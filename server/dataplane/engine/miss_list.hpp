// Which models were asked for that are to be loaded when they are. Written on the way to a refusal, so a lock is fine.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace penstock::dataplane {

// Any thread.
class MissList {
 public:
  using Name = std::pair<std::string, std::string>;  // model, version

  MissList() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  }
  ~MissList() { ::close(fd_); }
  MissList(const MissList&) = delete;
  MissList& operator=(const MissList&) = delete;

  // Readable since the first note() after take().
  [[nodiscard]] int fd() const noexcept { return fd_; }

  void note(std::string_view model, std::string_view version) noexcept {
    try {
      const std::lock_guard lock(mutex_);
      const auto is_same = [&](const Name& name) { return name.first == model && name.second == version; };
      if (std::ranges::any_of(names_, is_same)) return;
      names_.emplace_back(model, version);
    } catch (const std::exception&) {
      return;  // no memory: the client asks again
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof one);  // full means: readable already
  }

  [[nodiscard]] std::vector<Name> take() {
    const std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t read = ::read(fd_, &count, sizeof count);
    return std::exchange(names_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Name> names_;  // at most one for each lazy route
  const int fd_;
};

}  // namespace penstock::dataplane
