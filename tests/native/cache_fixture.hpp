// A data plane whose one model keeps its answers, and a worker of it that counts what it runs and can be held up.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "engine_fixture.hpp"

namespace penstock::test {

// Counts the rows that it runs, and runs none while the gate is closed. y = 2x + 1 + `offset`; a row of negative
// numbers fails.
class GatedWorker {
 public:
  GatedWorker(dataplane::Engine& engine, std::uint32_t ring, float offset = 0)
      : offset_(offset), thread_([this, &engine, ring] { work(engine, ring); }) {}
  ~GatedWorker() {
    open();
    stopping_.store(true, std::memory_order_relaxed);
    thread_.join();
  }
  GatedWorker(const GatedWorker&) = delete;
  GatedWorker& operator=(const GatedWorker&) = delete;

  [[nodiscard]] std::uint32_t rows() const noexcept { return rows_.load(std::memory_order_relaxed); }
  // Takes no row from here on.
  void close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    parked_.wait(lock, [this] { return is_parked_; });
  }
  void open() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = false;
    }
    opened_.notify_all();
  }

 private:
  void work(dataplane::Engine& engine, std::uint32_t ring) {
    std::vector<int> event_fds;
    for (const auto& loop : engine.loops()) event_fds.push_back(loop->event_fd());
    batcher::BatchTaker taker(engine.entry(ring)->ring.fd(), event_fds, 0);
    while (!stopping_.load(std::memory_order_relaxed)) {
      {
        std::unique_lock lock(mutex_);
        is_parked_ = closed_;
        if (closed_) parked_.notify_all();
        opened_.wait(lock, [this] { return !closed_; });
        is_parked_ = false;
      }
      auto batch = taker.take(20);
      if (!batch.has_value()) continue;
      run(taker, *batch);
      taker.complete(std::move(*batch));
    }
  }

  void run(batcher::BatchTaker& taker, batcher::TakenBatch& batch) {
    auto* x = reinterpret_cast<float*>(const_cast<std::byte*>(taker.input(batch, 0)));
    auto* y = reinterpret_cast<float*>(taker.output(batch, 0));
    const std::uint64_t elements = taker.lane_schema(0, batch.lane).inputs.tensors()[0].elements();
    for (std::uint32_t row = 0; row < batch.rows; ++row) {
      if (x[row * elements] < 0) taker.fail_row(batch, row, batcher::RowError::kModelRaised, "ValueError: below zero");
    }
    for (std::uint64_t i = 0; i < elements * batch.run_rows; ++i) {
      y[i] = 2 * x[i] + 1 + offset_;
      x[i] = -7;  // a model may do what it likes with its inputs
    }
    rows_.fetch_add(batch.rows, std::memory_order_relaxed);
  }

  const float offset_;
  std::atomic<std::uint32_t> rows_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable opened_;
  std::condition_variable parked_;
  bool closed_ = false;
  bool is_parked_ = false;
  std::thread thread_;
};

inline batcher::RingConfig config_of(std::uint32_t elements = 4) {
  batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {elements}}}), RowLayout({{"y", DType::kFloat32, {elements}}})};
  return config;
}

class CachingServer {
 public:
  explicit CachingServer(std::uint32_t io_threads = 1, std::uint32_t elements = 4) : engine_(options(io_threads)) {
    port_ = engine_.listen_tcp("127.0.0.1", 0);
    engine_.start();
    ring_ = engine_.add_ring("model", "1", config_of(elements), {}, 3600);
    engine_.publish({{"model", "1", ring_, true, true}});
    engine_.set_ready(true);
    worker_ = std::make_unique<GatedWorker>(engine_, ring_);
  }
  ~CachingServer() {
    worker_->open();
    engine_.stop();
    worker_.reset();
  }
  CachingServer(const CachingServer&) = delete;
  CachingServer& operator=(const CachingServer&) = delete;

  [[nodiscard]] dataplane::Engine& engine() noexcept { return engine_; }
  [[nodiscard]] GatedWorker& worker() noexcept { return *worker_; }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] std::uint32_t ring() const noexcept { return ring_; }
  [[nodiscard]] std::uint64_t count(const dataplane::Counter dataplane::RingStats::* member) const {
    std::uint64_t sum = 0;
    for (const dataplane::RingStats& loop : engine_.entry(ring_)->stats) sum += (loop.*member).get();
    return sum;
  }
  [[nodiscard]] const dataplane::CacheAccount& account() const { return *engine_.entry(ring_)->cache; }
  void await(const dataplane::Counter dataplane::RingStats::* member, std::uint64_t value) const {
    while (count(member) < value) std::this_thread::yield();
  }
  void await_rows(std::uint64_t claimed) const {
    while (engine_.entry(ring_)->ring.counters().rows_claimed < claimed) std::this_thread::yield();
  }

 private:
  static dataplane::EngineOptions options(std::uint32_t io_threads) {
    dataplane::EngineOptions options;
    options.io_threads = io_threads;
    return options;
  }

  dataplane::Engine engine_;
  std::uint16_t port_ = 0;
  std::uint32_t ring_ = 0;
  std::unique_ptr<GatedWorker> worker_;
};

// With a reset: a mere end of what it sends would leave open that it still reads.
inline void leave(std::unique_ptr<Client>& client) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(client->fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  client.reset();
}

struct Reply {
  int status;
  std::string head;
  std::string body;
  [[nodiscard]] bool says(std::string_view field) const { return head.find(field) != std::string::npos; }
};

inline Reply receive(Client& client) {
  Reply reply;
  reply.head = client.receive_reply_head(reply.body);
  reply.status = std::stoi(reply.head.substr(9, 3));
  return reply;
}

}  // namespace penstock::test
