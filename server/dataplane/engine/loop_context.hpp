// What the parts of one I/O loop share, and what all loops share.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/body_pool.hpp"
#include "engine/connection.hpp"
#include "engine/key_table.hpp"
#include "engine/result_cache.hpp"
#include "engine/route_table.hpp"
#include "engine/second_level.hpp"
#include "engine/stats.hpp"
#include "engine/tap.hpp"
#include "engine/timer_wheel.hpp"
#include "http/date_cache.hpp"
#include "http/request_id.hpp"
#include "http/response.hpp"

namespace penstock::dataplane {

struct EngineOptions {
  std::uint32_t io_threads = 1;
  std::uint32_t decode_threads = 1;
  std::uint32_t max_connections = 4096;
  std::uint32_t reserved_connections = 32;
  std::size_t head_bytes_max = 8192;
  std::uint64_t control_body_bytes_max = 16ull << 20;
  std::uint64_t body_pool_bytes = 128ull << 20;
  std::uint64_t idle_timeout_ms = 75'000;
  std::uint64_t head_timeout_ms = 10'000;
  std::uint64_t body_timeout_ms = 30'000;
  std::uint64_t write_timeout_ms = 30'000;
  std::uint64_t request_timeout_ms = 60'000;
  std::uint64_t cache_bytes = 64ull << 20;
  std::string control_socket;  // path of the control plane's private socket; empty: there is none
  std::vector<std::string> cors_origins;
  bool compress = false;  // replies, for clients that ask for it
  std::size_t compress_min_bytes = 1024;
  TapOptions tap;
  SecondLevelOptions second_level;
};

// State of the whole engine. Loops read it; the control plane's thread changes it.
struct EngineState {
  explicit EngineState(EngineOptions engine_options)
      : options(std::move(engine_options)),
        cors(options.cors_origins),
        has_manners(cors.enabled() || options.compress),
        pool(options.body_pool_bytes),
        table(std::make_shared<const RouteTable>()) {}

  const EngineOptions options;
  const CorsTable cors;
  const bool has_manners;  // replies carry more than the request's handler says
  BodyPool pool;
  std::unique_ptr<SecondLevel> second_level;  // null without; the cache's accounts lead there
  std::unique_ptr<ResultCache> cache;         // made with the first model that wants it; its accounts lead there
  MissList misses;                            // before the tables, which know it
  std::mutex table_mutex;                     // taken by a loop only when table_version has moved
  std::shared_ptr<const RouteTable> table;
  std::shared_ptr<const KeyTable> keys = std::make_shared<const KeyTable>();  // guarded like the table
  std::shared_ptr<const TlsIdentity> tls;       // likewise; null: connections are not encrypted
  std::atomic<std::uint64_t> table_version{0};  // moves when either changes
  std::atomic<std::uint32_t> connections{0};
  std::atomic<bool> ready{false};
  std::atomic<bool> was_ready{false};  // before that, a name nobody knows may be one that is still loading
  std::atomic<bool> draining{false};
  std::atomic<bool> stopping{false};
  std::vector<int> loop_event_fds;  // complete before the first loop starts
  int private_listener = -1;        // likewise; -1: there is none

  // From any thread: every loop looks at its rings, tables and inbox.
  void wake_loops() const noexcept;
};

[[nodiscard]] inline std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

inline constexpr std::uint64_t kMillisecondNs = 1'000'000;

// Owned by one loop and touched by its thread alone, but for the counters, which anyone may read.
struct LoopContext {
  LoopContext(EngineState& engine_state, std::uint32_t loop_index)
      : engine(engine_state),
        index(loop_index),
        now_ns(monotonic_ns()),
        timers(now_ns),
        tap(engine_state.options.tap) {}

  EngineState& engine;
  const std::uint32_t index;
  int epoll = -1;
  std::uint64_t now_ns;  // read once per pass
  TimerWheel timers;
  LoopStats stats;
  Tap tap;
  std::uint32_t refusals = 0;  // by admission, that are formed and not sent
  std::shared_ptr<const RouteTable> table = std::make_shared<const RouteTable>();
  std::shared_ptr<const KeyTable> keys = std::make_shared<const KeyTable>();
  std::shared_ptr<const TlsIdentity> tls;
  std::uint64_t table_version = 0;
  DateCache date;
  RequestIdSource request_ids;
  std::vector<std::unique_ptr<Connection>> connections;  // by index; never shrinks, entries are reused
  // Connections that the acceptor gave to this loop and that are not closed: it gives to the loop with the fewest.
  std::atomic<std::uint32_t> connections_given{0};

  [[nodiscard]] Connection* find(std::uint32_t connection, std::uint32_t generation) noexcept {
    Connection* found = connections[connection].get();
    return found->generation == generation ? found : nullptr;
  }
};

}  // namespace penstock::dataplane
