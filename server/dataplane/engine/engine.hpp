// The data plane as a whole: sockets, I/O loops, rings. Its control surface is called from any thread, never from a
// loop.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/event_loop.hpp"
#include "engine/job_pool.hpp"
#include "engine/loop_context.hpp"
#include "engine/mirror.hpp"
#include "engine/ring_directory.hpp"
#include "engine/route_table.hpp"
#include "engine/tap_drain.hpp"

namespace penstock::dataplane {

class Engine {
 public:
  // Throws std::invalid_argument for options that make no sense.
  explicit Engine(EngineOptions options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Before start(). std::system_error when the address is taken or not ours.
  std::uint16_t listen_tcp(const std::string& host, std::uint16_t port);
  void listen_unix(const std::string& path);
  // For predictions of the control plane, which has checked who asks: whoever can connect needs no key. Once.
  void listen_private(const std::string& path);
  void start();
  // Ends the loops at once: what is in flight is dropped. drain() first.
  void stop();

  // The id of the new ring. std::invalid_argument, std::system_error as BatchRing.
  // Rings of one `group` share workers; empty: the ring has its own. Answers are kept for `cache_ttl_s`; 0: they are
  // not. `fingerprint`: of all that they depend on, where the second level keeps them, too; empty: it does not. With a
  // `record` clients send it instead of the tensors.
  std::uint32_t add_ring(const std::string& model, const std::string& version, batcher::RingConfig config,
                         const std::string& group = {}, std::uint64_t cache_ttl_s = 0,
                         std::string_view fingerprint = {}, std::shared_ptr<const RecordPlan> record = nullptr);
  // The socket to a process that speaks for the second level, which is closed when the next one comes.
  // std::logic_error without a second level.
  void attach_second_level(int fd);
  [[nodiscard]] std::shared_ptr<ModelEntry> entry(std::uint32_t ring) const;
  [[nodiscard]] std::vector<std::shared_ptr<ModelEntry>> entries() const;  // in the order of their ids
  // `corrupt` when the ring is of no use any more; then no other ring of its group is, either.
  batcher::Recovery recover(std::uint32_t ring, std::uint32_t worker);
  // Rows that wait for a quarantine which will not come get an error.
  void fail_quarantined(std::uint32_t ring);
  // std::invalid_argument for a route to a ring that does not exist: then nothing has changed.
  void publish(std::vector<RouteSpec> routes);

  // From now on a share of the rows of `ring` is run by `shadow`, too, and the outputs are compared; instead of a
  // shadow that it had. std::invalid_argument as Mirror. The shadow's ring is not idle until clear_mirror().
  void set_mirror(std::uint32_t ring, std::uint32_t shadow, const MirrorRules& rules);
  // Since set_mirror(). std::invalid_argument for a ring that has no shadow.
  [[nodiscard]] MirrorCounts mirror(std::uint32_t ring) const;
  void clear_mirror(std::uint32_t ring);

  // Its workers have ended and there will be no others: rows that are out get an error, and it takes no more.
  void close_ring(std::uint32_t ring);
  // No request can get to the ring any more, and none that did is unanswered: its workers may end.
  [[nodiscard]] bool ring_idle(std::uint32_t ring);
  // Gives an idle ring's memory back, as soon as nothing can look at it; whether that has happened: else ask again.
  // std::invalid_argument for a ring of a group.
  bool remove_ring(std::uint32_t ring);
  // Models that were asked for and that are to be loaded when they are.
  [[nodiscard]] MissList& misses() noexcept { return state_.misses; }

  // The keys that are good from now on, and what they are needed for; before the first call nothing needs one.
  void set_keys(std::vector<Key> keys, KeyRules rules);
  // From now on connections over TCP are encrypted, with this certificate; those that are open stay as they are. Both
  // are files in PEM. std::invalid_argument says what is wrong with them: then nothing has changed.
  void set_tls(const std::string& certificate, const std::string& key);
  void set_ready(bool ready);
  // What the taps of all loops hold, at most kTapRecords of each. One thread at a time.
  [[nodiscard]] TapDrain drain_tap();
  // Waits until one of them has filled to an eighth, at most so long: whoever drains need not wake for each record.
  void await_tap(int patience_ms) const;
  void drain();
  [[nodiscard]] bool drained() const;

  [[nodiscard]] const std::vector<std::unique_ptr<EventLoop>>& loops() const noexcept { return loops_; }
  [[nodiscard]] const EngineState& state() const noexcept { return state_; }

 private:
  void lose_group(const ModelEntry& lost);
  void publish_table();

  EngineState state_;
  JobPool jobs_;
  std::vector<int> listeners_;
  std::vector<std::string> socket_paths_;
  mutable std::mutex publish_mutex_;  // of the next three: a table of fewer rings must not replace one of more
  RingDirectory rings_;
  std::vector<RouteSpec> routes_;  // as published last
  RouteTable::Mirrors mirrors_;
  std::vector<std::unique_ptr<EventLoop>> loops_;
  bool running_ = false;
};

}  // namespace penstock::dataplane
