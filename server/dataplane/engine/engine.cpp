#include "engine/engine.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <stdexcept>

#include "engine/listener.hpp"

namespace penstock::dataplane {

Engine::Engine(EngineOptions options) : state_(std::move(options)) {
  if (state_.options.io_threads < 1 || state_.options.io_threads > 64)
    throw std::invalid_argument("io_threads must be 1 to 64");
  if (state_.options.decode_threads < 1 || state_.options.decode_threads > 64)
    throw std::invalid_argument("decode_threads must be 1 to 64");
  if (state_.options.head_bytes_max < 256 || state_.options.head_bytes_max > kConnectionBytes / 2) {
    throw std::invalid_argument("head_bytes_max must be 256 to 8192");
  }
  if (state_.options.second_level.timeout_ms != 0)
    state_.second_level = std::make_unique<SecondLevel>(state_.options.second_level);
}

Engine::~Engine() {
  stop();
  for (const int fd : listeners_) ::close(fd);
  for (const std::string& path : socket_paths_) ::unlink(path.c_str());
}

std::uint16_t Engine::listen_tcp(const std::string& host, std::uint16_t port) {
  const BoundSocket bound = dataplane::listen_tcp(host, port);
  listeners_.push_back(bound.fd);
  return bound.port;
}

void Engine::listen_unix(const std::string& path) {
  listeners_.push_back(dataplane::listen_unix(path).fd);
  socket_paths_.push_back(path);
}

void Engine::listen_private(const std::string& path) {
  if (state_.private_listener >= 0) throw std::logic_error("there is a private listener already");
  listen_unix(path);
  state_.private_listener = listeners_.back();
}

void Engine::start() {
  if (running_) throw std::logic_error("the engine runs already");
  running_ = true;
  for (std::uint32_t i = 0; i < state_.options.io_threads; ++i) {
    loops_.push_back(std::make_unique<EventLoop>(state_, jobs_, i, listeners_, loops_));
    state_.loop_event_fds.push_back(loops_.back()->event_fd());
  }
  // Signals belong to the main thread: those started here inherit the mask.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  jobs_.start(state_.options.decode_threads);
  if (state_.second_level) state_.second_level->start();
  for (const auto& loop : loops_) loop->start();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Engine::stop() {
  state_.stopping.store(true, std::memory_order_relaxed);
  state_.wake_loops();
  for (const auto& loop : loops_) loop->join();
  jobs_.stop();  // after the loops, which submit; before they are destroyed, which jobs post to
  if (state_.second_level) state_.second_level->stop();  // likewise
}

std::uint32_t Engine::add_ring(const std::string& model, const std::string& version, batcher::RingConfig config,
                               const std::string& group, std::uint64_t cache_ttl_s, std::string_view fingerprint,
                               std::shared_ptr<const RecordPlan> record) {
  config.loops = state_.options.io_threads;
  std::shared_ptr<CacheAccount> account;
  if (cache_ttl_s != 0) {
    constexpr std::uint64_t kSecondNs = 1'000'000'000;
    const std::lock_guard publishing(publish_mutex_);
    if (state_.cache == nullptr)
      state_.cache = std::make_unique<ResultCache>(state_.options.cache_bytes, state_.options.io_threads);
    account = std::make_shared<CacheAccount>(*state_.cache, cache_ttl_s * kSecondNs);
    if (!fingerprint.empty()) {
      if (fingerprint.size() != account->fingerprint.size()) throw std::invalid_argument("a fingerprint has 32 bytes");
      std::ranges::copy(fingerprint, account->fingerprint.begin());
      account->second = state_.second_level.get();
    }
  }
  return rings_.add(model, version, std::move(config), group, std::move(account), std::move(record));
}

void Engine::attach_second_level(int fd) {
  if (state_.second_level == nullptr) throw std::logic_error("there is no second level");
  state_.second_level->attach(fd);
}

bool Engine::ring_idle(std::uint32_t ring) {
  const std::lock_guard publishing(publish_mutex_);
  return rings_.is_idle(ring);
}

bool Engine::remove_ring(std::uint32_t ring) {
  const std::lock_guard publishing(publish_mutex_);
  const std::shared_ptr<CacheAccount> account = rings_.is_leaving(ring) ? nullptr : rings_.entry(ring)->cache;
  if (rings_.begin_removal(ring)) {
    if (account != nullptr) state_.cache->purge(*account);  // it is idle: nobody adds to it
    if (ring < mirrors_.size()) mirrors_[ring] = nullptr;
    publish_table();
  }
  return rings_.finish_removal(ring);
}

std::shared_ptr<ModelEntry> Engine::entry(std::uint32_t ring) const { return rings_.entry(ring); }

std::vector<std::shared_ptr<ModelEntry>> Engine::entries() const {
  std::vector<std::shared_ptr<ModelEntry>> entries = rings_.entries();
  std::erase(entries, nullptr);
  return entries;
}

batcher::Recovery Engine::recover(std::uint32_t ring, std::uint32_t worker) {
  const std::shared_ptr<ModelEntry> found = entry(ring);
  batcher::Recovery recovery = found->ring.recover(worker);
  recovery.corrupt = recovery.corrupt || found->ring.is_closed();
  if (recovery.corrupt) lose_group(*found);
  state_.wake_loops();  // batches may be done now, and nobody else says so
  return recovery;
}

// Workers sleep in the first ring of their group: with one ring, the group has lost them all.
void Engine::lose_group(const ModelEntry& lost) {
  if (lost.group.empty()) return;
  for (const std::shared_ptr<ModelEntry>& other : entries()) {
    if (other->group == lost.group) other->ring.close(batcher::RowError::kWorkerDied);
  }
}

void Engine::fail_quarantined(std::uint32_t ring) {
  entry(ring)->ring.fail_quarantined();
  state_.wake_loops();
}

void Engine::publish(std::vector<RouteSpec> routes) {
  const std::lock_guard publishing(publish_mutex_);
  std::swap(routes_, routes);
  try {
    publish_table();
  } catch (...) {
    std::swap(routes_, routes);  // what stands is still served
    throw;
  }
}

void Engine::set_mirror(std::uint32_t ring, std::uint32_t shadow, const MirrorRules& rules) {
  const std::lock_guard publishing(publish_mutex_);
  auto mirror = std::make_shared<Mirror>(*rings_.entry(ring), *rings_.entry(shadow), rules);
  if (ring >= mirrors_.size()) mirrors_.resize(ring + 1);
  mirrors_[ring] = std::move(mirror);
  publish_table();
}

MirrorCounts Engine::mirror(std::uint32_t ring) const {
  const std::lock_guard publishing(publish_mutex_);
  if (ring >= mirrors_.size() || mirrors_[ring] == nullptr) throw std::invalid_argument("the ring has no shadow");
  return mirrors_[ring]->counts();
}

void Engine::clear_mirror(std::uint32_t ring) {
  const std::lock_guard publishing(publish_mutex_);
  if (ring >= mirrors_.size() || mirrors_[ring] == nullptr) return;
  mirrors_[ring] = nullptr;
  publish_table();
}

void Engine::close_ring(std::uint32_t ring) {
  entry(ring)->ring.close(batcher::RowError::kWorkerDied);
  state_.wake_loops();
}

void Engine::publish_table() {
  auto table = std::make_shared<const RouteTable>(routes_, rings_.entries(), &state_.misses, mirrors_);
  rings_.note_published(*table);
  {
    const std::lock_guard lock(state_.table_mutex);
    state_.table = std::move(table);
    state_.table_version.fetch_add(1, std::memory_order_release);  // pairs with the loops' adopt_changes()
  }
  state_.wake_loops();
}

void Engine::set_keys(std::vector<Key> keys, KeyRules rules) {
  auto table = std::make_shared<const KeyTable>(std::move(keys), rules);
  {
    const std::lock_guard lock(state_.table_mutex);
    state_.keys = std::move(table);
    state_.table_version.fetch_add(1, std::memory_order_release);  // pairs with the loops' adopt_changes()
  }
  state_.wake_loops();
}

void Engine::set_tls(const std::string& certificate, const std::string& key) {
  std::shared_ptr<const TlsIdentity> identity = load_tls(certificate, key);
  {
    const std::lock_guard lock(state_.table_mutex);
    state_.tls = std::move(identity);
    state_.table_version.fetch_add(1, std::memory_order_release);  // pairs with the loops' adopt_changes()
  }
  state_.wake_loops();
}

TapDrain Engine::drain_tap() {
  TapDrain drained;
  for (const auto& loop : loops_) drained.take(loop->tap());
  return drained;
}

void Engine::await_tap(int patience_ms) const {
  std::vector<pollfd> bells;
  for (const auto& loop : loops_) bells.push_back({.fd = loop->tap().bell(), .events = POLLIN, .revents = 0});
  ::poll(bells.data(), bells.size(), patience_ms);
  for (const pollfd& bell : bells) {
    eventfd_t rung = 0;
    if (bell.revents != 0) ::eventfd_read(bell.fd, &rung);
  }
}

void Engine::set_ready(bool ready) {
  if (ready) state_.was_ready.store(true, std::memory_order_relaxed);
  // Loops that sleep may have somebody who watches.
  if (state_.ready.exchange(ready, std::memory_order_relaxed) != ready) state_.wake_loops();
}

void Engine::drain() {
  state_.ready.store(false, std::memory_order_relaxed);
  state_.draining.store(true, std::memory_order_relaxed);
  state_.wake_loops();
}

bool Engine::drained() const {
  // In their order: what the first loop says makes the others' count complete.
  return std::ranges::all_of(loops_, [](const auto& loop) { return loop->is_drained(); });
}

void EngineState::wake_loops() const noexcept {
  const std::uint64_t one = 1;
  for (const int fd : loop_event_fds) {
    [[maybe_unused]] const ssize_t written = ::write(fd, &one, sizeof one);  // full means: awake already
  }
}

}  // namespace penstock::dataplane
