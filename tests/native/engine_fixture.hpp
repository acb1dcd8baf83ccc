// A whole data plane in one process: an engine with two models, a taker thread for each, and a raw client.
#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "check.hpp"
#include "engine/engine.hpp"
#include "penstock/batcher/batch_taker.hpp"

namespace penstock::test {

// y = 2x + 1 for every element: an answer that belongs to another request is another number.
class AffineWorker {
 public:
  AffineWorker(dataplane::Engine& engine, std::uint32_t ring)
      : thread_([this, &engine, ring] { work(engine, ring); }) {}
  ~AffineWorker() {
    stopping_.store(true, std::memory_order_relaxed);
    thread_.join();
  }
  AffineWorker(const AffineWorker&) = delete;
  AffineWorker& operator=(const AffineWorker&) = delete;

 private:
  void work(dataplane::Engine& engine, std::uint32_t ring) {
    std::vector<int> event_fds;
    for (const auto& loop : engine.loops()) event_fds.push_back(loop->event_fd());
    batcher::BatchTaker taker(engine.entry(ring)->ring.fd(), event_fds, 0);
    while (!stopping_.load(std::memory_order_relaxed)) {
      auto batch = taker.take(20);
      if (!batch.has_value()) continue;
      const auto* x = reinterpret_cast<const float*>(taker.input(*batch, 0));
      auto* y = reinterpret_cast<float*>(taker.output(*batch, 0));
      const std::uint64_t elements = taker.lane_schema(0, batch->lane).inputs.tensors()[0].elements();
      for (std::uint64_t i = 0; i < elements * batch->run_rows; ++i) y[i] = 2 * x[i] + 1;
      taker.complete(std::move(*batch));
    }
  }

  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// Models "small" (4 floats) and "large" (100,000 floats: rows in the arena, bodies and replies through decode threads).
class Server {
 public:
  explicit Server(dataplane::EngineOptions options = {}) : engine_(std::move(options)) {
    port_ = engine_.listen_tcp("127.0.0.1", 0);
    engine_.start();
    const std::uint32_t small = add("small", 4);
    const std::uint32_t large = add("large", kLargeElements);
    engine_.publish({{"small", "1", small, true, true}, {"large", "1", large, true, true}});
    engine_.set_ready(true);
    workers_.push_back(std::make_unique<AffineWorker>(engine_, small));
    workers_.push_back(std::make_unique<AffineWorker>(engine_, large));
  }
  ~Server() {
    engine_.stop();
    workers_.clear();
  }

  static constexpr std::uint32_t kLargeElements = 100'000;
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] dataplane::Engine& engine() noexcept { return engine_; }

 private:
  std::uint32_t add(const char* name, std::uint32_t elements) {
    batcher::RingConfig config;
    config.schema = {RowLayout({{"x", DType::kFloat32, {elements}}}), RowLayout({{"y", DType::kFloat32, {elements}}})};
    return engine_.add_ring(name, "1", config);
  }

  dataplane::Engine engine_;
  std::uint16_t port_ = 0;
  std::vector<std::unique_ptr<AffineWorker>> workers_;
};

// A blocking socket. Sending and receiving allocate nothing.
class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_; }

  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      CHECK(sent > 0);
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  // Reads exactly `bytes` bytes.
  void receive(char* data, std::size_t bytes) const {
    while (bytes > 0) {
      const ssize_t received = ::recv(fd_, data, bytes, 0);
      CHECK(received > 0);
      data += received;
      bytes -= static_cast<std::size_t>(received);
    }
  }

  // One reply: its status, and its body appended to `body`.
  int receive_reply(std::string& body) {
    const std::string head = receive(body);
    return std::stoi(head.substr(9, 3));
  }
  // One reply: its status line and fields, and its body appended to `body`.
  std::string receive_reply_head(std::string& body) { return receive(body); }
  // One reply: its status line and fields.
  std::string receive_head() {
    std::string body;
    return receive(body);
  }

 private:
  std::string receive(std::string& body) {
    while (buffer_.find("\r\n\r\n") == std::string::npos) fill();
    const std::size_t head_bytes = buffer_.find("\r\n\r\n") + 4;
    const std::size_t length_at = buffer_.find("Content-Length: ");
    CHECK(length_at < head_bytes);
    const std::size_t length = std::stoul(buffer_.substr(length_at + 16, 12));
    while (buffer_.size() < head_bytes + length) fill();
    const std::string head = buffer_.substr(0, head_bytes);
    body.append(buffer_, head_bytes, length);
    buffer_.erase(0, head_bytes + length);
    return head;
  }

  void fill() {
    char bytes[65536];
    const ssize_t received = ::recv(fd_, bytes, sizeof bytes, 0);
    CHECK(received > 0);
    buffer_.append(bytes, static_cast<std::size_t>(received));
  }

  int fd_;
  std::string buffer_;
};

}  // namespace penstock::test
