// A server of sockets, whose connections a test writes byte by byte, and a load to put on it.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "check.hpp"
#include "generator.hpp"

namespace penstock::loadgen::test {

inline constexpr std::int64_t kMillisecond = 1'000'000;
inline std::string request_of(std::size_t body_bytes) {
  return "POST / HTTP/1.1\r\nContent-Length: " + std::to_string(body_bytes) + "\r\n\r\n" + std::string(body_bytes, 'x');
}

inline constexpr std::size_t kSmallBytes = std::string_view("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nxx").size();
inline constexpr std::string_view kReply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// The server's end of a connection.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}

  // False when the client has closed before so much came.
  bool read(std::size_t bytes) const {
    std::string buffer(bytes, '\0');
    const ssize_t count = ::recv(fd_, buffer.data(), bytes, MSG_WAITALL);
    return count >= 0 && static_cast<std::size_t>(count) == bytes;
  }
  // `flags` MSG_MORE: the last bytes leave together with the end of the stream.
  bool write(std::string_view bytes, int flags = 0) const {
    return ::send(fd_, bytes.data(), bytes.size(), flags | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  // What was written arrives, and then a reset in place of the end.
  void reset() const {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    CHECK(::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  }

 private:
  int fd_;
};

// Listens on 127.0.0.1; every connection has a thread, and ends when `handle` returns.
class Server {
 public:
  using Handle = std::function<void(const Peer&)>;

  explicit Server(Handle handle) : handle_(std::move(handle)), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof address_;
    CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address_), bytes) == 0);
    CHECK(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &bytes) == 0);
    CHECK(::listen(listener_, 128) == 0);
    acceptor_ = std::thread([this] { accept(); });
  }
  ~Server() {
    stop_listening();
    for (std::thread& thread : threads_) thread.join();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void stop_listening() {
    std::call_once(stopped_, [this] {
      ::shutdown(listener_, SHUT_RDWR);
      acceptor_.join();
      ::close(listener_);
    });
  }
  [[nodiscard]] Endpoint endpoint() const {
    Endpoint endpoint;
    std::memcpy(&endpoint.address, &address_, sizeof address_);
    endpoint.bytes = sizeof address_;
    return endpoint;
  }

 private:
  void accept() {
    for (int fd = 0; (fd = ::accept(listener_, nullptr, nullptr)) >= 0;) {
      threads_.emplace_back([this, fd] {
        handle_(Peer(fd));
        ::close(fd);
      });
    }
  }

  Handle handle_;
  int listener_;
  sockaddr_in address_{};
  std::once_flag stopped_;
  std::vector<std::thread> threads_;  // the acceptor's, until it has ended
  std::thread acceptor_;
};

// A plan with everything that it points into: one request, every `gap_ns` in an open loop.
struct Load {
  Load(const Endpoint& endpoint, std::size_t count, std::int64_t gap_ns, std::size_t body_bytes = 2)
      : Load(endpoint, body_bytes) {
    for (std::size_t i = 0; i < count; ++i) due_ns.push_back(static_cast<std::int64_t>(i) * gap_ns);
    picks.resize(count);
    plan.picks = picks;
    plan.due_ns = due_ns;
  }
  // A closed loop.
  explicit Load(const Endpoint& endpoint, std::size_t body_bytes = 2)
      : request(request_of(body_bytes)), offsets{0, request.size()}, picks(1) {
    plan.endpoints = {endpoint};
    plan.requests = request;
    plan.offsets = offsets;
    plan.picks = picks;
    plan.timeout_ns = 60'000 * kMillisecond;
    plan.connect_ns = 60'000 * kMillisecond;
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  std::string request;
  std::vector<std::uint64_t> offsets;
  std::vector<std::uint32_t> picks;
  std::vector<std::int64_t> due_ns;
  Plan plan;
};

// Runs to the end; the records of all threads.
inline std::vector<Record> run(Generator& generator) {
  generator.start(5 * kMillisecond);
  generator.join();
  std::vector<Record> records;
  for (const auto& sender : generator.senders()) {
    records.insert(records.end(), sender->records().begin(), sender->records().end());
  }
  return records;
}

inline std::vector<Record> run(const Load& load) {
  Generator generator(load.plan);
  return run(generator);
}

inline std::size_t count(const std::vector<Record>& records, int status, Failure failure) {
  std::size_t found = 0;
  for (const Record& record : records) found += record.status == status && record.failure == failure ? 1 : 0;
  return found;
}

}  // namespace penstock::loadgen::test
