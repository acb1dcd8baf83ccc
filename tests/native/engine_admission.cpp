// Admission, classes, receipts, shedding, and a ring that breaks under several loops.
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "engine_fixture.hpp"

namespace {

using penstock::DType;
using penstock::RowLayout;
using penstock::batcher::CostModel;
using penstock::batcher::RowClass;
using penstock::dataplane::EngineOptions;
using penstock::dataplane::monotonic_ns;
using penstock::dataplane::RingStats;
using penstock::test::AffineWorker;
using penstock::test::Client;
using penstock::test::Server;

constexpr std::uint64_t kMs = 1'000'000;

std::string request(std::string_view model, std::string_view fields = {}) {
  return "POST /predict?model=" + std::string(model) +
         " HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n" + std::string(fields) +
         "Content-Length: 16\r\n\r\n" + std::string(16, '\0');
}

// A ring that nobody serves yet.
std::uint32_t add_idle(Server& server, std::uint64_t slo_ns) {
  penstock::batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {4}}}), RowLayout({{"y", DType::kFloat32, {4}}})};
  config.slo_ns = slo_ns;
  const std::uint32_t idle = server.engine().add_ring("idle", "1", config);
  server.engine().publish(
      {{"small", "1", 0, true, true}, {"large", "1", 1, true, true}, {"idle", "1", idle, true, true}});
  return idle;
}

// A batch takes `ns`, whatever its size.
CostModel constant_cost(float ns) {
  CostModel cost;
  cost.mean_ns_at.fill(ns);
  cost.p99_ns_at.fill(ns);
  return cost;
}

const RingStats& stats_of(Server& server, std::uint32_t ring) { return server.engine().entry(ring)->stats[0]; }

std::string field(std::string_view head, std::string_view name) {
  const std::size_t at = head.find(std::string(name) + ": ");
  if (at == std::string_view::npos) return {};
  const std::size_t begin = at + name.size() + 2;
  return std::string(head.substr(begin, head.find('\r', begin) - begin));
}

std::uint64_t count(const penstock::dataplane::TimeHistogram& histogram) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i <= penstock::dataplane::kTimeBoundsNs.size(); ++i) sum += histogram.count(i);
  return sum;
}

// Who cannot be in time hears so in the pass that read the request, whatever gave the deadline.
void refused_in_the_same_pass() {
  Server server;
  const std::uint32_t idle = add_idle(server, 50 * kMs);
  server.engine().entry(idle)->ring.set_cost(0, constant_cost(80e6F));
  Client client(server.port());
  client.send(request("small"));  // the connection is accepted afterwards, and the loop asleep
  CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
  const auto& loop = server.engine().loops()[0]->stats();
  int in_one_pass = 0;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t passes = loop.passes.get();
    client.send(request("idle", i % 2 == 0 ? "" : "X-Request-Timeout-Ms: 20\r\n"));
    const std::string head = client.receive_head();
    CHECK(head.starts_with("HTTP/1.1 503 "));
    CHECK(std::stoi(field(head, "Retry-After")) >= 1);
    in_one_pass += loop.passes.get() == passes + 1 ? 1 : 0;
  }
  CHECK(in_one_pass > 10);  // of the others the loop had a pass for its timers meanwhile; none would be, in two passes
  CHECK(stats_of(server, idle).rows_refused_deadline.get() == 100);
  CHECK(server.engine().entry(idle)->ring.counters().rows_claimed == 0);
  // The last one's time is written down after its reply was sent.
  while (count(loop.refusal) < 100) std::this_thread::yield();
  CHECK(count(loop.refusal) == 100);
  // A body that is being sent is worth nothing any more either; the connection stays in step.
  client.send(request("idle") + request("small"));
  CHECK(client.receive_head().starts_with("HTTP/1.1 503 "));
  CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
}

// Without a deadline nobody is refused, however long it will take.
void patience_is_admitted() {
  Server server;
  const std::uint32_t idle = add_idle(server, 0);
  server.engine().entry(idle)->ring.set_cost(0, constant_cost(80e6F));
  Client client(server.port());
  client.send(request("idle"));
  while (server.engine().entry(idle)->ring.counters().rows_claimed == 0) std::this_thread::yield();
  AffineWorker worker(server.engine(), idle);
  CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
}

// Admitted while nothing was known of the model, and too late when a worker comes: one that is in time goes first.
void late_row_is_shed() {
  Server server;
  const std::uint32_t idle = add_idle(server, 400 * kMs);
  const auto entry = server.engine().entry(idle);
  Client late(server.port());
  late.send(request("idle"));
  while (entry->ring.counters().rows_claimed == 0) std::this_thread::yield();
  const std::uint64_t late_ns = monotonic_ns() + 400 * kMs;
  while (monotonic_ns() < late_ns) std::this_thread::yield();
  Client early(server.port());
  early.send(request("idle"));
  while (entry->ring.counters().rows_claimed == 1) std::this_thread::yield();
  entry->ring.set_cost(0, constant_cost(1e6F));
  AffineWorker worker(server.engine(), idle);
  CHECK(early.receive_head().starts_with("HTTP/1.1 200 "));
  const std::string head = late.receive_head();
  CHECK(head.starts_with("HTTP/1.1 503 "));
  CHECK(!field(head, "Retry-After").empty());
  CHECK(stats_of(server, idle).rows_shed.get() == 1 && stats_of(server, idle).rows_failed.get() == 0);
}

// Models of one group share workers: what the others want counts, up to their share, unless they may take longer.
void others_of_the_group_count() {
  struct Case {
    const char* group;
    std::uint32_t weight;  // of the other model
    std::uint64_t slo_ns;
    bool admitted;
  };
  // No worker is there, so a second is counted until one has started; the model itself needs 10 ms after that.
  for (const Case& each : {Case{"shared", 100, 0, false}, Case{"shared", 10, 0, true}, Case{"apart", 100, 0, true},
                           Case{"shared", 100, 60'000 * kMs, true}}) {
    Server server;
    penstock::batcher::RingConfig config;
    config.schema = {RowLayout({{"x", DType::kFloat32, {4}}}), RowLayout({{"y", DType::kFloat32, {4}}})};
    const std::uint32_t mine = server.engine().add_ring("mine", "1", config, "shared");
    config.weight = each.weight;
    config.slo_ns = each.slo_ns;
    const std::uint32_t theirs = server.engine().add_ring("theirs", "1", config, each.group);
    server.engine().publish({{"mine", "1", mine, true, true}, {"theirs", "1", theirs, true, true}});
    server.engine().entry(mine)->ring.set_cost(0, constant_cost(10e6F));
    server.engine().entry(theirs)->ring.set_cost(0, constant_cost(200e6F));
    Client others(server.port());
    const std::string rows(std::size_t{1000} * 16, '\0');
    others.send(
        "POST /predict?model=theirs HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nAccept: "
        "application/octet-stream\r\nContent-Length: " +
        std::to_string(rows.size()) + "\r\n\r\n" + rows);
    while (server.engine().entry(theirs)->ring.counters().rows_claimed < 1000) std::this_thread::yield();
    Client client(server.port());
    client.send(request("mine", "X-Request-Timeout-Ms: 2000\r\n"));
    if (each.admitted) {
      while (server.engine().entry(mine)->ring.counters().rows_claimed == 0) std::this_thread::yield();
    } else {
      CHECK(client.receive_head().starts_with("HTTP/1.1 503 "));
    }
    CHECK(stats_of(server, mine).rows_refused_deadline.get() == (each.admitted ? 0 : 1));
  }
}

void rows_go_to_the_lane_of_their_class() {
  Server server;
  Client client(server.port());
  const std::pair<const char*, RowClass> cases[] = {
      {"", RowClass::kNormal},
      {"X-Request-Priority: normal\r\n", RowClass::kNormal},
      {"X-Request-Priority: interactive\r\n", RowClass::kInteractive},
      {"X-Request-Priority: batch\r\n", RowClass::kBatch},
      {"X-Penstock-Reproducible: false\r\nX-Request-Priority: batch\r\n", RowClass::kBatch},
      {"X-Penstock-Reproducible: true\r\nX-Request-Priority: batch\r\n", RowClass::kReproducible},
  };
  for (const auto& [fields, row_class] : cases) {
    const auto& counter = stats_of(server, 0).rows_by_class[static_cast<std::size_t>(row_class)];
    const std::uint64_t before = counter.get();
    client.send(request("small", fields));
    CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
    CHECK(counter.get() == before + 1);
  }
}

void receipts() {
  Server server;
  Client client(server.port());
  client.send(request("small"));
  CHECK(client.receive_head().find("X-Penstock-") == std::string::npos);
  const std::string rows(2 * 16, '\0');
  const std::string large(4 * Server::kLargeElements, '\0');
  const std::string fields =
      "X-Penstock-Receipt: true\r\nAccept: application/octet-stream\r\nContent-Type: "
      "application/octet-stream\r\n";
  for (const auto& [model, body] : {std::pair{"small", rows.substr(16)}, {"small", rows}, {"large", large}}) {
    client.send(std::string("POST /predict?model=") + model + " HTTP/1.1\r\nHost: a\r\n" + fields +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    const std::string head = client.receive_head();
    CHECK(head.starts_with("HTTP/1.1 200 "));
    CHECK(std::stoull(field(head, "X-Penstock-Batch-Us")) >= std::stoull(field(head, "X-Penstock-Run-Us")));
    CHECK(std::stoull(field(head, "X-Penstock-Queue-Us")) < 60'000'000);
    CHECK(std::stoi(field(head, "X-Penstock-Batch-Rows")) >= 1);
    CHECK(field(head, "X-Penstock-Padding") == "0.000");
    CHECK(field(head, "X-Penstock-Sealed") == "idle");
    CHECK(field(head, "X-Penstock-Model-Version") == "1");
    CHECK(field(head, "X-Penstock-Instance") == "0");
  }
}

// A prediction is compared with what came of it.
void predictions_are_judged() {
  Server server;
  const std::uint32_t idle = add_idle(server, 10'000 * kMs);
  const auto entry = server.engine().entry(idle);
  AffineWorker worker(server.engine(), idle);
  Client client(server.port());
  client.send(request("idle"));
  CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
  entry->ring.set_cost(0, constant_cost(5e9F));
  client.send(request("idle"));
  CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
  // 5 s were predicted; it took far less than one: over 5 times off.
  CHECK(stats_of(server, idle).prediction_error.count(penstock::dataplane::kShareBounds.size()) == 1);
}

// Whatever has run teaches what the next batch will take.
void batches_are_learned() {
  Server server;
  const std::uint32_t idle = add_idle(server, 10'000 * kMs);
  const auto entry = server.engine().entry(idle);
  AffineWorker worker(server.engine(), idle);
  Client client(server.port());
  CHECK(!entry->ring.cost().is_known());
  for (int i = 0; i < 200; ++i) {
    client.send(request("idle"));
    CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
  }
  CHECK(entry->ring.cost().is_known());
  CHECK(entry->costs.look().batches() == 200);  // one loop: none was dropped
  CHECK(entry->ring.cost().mean_ns(1) < 10 * kMs);

  // Warm-up says it before anything has run.
  const std::uint32_t other = add_idle(server, 0);
  const std::array<penstock::batcher::CostSample, 4> samples{
      {{1, 2 * kMs}, {1, 2 * kMs}, {64, 20 * kMs}, {64, 20 * kMs}}};
  server.engine().entry(other)->costs.seed(0, samples);
  const CostModel cost = server.engine().entry(other)->ring.cost();
  CHECK(cost.mean_ns(1) > kMs && cost.mean_ns(1) < 3 * kMs && cost.mean_ns(64) > 15 * kMs);
}

// The claim that finds a ring broken wakes the loops that have rows in it: none waits for its safety net.
void broken_ring_wakes_all_loops() {
  EngineOptions options;
  options.io_threads = 4;
  Server server(options);
  const std::uint32_t idle = add_idle(server, 0);
  const auto entry = server.engine().entry(idle);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(request("idle"));
  }
  while (entry->ring.counters().rows_claimed < clients.size()) std::this_thread::yield();
  struct stat size{};
  CHECK(::fstat(entry->ring.fd(), &size) == 0);
  const auto bytes = static_cast<std::size_t>(size.st_size);
  void* const region = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, entry->ring.fd(), 0);
  CHECK(region != MAP_FAILED);
  std::memset(region, 0xff, bytes);
  Client finder(server.port());
  finder.send(request("idle"));
  CHECK(finder.receive_head().starts_with("HTTP/1.1 503 "));
  for (const auto& client : clients) CHECK(client->receive_head().starts_with("HTTP/1.1 5"));
  for (const auto& loop : server.engine().loops()) CHECK(loop->stats().lost_wakeups.get() == 0);
  ::munmap(region, bytes);
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each :
       {Case{"refused_in_the_same_pass", refused_in_the_same_pass}, Case{"patience_is_admitted", patience_is_admitted},
        Case{"late_row_is_shed", late_row_is_shed}, Case{"others_of_the_group_count", others_of_the_group_count},
        Case{"rows_go_to_the_lane_of_their_class", rows_go_to_the_lane_of_their_class}, Case{"receipts", receipts},
        Case{"predictions_are_judged", predictions_are_judged}, Case{"batches_are_learned", batches_are_learned},
        Case{"broken_ring_wakes_all_loops", broken_ring_wakes_all_loops}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
