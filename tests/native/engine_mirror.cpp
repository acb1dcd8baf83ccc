// Rows that are run by a shadow, too: what is compared, and that nobody waits for it.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <stdexcept>

#include "engine_fixture.hpp"
#include "penstock/kernels/text.hpp"

namespace {

using penstock::DType;
using penstock::RowLayout;
using penstock::TensorSpec;
using penstock::TextWriter;
using penstock::batcher::BatchTaker;
using penstock::batcher::RingConfig;
using penstock::batcher::RowError;
using penstock::batcher::TakenBatch;
using penstock::dataplane::Engine;
using penstock::dataplane::EngineOptions;
using penstock::dataplane::MirrorCounts;
using penstock::dataplane::MirrorRules;
using penstock::test::AffineWorker;
using penstock::test::Client;

constexpr std::uint32_t kElements = 4;

// A worker that does as the test says, with a batch of kElements floats a row.
class Worker {
 public:
  using Run = std::function<void(BatchTaker&, const TakenBatch&)>;
  Worker(Engine& engine, std::uint32_t ring, Run run)
      : thread_([this, &engine, ring, run = std::move(run)] { work(engine, ring, run); }) {}
  ~Worker() {
    stopping_.store(true, std::memory_order_relaxed);
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

 private:
  void work(Engine& engine, std::uint32_t ring, const Run& run) {
    std::vector<int> event_fds;
    for (const auto& loop : engine.loops()) event_fds.push_back(loop->event_fd());
    BatchTaker taker(engine.entry(ring)->ring.fd(), event_fds, 0);
    while (!stopping_.load(std::memory_order_relaxed)) {
      auto batch = taker.take(20);
      if (!batch.has_value()) continue;
      run(taker, *batch);
      taker.complete(std::move(*batch));
    }
  }

  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// y = 2x + 1 + offset, and a value of its own where x is 0.
Worker::Run affine(float offset, float of_zero = 1) {
  return [offset, of_zero](BatchTaker& taker, const TakenBatch& batch) {
    const auto* x = reinterpret_cast<const float*>(taker.input(batch, 0));
    auto* y = reinterpret_cast<float*>(taker.output(batch, 0));
    for (std::uint32_t i = 0; i < batch.run_rows * kElements; ++i) y[i] = x[i] == 0 ? of_zero : 2 * x[i] + 1 + offset;
  };
}

RingConfig config_of(std::uint32_t elements, const char* output = "y") {
  RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {elements}}}), RowLayout({{output, DType::kFloat32, {elements}}})};
  return config;
}

// A live version with its worker, and a shadow without one.
class Pair {
 public:
  explicit Pair(std::uint32_t io_threads = 1, std::uint32_t elements = kElements) : engine_(options(io_threads)) {
    port_ = engine_.listen_tcp("127.0.0.1", 0);
    engine_.start();
    live_ = engine_.add_ring("model", "1", config_of(elements));
    shadow_ = engine_.add_ring("model", "2", config_of(elements));
    engine_.publish({{"model", "1", live_, true, true}});
    engine_.set_ready(true);
    worker_ = std::make_unique<AffineWorker>(engine_, live_);
  }
  ~Pair() {
    engine_.stop();
    worker_.reset();
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  [[nodiscard]] Engine& engine() noexcept { return engine_; }
  [[nodiscard]] std::uint32_t live() const noexcept { return live_; }
  [[nodiscard]] std::uint32_t shadow() const noexcept { return shadow_; }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] MirrorCounts counts() const { return engine_.mirror(live_); }
  void mirror(const MirrorRules& rules) { engine_.set_mirror(live_, shadow_, rules); }
  // Once every row that was mirrored has been compared, or never will be.
  MirrorCounts settled() const {
    for (;;) {
      const MirrorCounts counts = this->counts();
      if (counts.compared + counts.failed + counts.dropped >= counts.mirrored) return counts;
      std::this_thread::yield();
    }
  }

 private:
  static EngineOptions options(std::uint32_t io_threads) {
    EngineOptions options;
    options.io_threads = io_threads;
    return options;
  }

  Engine engine_;
  std::uint16_t port_ = 0;
  std::uint32_t live_ = 0;
  std::uint32_t shadow_ = 0;
  std::unique_ptr<AffineWorker> worker_;
};

std::string request_of(std::string_view body, std::string_view accept = "application/octet-stream") {
  return "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nAccept: " +
         std::string(accept) + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

std::string bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// Asks with `rows` rows of the value and looks at every answer: it is the live version's. Returns false when the queue
// was full.
bool answered(Client& client, float value, std::uint32_t rows, std::uint32_t elements) {
  const std::vector<float> x(std::size_t{rows} * elements, value);
  client.send(request_of(bytes_of(x)));
  std::string body;
  const int status = client.receive_reply(body);
  if (status == 503 && body.find("queue_full") != std::string::npos) return false;
  CHECK(status == 200);
  CHECK(body == bytes_of(std::vector<float>(x.size(), 2 * value + 1)));
  return true;
}

void ask(Client& client, float value, std::uint32_t rows = 1, std::uint32_t elements = kElements) {
  CHECK(answered(client, value, rows, elements));
}

void remove(Engine& engine, std::uint32_t ring) {
  while (!engine.remove_ring(ring)) std::this_thread::yield();
}

void the_same_outputs_do_not_differ() {
  Pair pair;
  const AffineWorker shadow(pair.engine(), pair.shadow());
  pair.mirror({.share = 1});
  Client client(pair.port());
  for (int i = 0; i < 100; ++i) {
    ask(client, static_cast<float>(i));
    pair.settled();  // or there may be more rows than places
  }
  ask(client, 0.5F, 40);  // many rows of one request
  const MirrorCounts counts = pair.settled();
  CHECK(counts.mirrored == 140 && counts.compared == 140);
  CHECK(counts.differing == 0 && counts.failed == 0 && counts.dropped == 0 && counts.max_abs_difference == 0);
  CHECK(pair.engine().entry(pair.shadow())->stats[0].rows_ok.get() == 140);
}

void a_difference_within_the_tolerance_is_none() {
  Pair pair;
  const Worker shadow(pair.engine(), pair.shadow(), affine(0.25F));
  Client client(pair.port());
  const auto differing = [&](const MirrorRules& rules) {
    pair.mirror(rules);
    ask(client, 3);  // 7, and 7.25
    const MirrorCounts counts = pair.settled();
    CHECK(counts.compared == 1 && counts.max_abs_difference == 0.25);
    return counts.differing;
  };
  CHECK(differing({}) == 1);
  CHECK(differing({.atol = 0.25}) == 0);
  CHECK(differing({.atol = 0.24}) == 1);
  CHECK(differing({.rtol = 0.04}) == 0);
  CHECK(differing({.rtol = 0.03}) == 1);
  CHECK(differing({.rtol = 0.03, .atol = 0.04}) == 0);
}

void what_is_no_number_equals_itself_alone() {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  struct Case {
    float live;
    float shadow;
    bool same;
  };
  for (const Case& each :
       {Case{kNan, kNan, true}, Case{kInfinity, kInfinity, true}, Case{kInfinity, -kInfinity, false},
        Case{kNan, 1, false}, Case{1, kNan, false}, Case{kInfinity, 1, false}, Case{1, kInfinity, false}}) {
    Pair pair;
    const std::uint32_t live = pair.engine().add_ring("model", "3", config_of(kElements));
    const Worker answers(pair.engine(), live, affine(0, each.live));
    const Worker shadow(pair.engine(), pair.shadow(), affine(0, each.shadow));
    pair.engine().publish({{"model", "3", live, true, true}});
    pair.engine().set_mirror(live, pair.shadow(), {.rtol = 0.5, .atol = 0.5});
    Client client(pair.port());
    client.send(request_of(std::string(kElements * sizeof(float), '\0')));
    std::string body;
    CHECK(client.receive_reply(body) == 200);
    while (pair.engine().mirror(live).compared == 0) std::this_thread::yield();
    const MirrorCounts counts = pair.engine().mirror(live);
    CHECK(counts.differing == (each.same ? 0 : 1));
    CHECK(counts.max_abs_difference == (each.same ? 0 : std::numeric_limits<double>::infinity()));
  }
}

void a_share_is_every_nth_row() {
  Pair pair;
  const AffineWorker shadow(pair.engine(), pair.shadow());
  Client client(pair.port());
  for (const auto& [share, expected] : {std::pair{0.25, 50U}, {0.1, 20U}, {1.0, 200U}}) {
    pair.mirror({.share = share});
    for (int i = 0; i < 200; ++i) {
      ask(client, 1);
      pair.settled();
    }
    CHECK(pair.counts().mirrored == expected);
  }
}

void a_row_that_fails_in_the_shadow_alone_is_counted() {
  Pair pair;
  const Worker shadow(pair.engine(), pair.shadow(), [](BatchTaker& taker, const TakenBatch& batch) {
    for (std::uint32_t row = 0; row < batch.rows; ++row)
      taker.fail_row(batch, row, RowError::kModelRaised, "ValueError: no");
  });
  pair.mirror({});
  Client client(pair.port());
  for (int i = 0; i < 10; ++i) ask(client, 1);
  const MirrorCounts counts = pair.settled();
  CHECK(counts.failed == 10 && counts.compared == 0);
}

// Nobody ever takes its rows: places run out, then its queue would, and every answer comes as before.
void a_dead_shadow_holds_nobody_up() {
  Pair pair;
  pair.mirror({});
  Client client(pair.port());
  for (int i = 0; i < 1000; ++i) ask(client, static_cast<float>(i));
  const MirrorCounts counts = pair.counts();
  CHECK(counts.mirrored > 0 && counts.dropped == 1000 - counts.mirrored && counts.compared == 0);
  pair.engine().clear_mirror(pair.live());
  for (int i = 0; i < 100; ++i) CHECK(!pair.engine().remove_ring(pair.shadow()));  // it has rows
  pair.engine().close_ring(pair.shadow());
  remove(pair.engine(), pair.shadow());
  ask(client, 1);
}

void a_full_shadow_drops() {
  Pair pair;
  RingConfig config = config_of(kElements);
  config.max_batch_size = 2;
  config.queue_bytes = 1 << 16;
  const std::uint32_t small = pair.engine().add_ring("model", "3", config);
  const std::uint32_t room = pair.engine().entry(small)->lane_rows(
      pair.engine().entry(small)->lane_of(penstock::batcher::RowClass::kNormal, 0));
  CHECK(room < 128);
  pair.engine().set_mirror(pair.live(), small, {});
  Client client(pair.port());
  for (int i = 0; i < 200; ++i) ask(client, 1);
  const MirrorCounts counts = pair.counts();
  CHECK(counts.mirrored == room && counts.dropped == 200 - room);
}

void a_corrupt_shadow_is_left_alone() {
  Pair pair;
  pair.mirror({});
  Client client(pair.port());
  ask(client, 1);
  pair.engine().entry(pair.shadow())->ring.close(RowError::kWorkerDied);
  for (int i = 0; i < 100; ++i) ask(client, 1);
  const MirrorCounts counts = pair.settled();
  CHECK(counts.mirrored == 1 && counts.failed == 1 && counts.dropped == 100);
}

void a_client_that_left_is_compared_all_the_same() {
  Pair pair;
  const AffineWorker shadow(pair.engine(), pair.shadow());
  pair.mirror({});
  for (std::uint64_t i = 1; i <= 50; ++i) {
    Client client(pair.port());
    client.send(request_of(bytes_of(std::vector<float>(kElements, 1))));
    while (pair.counts().mirrored < i) std::this_thread::yield();
  }
  const MirrorCounts counts = pair.settled();
  CHECK(counts.compared + counts.dropped == 50 && counts.differing == 0);  // a cancelled row may not have run
}

void what_is_too_large_is_dropped() {
  constexpr std::uint32_t kLarge = 100'000;
  Pair pair(1, kLarge);
  const AffineWorker shadow(pair.engine(), pair.shadow());
  pair.mirror({});
  Client client(pair.port());
  ask(client, 1, 1, kLarge);
  const MirrorCounts counts = pair.counts();
  CHECK(counts.mirrored == 0 && counts.dropped == 1);
}

void rows_of_varying_length_are_compared_as_far_as_they_go() {
  Pair pair;
  RingConfig config;
  const TensorSpec varies{"x", DType::kFloat32, {16}, true};
  config.schema = {RowLayout({varies}), RowLayout({{"y", DType::kFloat32, {16}, true}})};
  config.lengths = {8, 16};
  const std::uint32_t live = pair.engine().add_ring("text", "1", config);
  const std::uint32_t shadow = pair.engine().add_ring("text", "2", config);
  const AffineWorker answers(pair.engine(), live);
  // The same where there is something to compare, and different behind it.
  const Worker shadows(pair.engine(), shadow, [](BatchTaker& taker, const TakenBatch& batch) {
    const auto* x = reinterpret_cast<const float*>(taker.input(batch, 0));
    auto* y = reinterpret_cast<float*>(taker.output(batch, 0));
    const std::uint64_t room = taker.lane_schema(0, batch.lane).inputs.tensors()[0].elements();
    for (std::uint64_t i = 0; i < batch.run_rows * room; ++i) y[i] = x[i] == 0 ? -1 : 2 * x[i] + 1;
  });
  pair.engine().publish({{"text", "1", live, true, true}});
  pair.engine().set_mirror(live, shadow, {});
  Client client(pair.port());
  for (const std::string_view values : {"1", "1,2,3", "1,2,3,4,5,6,7,8,9,10"}) {
    const std::string body = "{\"inputs\":[" + std::string(values) + "]}";
    client.send("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
    std::string reply;
    CHECK(client.receive_reply(reply) == 200);
  }
  while (pair.engine().mirror(live).compared < 3) std::this_thread::yield();
  CHECK(pair.engine().mirror(live).differing == 0);
}

// What the worker answers is the row's string, where it lies elsewhere in the heap, with `end` behind it if that is
// "b".
Worker::Run echo(std::string end, std::uint32_t gap) {
  return [end, gap](BatchTaker& taker, const TakenBatch& batch) {
    const TensorSpec& in = taker.lane_schema(0, batch.lane).inputs.tensors()[0];
    const TensorSpec& out = taker.lane_schema(0, batch.lane).outputs.tensors()[0];
    for (std::uint32_t row = 0; row < batch.run_rows; ++row) {
      std::string_view text;
      CHECK(text_at(in, taker.input(batch, 0) + row * in.bytes(), 0, text));
      const std::string answer = std::string(text) + (text == "b" ? end : "");
      TextWriter writer(out, taker.output(batch, 0) + row * out.bytes());
      std::memset(writer.free(), 'z', gap);
      writer.commit(0, gap);
      CHECK(writer.append(0, answer));
    }
  };
}

void strings_are_equal_or_not() {
  Pair pair;
  RingConfig config;
  config.schema = {RowLayout({{"x", DType::kBytes, {}, false, 64}}), RowLayout({{"y", DType::kBytes, {}, false, 64}})};
  const std::uint32_t live = pair.engine().add_ring("text", "1", config);
  const std::uint32_t shadow = pair.engine().add_ring("text", "2", config);
  const Worker answers(pair.engine(), live, echo("", 0));
  const Worker shadows(pair.engine(), shadow, echo("!", 7));
  pair.engine().publish({{"text", "1", live, true, true}});
  pair.engine().set_mirror(live, shadow, {});
  Client client(pair.port());
  for (const std::string_view text : {"a", "", "b", "c"}) {
    const std::string body = "{\"inputs\":\"" + std::string(text) + "\"}";
    client.send("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
    std::string reply;
    CHECK(client.receive_reply(reply) == 200);
    CHECK(reply.ends_with("{\"y\":\"" + std::string(text) + "\"}}"));
  }
  while (pair.engine().mirror(live).compared < 4) std::this_thread::yield();
  CHECK(pair.engine().mirror(live).differing == 1);
}

bool is_refused(Engine& engine, std::uint32_t live, std::uint32_t shadow, const MirrorRules& rules = {}) {
  try {
    engine.set_mirror(live, shadow, rules);
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void a_mirror_that_makes_no_sense_is_refused() {
  Pair pair;
  Engine& engine = pair.engine();
  CHECK(is_refused(engine, pair.live(), pair.live()));
  CHECK(is_refused(engine, pair.live(), engine.add_ring("model", "3", config_of(5))));
  CHECK(is_refused(engine, pair.live(), engine.add_ring("model", "4", config_of(kElements, "z"))));
  for (const MirrorRules& rules :
       {MirrorRules{.share = 0}, MirrorRules{.share = 1.1}, MirrorRules{.share = std::nan("")}, MirrorRules{.rtol = -1},
        MirrorRules{.atol = -1}, MirrorRules{.atol = std::numeric_limits<double>::infinity()}}) {
    CHECK(is_refused(engine, pair.live(), pair.shadow(), rules));
  }
  bool known = true;
  try {
    (void)pair.counts();
  } catch (const std::invalid_argument&) {
    known = false;
  }
  CHECK(!known);
}

// A shadow becomes the live version and the old one leaves, time and again, under load.
void mirrors_come_and_go_under_load(std::uint32_t io_threads) {
  constexpr std::uint32_t kSwaps = 40;
  Pair pair(io_threads);
  Engine& engine = pair.engine();
  std::uint32_t live = engine.add_ring("model", "0", config_of(kElements));
  auto worker = std::make_unique<AffineWorker>(engine, live);
  engine.publish({{"model", "0", live, true, true}});
  std::atomic<bool> done{false};
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      Client client(pair.port());
      for (std::uint32_t asked = 0; !done.load(std::memory_order_relaxed); ++asked)
        // Blocks go back in their order: a loop that gets no processor for long holds up those of the other one, and
        // thousands of them are a full queue.
        while (!answered(client, static_cast<float>(i + 1), asked % 8 == 0 ? 20 : 1, kElements)) CHECK(io_threads > 1);
    });
  }
  for (std::uint32_t swap = 1; swap <= kSwaps; ++swap) {
    const std::uint32_t next = engine.add_ring("model", std::to_string(swap), config_of(kElements));
    auto next_worker = std::make_unique<AffineWorker>(engine, next);
    engine.set_mirror(live, next, {.share = 0.5});
    while (engine.mirror(live).compared < 20) std::this_thread::yield();
    CHECK(!engine.ring_idle(next));
    CHECK(engine.mirror(live).differing == 0 && engine.mirror(live).failed == 0);
    // Every other time the mirror goes with its ring.
    if (swap % 2 == 0) engine.clear_mirror(live);
    engine.publish({{"model", std::to_string(swap), next, true, true}});
    while (!engine.ring_idle(live)) std::this_thread::yield();
    worker = std::move(next_worker);
    remove(engine, live);
    live = next;
  }
  done.store(true, std::memory_order_relaxed);
  for (std::thread& client : clients) client.join();
  worker.reset();
}

}  // namespace

int main() {
  the_same_outputs_do_not_differ();
  a_difference_within_the_tolerance_is_none();
  what_is_no_number_equals_itself_alone();
  a_share_is_every_nth_row();
  a_row_that_fails_in_the_shadow_alone_is_counted();
  a_dead_shadow_holds_nobody_up();
  a_full_shadow_drops();
  a_corrupt_shadow_is_left_alone();
  a_client_that_left_is_compared_all_the_same();
  what_is_too_large_is_dropped();
  rows_of_varying_length_are_compared_as_far_as_they_go();
  strings_are_equal_or_not();
  a_mirror_that_makes_no_sense_is_refused();
  mirrors_come_and_go_under_load(1);
  mirrors_come_and_go_under_load(2);
}
