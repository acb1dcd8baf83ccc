// A control plane that a test plays itself: the private socket, and the calls that come in over it.
#pragma once

#include <sys/un.h>

#include "engine_fixture.hpp"

namespace penstock::test {

// The private socket, and what comes in over it.
class ControlPlane {
 public:
  ControlPlane()
      : path_("/tmp/penstock-control-" + std::to_string(::getpid())),
        fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    ::unlink(path_.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
    CHECK(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    CHECK(::listen(fd_, 4 * dataplane::kControlCallsMax) == 0);  // a call is refused when it is full
  }
  ~ControlPlane() { stop(); }
  ControlPlane(const ControlPlane&) = delete;
  ControlPlane& operator=(const ControlPlane&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  void stop() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    ::unlink(path_.c_str());
  }
  // The next call whose first `bytes` bytes begin with `start`. Others were given up by clients that have gone.
  [[nodiscard]] int accept(std::size_t bytes = 65536, std::string_view start = "") const {
    for (;;) {
      const int call = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      CHECK(call >= 0);
      std::string request(bytes, '\0');
      const ssize_t received = ::recv(call, request.data(), request.size(), 0);
      if (received > 0 && request.starts_with(start)) return call;
      CHECK(!start.empty());
      ::close(call);
    }
  }
  static void answer(int call, std::string_view bytes) {
    CHECK(::send(call, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
    ::close(call);
  }

 private:
  std::string path_;
  int fd_;
};

inline dataplane::EngineOptions options_for(const ControlPlane& plane) {
  dataplane::EngineOptions options;
  options.control_socket = plane.path();
  return options;
}

template <class Condition>
void await(Condition&& condition) {
  for (int i = 0; i < 10'000'000 && !condition(); ++i) std::this_thread::yield();
  CHECK(condition());
}

}  // namespace penstock::test
