// Equal requests through a whole data plane: what runs, what does not, and what clients are told.
#include "cache_fixture.hpp"

namespace {

using penstock::batcher::BatchTaker;
using penstock::batcher::RowError;
using penstock::dataplane::Engine;
using penstock::dataplane::RingStats;
using penstock::test::CachingServer;
using penstock::test::Client;
using penstock::test::config_of;
using penstock::test::GatedWorker;
using penstock::test::leave;
using penstock::test::receive;
using penstock::test::Reply;

std::string values_of(float value, std::size_t elements = 4) {
  const std::vector<float> x(elements, value);
  return {reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float)};
}

std::string request_of(float value, std::string_view fields = {}, std::size_t elements = 4) {
  const std::string body = values_of(value, elements);
  return "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nAccept: "
         "application/octet-stream\r\n" +
         std::string(fields) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

Reply ask(Client& client, float value, std::string_view fields = {}, std::size_t elements = 4) {
  client.send(request_of(value, fields, elements));
  return receive(client);
}

constexpr std::string_view kReceipt = "X-Penstock-Receipt: true\r\n";

void equal_inputs_run_once() {
  CachingServer server;
  Client client(server.port());
  const Reply first = ask(client, 3, kReceipt);
  CHECK(first.status == 200 && first.body == values_of(7));
  CHECK(!first.says("X-Penstock-Cache") && !first.says("Age: "));
  const Reply again = ask(client, 3, kReceipt);
  CHECK(again.status == 200 && again.body == values_of(7));
  CHECK(again.says("X-Penstock-Cache: hit\r\n") && again.says("Age: 0\r\n") && again.says("Model-Version: 1\r\n"));
  CHECK(!again.says("X-Penstock-Batch-Us"));
  const Reply plain = ask(client, 3);
  CHECK(plain.says("Age: 0\r\n") && !plain.says("X-Penstock-Cache"));
  CHECK(ask(client, 4).body == values_of(9));
  CHECK(server.worker().rows() == 2);
  CHECK(server.count(&RingStats::cache_hits) == 2 && server.count(&RingStats::cache_misses) == 2);
  CHECK(server.account().rows == 2 && server.account().bytes > 64);
}

// Another encoding of the same row is the same row.
void encodings_share_an_answer() {
  CachingServer server;
  Client client(server.port());
  CHECK(ask(client, 3).status == 200);
  const std::string body = R"({"inputs": [3, 3.0, 30e-1, 3]})";
  client.send("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body);
  const Reply reply = receive(client);
  CHECK(reply.status == 200 && reply.says("Age: 0"));
  CHECK(reply.body == R"({"model":"model","version":"1","outputs":{"y":[7.0,7.0,7.0,7.0]}})");
  CHECK(server.worker().rows() == 1);
}

void a_request_may_say_that_it_wants_a_run() {
  CachingServer server;
  Client client(server.port());
  CHECK(ask(client, 3).status == 200);
  for (const std::string_view fields : {"Cache-Control: no-cache\r\n", "cache-control: foo, No-Cache\r\n",
                                        "Cache-Control: max-age=0\r\n", "Cache-Control: no-store\r\n"}) {
    const Reply reply = ask(client, 3, fields);
    CHECK(reply.body == values_of(7) && !reply.says("Age"));
  }
  CHECK(server.worker().rows() == 5);
  CHECK(ask(client, 3, "Cache-Control: max-age=60\r\n").says("Age"));
  // What is not to be stored is not.
  CHECK(ask(client, 5, "Cache-Control: no-store\r\n").status == 200);
  CHECK(server.account().rows == 1);
  CHECK(ask(client, 6, "Cache-Control: no-cache\r\n").status == 200);
  CHECK(ask(client, 6).says("Age"));
}

void reproducible_rows_have_answers_of_their_own() {
  CachingServer server;
  Client client(server.port());
  CHECK(ask(client, 3).status == 200);
  constexpr std::string_view kReproducible = "X-Penstock-Reproducible: true\r\n";
  CHECK(!ask(client, 3, kReproducible).says("Age"));
  CHECK(ask(client, 3, kReproducible).says("Age"));
  CHECK(server.worker().rows() == 2);
}

void an_error_runs_again() {
  CachingServer server;
  Client client(server.port());
  for (int i = 0; i < 3; ++i) {
    const Reply reply = ask(client, -1);
    CHECK(reply.status == 500 && reply.body.find("ValueError: below zero") != std::string::npos);
  }
  CHECK(server.worker().rows() == 3 && server.account().rows == 0);
}

void equal_requests_at_once_run_once(std::uint32_t io_threads, float value, int status) {
  constexpr std::uint64_t kClients = 20;
  CachingServer server(io_threads);
  server.worker().close();
  std::vector<std::unique_ptr<Client>> clients;
  for (std::uint64_t i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(request_of(value, kReceipt));
    if (i == 0) server.await_rows(1);
  }
  server.await(&RingStats::cache_coalesced, kClients - 1);
  server.worker().open();
  int coalesced = 0;
  for (const auto& client : clients) {
    const Reply reply = receive(*client);
    CHECK(reply.status == status);
    if (status == 200) CHECK(reply.body == values_of(2 * value + 1));
    if (reply.says("X-Penstock-Cache: coalesced\r\n")) {
      ++coalesced;
      CHECK(reply.says("X-Penstock-Batch-Rows: 1\r\n") && !reply.says("Age"));
    }
  }
  CHECK(coalesced == (status == 200 ? static_cast<int>(kClients) - 1 : 0));
  CHECK(server.worker().rows() == 1);
  CHECK(server.engine().entry(server.ring())->is_unused());
}

void a_first_client_that_leaves_strands_nobody(std::uint32_t io_threads) {
  CachingServer server(io_threads);
  server.worker().close();
  auto first = std::make_unique<Client>(server.port());
  first->send(request_of(3));
  server.await_rows(1);
  Client second(server.port());
  second.send(request_of(3));
  server.await(&RingStats::cache_coalesced, 1);
  leave(first);
  server.await(&RingStats::rows_cancelled, 1);
  Client third(server.port());
  third.send(request_of(3));  // it still runs, so it may be joined
  server.await(&RingStats::cache_coalesced, 2);
  server.worker().open();
  CHECK(receive(second).body == values_of(7));
  CHECK(receive(third).body == values_of(7));
  CHECK(server.worker().rows() == 1);
}

void a_row_that_everybody_left_is_cancelled() {
  CachingServer server;
  server.worker().close();
  auto only = std::make_unique<Client>(server.port());
  only->send(request_of(3));
  server.await_rows(1);
  leave(only);
  server.await(&RingStats::rows_cancelled, 1);
  Client next(server.port());
  next.send(request_of(3));
  server.await_rows(2);
  server.worker().open();
  CHECK(receive(next).body == values_of(7));
}

// The one that waits has less time than the one that runs: it runs itself. One with as much waits, and hears in time.
void a_deadline_counts_for_whom_it_is_given() {
  CachingServer server;
  server.worker().close();
  Client first(server.port());
  Client second(server.port());
  Client third(server.port());
  first.send(request_of(3, "X-Request-Timeout-Ms: 100\r\n"));
  server.await_rows(1);
  second.send(request_of(3));
  third.send(request_of(3, "X-Request-Timeout-Ms: 10\r\n"));
  server.await(&RingStats::cache_coalesced, 1);
  CHECK(receive(third).status == 504);
  CHECK(receive(first).status == 504);
  server.worker().open();
  CHECK(receive(second).body == values_of(7));
}

// Of a row that a worker drops since its own request would be late: who waited for it and has more time runs anew.
void a_row_that_is_shed_takes_nobody_along(std::uint32_t io_threads) {
  CachingServer server(io_threads);
  server.worker().close();
  Client first(server.port());
  Client second(server.port());
  first.send(request_of(3, "X-Request-Timeout-Ms: 60000\r\n"));
  server.await_rows(1);
  second.send(request_of(3));
  server.await(&RingStats::cache_coalesced, 1);
  BatchTaker taker = [&] {
    std::vector<int> event_fds;
    for (const auto& loop : server.engine().loops()) event_fds.push_back(loop->event_fd());
    return BatchTaker(server.engine().entry(server.ring())->ring.fd(), event_fds, 1);
  }();
  auto batch = taker.take(10'000);
  CHECK(batch.has_value() && batch->rows == 1);
  taker.fail_row(*batch, 0, RowError::kShed, "");
  taker.complete(std::move(*batch));
  CHECK(receive(first).status == 503);
  server.await_rows(2);
  server.worker().open();
  CHECK(receive(second).body == values_of(7));
}

// 100,000 bytes a row: through the arena of the ring.
void large_rows_are_kept_and_huge_ones_are_not() {
  for (const auto& [elements, runs] : {std::pair{25'000U, 1U}, {100'000U, 2U}}) {
    CachingServer server(1, elements);
    Client client(server.port());
    for (int i = 0; i < 2; ++i) CHECK(ask(client, 3, {}, elements).body == values_of(7, elements));
    CHECK(server.worker().rows() == runs);
  }
}

void a_new_version_knows_nothing_of_the_old_one() {
  CachingServer server;
  Engine& engine = server.engine();
  Client client(server.port());
  CHECK(ask(client, 3).body == values_of(7));
  std::uint32_t before = server.ring();
  std::unique_ptr<GatedWorker> worker_before;
  std::vector<std::uint32_t> ids;
  for (int version = 2; version <= 6; ++version) {
    const std::uint32_t ring = engine.add_ring("model", std::to_string(version), config_of(), {}, 3600);
    auto worker = std::make_unique<GatedWorker>(engine, ring, static_cast<float>(version));
    engine.publish({{"model", std::to_string(version), ring, true, true}});
    const std::string expected = values_of(7 + static_cast<float>(version));
    while (ask(client, 3).body != expected) std::this_thread::yield();  // a loop may have the old table in this pass
    for (int i = 0; i < 10; ++i) CHECK(ask(client, 3).body == expected);
    CHECK(worker->rows() == 1);
    while (!engine.remove_ring(before)) std::this_thread::yield();
    worker_before = std::move(worker);
    ids.push_back(before);
    before = ring;
  }
  CHECK(ids[0] == ids[2]);  // numbers of rings are used again
  engine.stop();
}

// A shadow sees its share of the requests, though most of them are hits.
void a_shadow_sees_hits_too() {
  CachingServer server;
  Engine& engine = server.engine();
  const std::uint32_t ring = engine.add_ring("model", "2", config_of());
  const GatedWorker shadow(engine, ring);
  Client client(server.port());
  CHECK(ask(client, 3).body == values_of(7));
  engine.set_mirror(server.ring(), ring, {.share = 0.25});
  for (int i = 0; i < 100; ++i) {
    CHECK(ask(client, 3).body == values_of(7));
    while (engine.mirror(server.ring()).compared + engine.mirror(server.ring()).dropped <
           engine.mirror(server.ring()).mirrored)
      std::this_thread::yield();
  }
  CHECK(engine.mirror(server.ring()).mirrored == 25 && engine.mirror(server.ring()).differing == 0);
  CHECK(server.worker().rows() == 26);
  engine.stop();
}

// Forbidden: an answer of another input or version, a request without an answer, a data race.
void many_clients_ask_alike_while_versions_change(std::uint32_t io_threads) {
  CachingServer server(io_threads);
  Engine& engine = server.engine();
  std::atomic<bool> done{false};
  std::vector<std::thread> clients;
  for (std::uint32_t i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      auto client = std::make_unique<Client>(server.port());
      for (std::uint32_t asked = i; !done.load(std::memory_order_relaxed); ++asked) {
        const auto x = static_cast<float>(asked % 5);
        const Reply reply = ask(*client, x, asked % 11 == 0 ? "Cache-Control: no-cache\r\n" : "");
        CHECK(reply.status == 200);
        float y = 0;
        std::memcpy(&y, reply.body.data(), sizeof y);
        const float version = y - (2 * x + 1);
        CHECK(version >= 0 && version <= 100 && static_cast<float>(static_cast<int>(version)) == version);
        if (asked % 50 != 0) continue;
        client->send(request_of(x));
        leave(client);
        client = std::make_unique<Client>(server.port());
      }
    });
  }
  std::uint32_t before = server.ring();
  std::unique_ptr<GatedWorker> worker_before;
  for (int version = 2; version <= 30; ++version) {
    const std::uint32_t ring = engine.add_ring("model", std::to_string(version), config_of(), {}, 3600);
    auto worker = std::make_unique<GatedWorker>(engine, ring, static_cast<float>(version));
    engine.publish({{"model", std::to_string(version), ring, true, true}});
    while (engine.entry(ring)->stats[0].cache_hits.get() < 20) std::this_thread::yield();
    while (!engine.remove_ring(before)) std::this_thread::yield();
    worker_before = std::move(worker);
    before = ring;
  }
  done.store(true, std::memory_order_relaxed);
  for (std::thread& client : clients) client.join();
  engine.stop();
}

}  // namespace

int main() {
  equal_inputs_run_once();
  encodings_share_an_answer();
  a_request_may_say_that_it_wants_a_run();
  reproducible_rows_have_answers_of_their_own();
  an_error_runs_again();
  for (const std::uint32_t io_threads : {1U, 2U}) {
    equal_requests_at_once_run_once(io_threads, 3, 200);
    equal_requests_at_once_run_once(io_threads, -1, 500);
    a_first_client_that_leaves_strands_nobody(io_threads);
    a_row_that_is_shed_takes_nobody_along(io_threads);
    many_clients_ask_alike_while_versions_change(io_threads);
  }
  a_row_that_everybody_left_is_cancelled();
  a_deadline_counts_for_whom_it_is_given();
  large_rows_are_kept_and_huge_ones_are_not();
  a_new_version_knows_nothing_of_the_old_one();
  a_shadow_sees_hits_too();
}
