// Rows that are looked for in the second level: the test is the process at the other end of its socket, and answers
// what it likes, when it likes.
#include <poll.h>

#include <deque>
#include <optional>

#include "cache_fixture.hpp"
#include "engine/second_level.hpp"

namespace {

using penstock::dataplane::Engine;
using penstock::dataplane::EngineOptions;
using penstock::dataplane::RingStats;
using penstock::test::Client;
using penstock::test::config_of;
using penstock::test::GatedWorker;
using penstock::test::leave;
using penstock::test::receive;
using penstock::test::Reply;

constexpr std::uint64_t kPatientMs = 60'000;
constexpr int kDeadlineMs = 60'000;

std::string fingerprint_of(char letter) { return std::string(32, letter); }

enum class Kind : std::uint8_t { kGet = 1, kSet = 2, kPing = 3, kNone = 4, kFailed = 5, kLost = 6 };

struct Frame {
  Kind kind = Kind::kPing;
  std::uint64_t id = 0;
  std::string more;
  [[nodiscard]] std::string name() const {
    if (kind == Kind::kGet) return more.substr(4);
    std::uint16_t bytes = 0;
    std::memcpy(&bytes, more.data() + 8, sizeof bytes);
    return more.substr(10, bytes);
  }
  [[nodiscard]] std::string value() const { return more.substr(10 + name().size()); }
};

// Our end of the socket.
class Peer {
 public:
  explicit Peer(Engine& engine) {
    int fds[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    fd_ = fds[0];
    engine.attach_second_level(fds[1]);
  }
  ~Peer() { end(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void end() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  // The next frame of this kind. On the way pings are answered, and what is to be kept is not.
  Frame next(Kind kind) {
    for (;;) {
      const Frame frame = receive_frame();
      if (frame.kind == kind) return frame;
      if (frame.kind == Kind::kSet && kind == Kind::kGet) continue;
      CHECK(frame.kind == Kind::kPing);
      send(Kind::kPing, frame.id);
    }
  }
  // Answers pings until one was in time.
  void greet(const Engine& engine) {
    while (!counts(engine).is_up) {
      pollfd readable{.fd = fd_, .events = POLLIN, .revents = 0};
      if (in_.empty() && ::poll(&readable, 1, 1) == 0) continue;
      const Frame ping = receive_frame();
      CHECK(ping.kind == Kind::kPing);
      send(Kind::kPing, ping.id);
    }
  }
  void send(Kind kind, std::uint64_t id, std::string_view more = {}) {
    const auto bytes = static_cast<std::uint32_t>(9 + more.size());
    std::string frame(reinterpret_cast<const char*>(&bytes), 4);
    frame += static_cast<char>(kind);
    frame.append(reinterpret_cast<const char*>(&id), 8).append(more);
    send_bytes(frame);
  }
  void send_bytes(std::string_view bytes) {
    CHECK(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  [[nodiscard]] static penstock::dataplane::SecondLevel::Counts counts(const Engine& engine) {
    return engine.state().second_level->counts();
  }

 private:
  Frame receive_frame() {
    for (;;) {
      std::uint32_t bytes = 0;
      if (in_.size() >= 4) std::memcpy(&bytes, in_.data(), 4);
      if (in_.size() >= 13 && in_.size() >= 4 + bytes) {
        Frame frame{.kind = static_cast<Kind>(in_[4]), .id = 0, .more = in_.substr(13, bytes - 9)};
        std::memcpy(&frame.id, in_.data() + 5, 8);
        in_.erase(0, 4 + bytes);
        return frame;
      }
      pollfd readable{.fd = fd_, .events = POLLIN, .revents = 0};
      CHECK(::poll(&readable, 1, kDeadlineMs) == 1);
      char buffer[65536];
      const ssize_t received = ::recv(fd_, buffer, sizeof buffer, 0);
      CHECK(received > 0);
      in_.append(buffer, static_cast<std::size_t>(received));
    }
  }

  int fd_ = -1;
  std::string in_;
};

class SharingServer {
 public:
  explicit SharingServer(std::uint32_t io_threads = 1, std::uint64_t timeout_ms = kPatientMs)
      : engine_(options(io_threads, timeout_ms)) {
    port_ = engine_.listen_tcp("127.0.0.1", 0);
    engine_.start();
    ring_ = engine_.add_ring("model", "1", config_of(), {}, 3600, fingerprint_of('a'));
    engine_.publish({{"model", "1", ring_, true, true}});
    engine_.set_ready(true);
    worker_ = std::make_unique<GatedWorker>(engine_, ring_);
  }
  ~SharingServer() {
    worker_->open();
    engine_.stop();
    worker_.reset();
  }
  SharingServer(const SharingServer&) = delete;
  SharingServer& operator=(const SharingServer&) = delete;

  [[nodiscard]] Engine& engine() noexcept { return engine_; }
  [[nodiscard]] GatedWorker& worker() noexcept { return *worker_; }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] std::uint32_t ring() const noexcept { return ring_; }
  [[nodiscard]] std::uint64_t coalesced() const {
    std::uint64_t sum = 0;
    for (const RingStats& loop : engine_.entry(ring_)->stats) sum += loop.cache_coalesced.get();
    return sum;
  }
  void await_coalesced(std::uint64_t count) const {
    while (coalesced() < count) std::this_thread::yield();
  }
  void await_unused() const {
    while (!engine_.entry(ring_)->is_unused()) std::this_thread::yield();
  }

 private:
  static EngineOptions options(std::uint32_t io_threads, std::uint64_t timeout_ms) {
    EngineOptions options;
    options.io_threads = io_threads;
    options.second_level.timeout_ms = timeout_ms;
    return options;
  }

  Engine engine_;
  std::uint16_t port_ = 0;
  std::uint32_t ring_ = 0;
  std::unique_ptr<GatedWorker> worker_;
};

std::string rows_of(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    for (int i = 0; i < 4; ++i) bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

std::string request_of(const std::vector<float>& values, std::string_view fields = {}) {
  const std::string body = rows_of(values);
  return "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nAccept: "
         "application/octet-stream\r\nX-Penstock-Receipt: true\r\n" +
         std::string(fields) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

void equal_requests_wait_for_one_lookup(std::uint32_t io_threads, bool is_known) {
  constexpr std::uint64_t kClients = 8;
  SharingServer server(io_threads);
  Peer peer(server.engine());
  peer.greet(server.engine());
  Client teacher(server.port());
  teacher.send(request_of({3}));
  peer.send(Kind::kNone, peer.next(Kind::kGet).id);
  const Frame kept = peer.next(Kind::kSet);
  CHECK(receive(teacher).body == rows_of({7}) && server.worker().rows() == 1);
  CHECK(server.engine().entry(server.ring())->cache->rows == 1);

  // Another version of the same content, which knows nothing yet.
  Engine& engine = server.engine();
  const std::uint32_t other = engine.add_ring("other", "1", config_of(), {}, 3600, fingerprint_of('a'));
  GatedWorker worker(engine, other);
  engine.publish({{"model", "1", server.ring(), true, true}, {"other", "1", other, true, true}});
  std::vector<std::unique_ptr<Client>> clients;
  std::optional<Frame> asked;
  for (std::uint64_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    std::string request = request_of({3});
    request.insert(request.find(" HTTP"), "?model=other");
    clients.back()->send(request);
    if (i == 0) asked = peer.next(Kind::kGet);
  }
  CHECK(asked->name() == kept.name());
  const auto waiting = [&] {
    std::uint64_t sum = 0;
    for (const RingStats& loop : engine.entry(other)->stats) sum += loop.cache_coalesced.get();
    return sum;
  };
  while (waiting() < kClients - 1) std::this_thread::yield();
  leave(clients.front());  // who asked is gone, and the others wait on
  is_known ? peer.send(Kind::kGet, asked->id, kept.value()) : peer.send(Kind::kNone, asked->id);
  for (std::uint64_t i = 1; i < kClients; ++i) {
    const Reply reply = receive(*clients[i]);
    CHECK(reply.status == 200 && reply.body == rows_of({7}));
    if (is_known) CHECK(reply.says("X-Penstock-Cache: hit") && reply.says("Age: "));
  }
  // With two loops those of the other one may look before a row runs here.
  CHECK(is_known ? worker.rows() == 0 : worker.rows() >= 1 && worker.rows() <= io_threads);
  while (!engine.entry(other)->is_unused()) std::this_thread::yield();
  engine.stop();
}

// Forbidden: a request that waits longer than the bound, one that waits after another has, an answer that came late.
void late_costs_one_bound() {
  SharingServer server(1, 300);
  Peer peer(server.engine());
  peer.greet(server.engine());
  Client client(server.port());
  client.send(request_of({3}));
  const Frame late = peer.next(Kind::kGet);
  CHECK(receive(client).body == rows_of({7}));  // it has run
  CHECK(!Peer::counts(server.engine()).is_up && Peer::counts(server.engine()).timeouts == 1);
  for (int i = 10; i < 30; ++i) {
    client.send(request_of({static_cast<float>(i)}));
    CHECK(receive(client).status == 200);
  }
  CHECK(Peer::counts(server.engine()).skipped == 20 && Peer::counts(server.engine()).timeouts == 1);
  const Frame ping = peer.next(Kind::kPing);
  peer.send(Kind::kGet, late.id, "whatever");
  peer.send(Kind::kFailed, ping.id);
  peer.greet(server.engine());
  client.send(request_of({50}));
  peer.send(Kind::kNone, peer.next(Kind::kGet).id);
  CHECK(receive(client).body == rows_of({101}));
  CHECK(server.worker().rows() == 22);
}

void all_that_wait_are_released(bool by_end) {
  SharingServer server;
  Peer peer(server.engine());
  peer.greet(server.engine());
  std::vector<std::unique_ptr<Client>> clients;
  Frame last;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(request_of({static_cast<float>(i)}));
    last = peer.next(Kind::kGet);
  }
  by_end ? peer.end() : peer.send(Kind::kFailed, last.id);
  for (int i = 0; i < 5; ++i)
    CHECK(receive(*clients[static_cast<std::size_t>(i)]).body == rows_of({2.0F * static_cast<float>(i) + 1}));
  CHECK(Peer::counts(server.engine()).failures == 5 && !Peer::counts(server.engine()).is_up);
  Peer next(server.engine());
  next.greet(server.engine());
  server.await_unused();
}

// What is no frame ends the process's turn, and harms nobody.
void nonsense_is_no_answer() {
  using namespace std::string_view_literals;
  for (const std::string_view bytes : {"\0\0\0\0\0\0\0\0\0\0\0\0\0"sv, "\xff\xff\xff\xff\1\0\0\0\0\0\0\0\0"sv,
                                       "\x09\0\0\0\x63\0\0\0\0\0\0\0\0"sv, "\x09\0\0\0\2\0\0\0\0\0\0\0\0"sv}) {
    SharingServer server;
    Peer peer(server.engine());
    peer.greet(server.engine());
    Client client(server.port());
    client.send(request_of({3}));
    (void)peer.next(Kind::kGet);
    peer.send_bytes(bytes);
    CHECK(receive(client).body == rows_of({7}));
    Peer next(server.engine());
    next.greet(server.engine());
  }
}

void values_are_checked() {
  SharingServer server;
  Peer peer(server.engine());
  peer.greet(server.engine());
  Client client(server.port());
  client.send(request_of({3}));
  peer.send(Kind::kNone, peer.next(Kind::kGet).id);
  CHECK(receive(client).status == 200);
  const Frame kept = peer.next(Kind::kSet);
  std::uint64_t ttl_ms = 0;
  std::memcpy(&ttl_ms, kept.more.data(), sizeof ttl_ms);
  CHECK(ttl_ms == 3'600'000 && kept.name().starts_with("penstock:1:6161616161616161:"));
  std::vector<std::string> bad{"", kept.value() + "x", kept.value().substr(1)};
  for (std::size_t i = 0; i < kept.value().size(); ++i) {
    bad.push_back(kept.value());
    bad.back()[i] = static_cast<char>(bad.back()[i] ^ 1);
  }
  // Also the right value of another row.
  bad.push_back(kept.value());
  float x = 100;
  for (const std::string& value : bad) {
    client.send(request_of({++x}));
    peer.send(Kind::kGet, peer.next(Kind::kGet).id, value);
    CHECK(receive(client).body == rows_of({2 * x + 1}));
    (void)peer.next(Kind::kSet);
  }
  CHECK(Peer::counts(server.engine()).invalid == bad.size() && Peer::counts(server.engine()).is_up);
}

// A request of many asks for each row, and runs those that nobody knows; requests that leave are no matter.
void rows_of_many(std::uint32_t io_threads) {
  SharingServer server(io_threads);
  Peer peer(server.engine());
  peer.greet(server.engine());
  Client client(server.port());
  client.send(request_of({1, 2, 1, 3}));
  std::deque<Frame> asked;
  for (int i = 0; i < 3; ++i) asked.push_back(peer.next(Kind::kGet));
  auto other = std::make_unique<Client>(server.port());
  other->send(request_of({3, 2}));
  server.await_coalesced(3);  // the second 1 and these two
  leave(other);
  for (const Frame& frame : asked) peer.send(Kind::kNone, frame.id);
  CHECK(receive(client).body == rows_of({3, 5, 3, 7}));
  CHECK(server.worker().rows() == 3);
  server.await_unused();
  for (int i = 0; i < 3; ++i) (void)peer.next(Kind::kSet);
}

// While one of its rows is being looked for, a ring stays; what comes of it is nobody's who asks for another version.
void a_swap_in_between() {
  SharingServer server;
  Engine& engine = server.engine();
  Peer peer(engine);
  peer.greet(engine);
  Client teacher(server.port());
  teacher.send(request_of({3}));
  peer.send(Kind::kNone, peer.next(Kind::kGet).id);
  const Frame kept = peer.next(Kind::kSet);
  CHECK(receive(teacher).body == rows_of({7}));
  Client before(server.port());
  before.send(request_of({3}, "Cache-Control: no-cache\r\n"));  // runs, and is not looked for
  CHECK(receive(before).body == rows_of({7}));
  (void)peer.next(Kind::kSet);
  before.send(request_of({5}));
  const Frame asked = peer.next(Kind::kGet);

  const std::uint32_t ring = engine.add_ring("model", "2", config_of(), {}, 3600, fingerprint_of('b'));
  GatedWorker worker(engine, ring, 100);
  engine.publish({{"model", "2", ring, true, true}});
  Client after(server.port());
  for (;;) {                                                         // a loop may have the old table in this pass
    after.send(request_of({3}, "X-Request-Timeout-Ms: 59000\r\n"));  // too little time to ask
    if (receive(after).body == rows_of({107})) break;
  }
  CHECK(!engine.remove_ring(server.ring()));  // its row is out
  after.send(request_of({4}));
  const Frame of_new = peer.next(Kind::kGet);
  CHECK(of_new.name().substr(0, 28) != kept.name().substr(0, 28));
  peer.send(Kind::kGet, of_new.id, kept.value());  // an answer of the version that is gone
  CHECK(receive(after).body == rows_of({109}));
  peer.send(Kind::kNone, asked.id);
  CHECK(receive(before).body == rows_of({11}));  // by the version that it was sent to
  while (!engine.remove_ring(server.ring())) std::this_thread::yield();
  engine.stop();
}

}  // namespace

int main() {
  for (const std::uint32_t io_threads : {1U, 2U}) {
    equal_requests_wait_for_one_lookup(io_threads, true);
    equal_requests_wait_for_one_lookup(io_threads, false);
    rows_of_many(io_threads);
  }
  late_costs_one_bound();
  all_that_wait_are_released(true);
  all_that_wait_are_released(false);
  nonsense_is_no_answer();
  values_are_checked();
  a_swap_in_between();
}
