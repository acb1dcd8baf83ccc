// Requests of many rows beside the result cache: which of their rows run, and what comes of those that do not.
#include <numeric>
#include <random>

#include "cache_fixture.hpp"

namespace {

using penstock::batcher::BatchTaker;
using penstock::batcher::RowError;
using penstock::dataplane::RingStats;
using penstock::test::CachingServer;
using penstock::test::Client;
using penstock::test::leave;
using penstock::test::receive;
using penstock::test::Reply;

constexpr std::size_t kElements = 4;
constexpr std::string_view kReceipt = "X-Penstock-Receipt: true\r\n";

// A row for each value.
std::string rows_of(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    for (std::size_t i = 0; i < kElements; ++i) bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

std::vector<float> answers_of(std::vector<float> values) {
  for (float& value : values) value = 2 * value + 1;
  return values;
}

std::string raw_request(const std::vector<float>& values, std::string_view fields = {}) {
  const std::string body = rows_of(values);
  return "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nAccept: "
         "application/octet-stream\r\n" +
         std::string(fields) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

Reply ask(Client& client, const std::vector<float>& values, std::string_view fields = {}) {
  client.send(raw_request(values, fields));
  return receive(client);
}

std::string json_request(const std::vector<float>& values) {
  std::string body = R"({"inputs": [)";
  for (const float value : values) {
    const std::string number = std::to_string(value);
    body += (body.ends_with('[') ? "[" : ", [") + number;
    for (std::size_t i = 1; i < kElements; ++i) body += ", " + number;
    body += ']';
  }
  body += "]}";
  return "POST /predict/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::vector<float> range(float first, float last) {
  std::vector<float> values(static_cast<std::size_t>(last - first));
  std::iota(values.begin(), values.end(), first);
  return values;
}

void known_rows_do_not_run() {
  CachingServer server;
  Client client(server.port());
  CHECK(ask(client, range(0, 90)).body == rows_of(answers_of(range(0, 90))));
  CHECK(server.worker().rows() == 90 && server.count(&RingStats::cache_misses) == 90);
  const Reply more = ask(client, range(0, 100), kReceipt);
  CHECK(more.body == rows_of(answers_of(range(0, 100))));
  CHECK(server.worker().rows() == 100 && server.count(&RingStats::cache_hits) == 90);
  CHECK(!more.says("X-Penstock-Cache") && !more.says("Age: ") && more.says("X-Penstock-Batch-Us"));
  const Reply all = ask(client, range(0, 100), kReceipt);
  CHECK(all.body == more.body && server.worker().rows() == 100);
  CHECK(all.says("X-Penstock-Cache: hit\r\n") && all.says("Age: 0\r\n") && !all.says("X-Penstock-Batch-Us"));
  // Whoever asks for one row finds them as well, and the other way round.
  CHECK(ask(client, {7}).says("Age: 0"));
  CHECK(ask(client, {200}).status == 200 && ask(client, {200, 7}).says("Age: 0"));
  CHECK(server.worker().rows() == 101 && server.account().rows == 101);
}

void equal_rows_of_a_request_run_once() {
  CachingServer server;
  Client client(server.port());
  std::vector<float> values(500, 3);
  values[250] = 4;
  const Reply reply = ask(client, values, kReceipt);
  CHECK(reply.status == 200 && reply.body == rows_of(answers_of(values)));
  CHECK(server.worker().rows() == 2 && server.count(&RingStats::cache_coalesced) == 498);
  CHECK(reply.says("X-Penstock-Batch-Us") && !reply.says("X-Penstock-Cache"));
  CHECK(server.engine().entry(server.ring())->is_unused());
}

void a_request_may_say_that_it_wants_a_run() {
  CachingServer server;
  Client client(server.port());
  CHECK(ask(client, {1, 2}, "Cache-Control: no-store\r\n").status == 200);
  CHECK(server.account().rows == 0);
  CHECK(ask(client, {1, 2}).status == 200);
  CHECK(!ask(client, {1, 2}, "Cache-Control: no-cache\r\n").says("Age"));
  CHECK(server.worker().rows() == 6 && server.account().rows == 2);
  CHECK(ask(client, {1, 2}).says("Age"));
}

// Row by row where the reply has a place for it, else for all.
void a_failure_is_that_of_its_equals() {
  CachingServer server;
  Client client(server.port());
  client.send(json_request({1, -1, 2, -1, 1}));
  const Reply reply = receive(client);
  CHECK(reply.status == 200 && server.worker().rows() == 3);
  std::size_t failures = 0;
  for (std::size_t at = 0; (at = reply.body.find("ValueError: below zero", at)) != std::string::npos; ++at) ++failures;
  CHECK(failures == 2 && reply.body.find("[3.0,3.0,3.0,3.0]") != std::string::npos);
  const Reply raw = ask(client, {1, -1, -1, 9});
  CHECK(raw.status == 500 && raw.body.find("row ") != std::string::npos);
  CHECK(ask(client, {1, 2, 9}).body == rows_of({3, 5, 19}));
  while (!server.engine().entry(server.ring())->is_unused()) std::this_thread::yield();
}

// Refused rows are not looked for, and known ones stay in their places.
void rows_that_do_not_fit_stand_between_known_ones() {
  CachingServer server;
  Client client(server.port());
  CHECK(ask(client, {1, 3}).status == 200);
  const std::string body = R"({"inputs": [[1, 1, 1, 1], [2], [3, 3, 3, 3], "x"]})";
  client.send("POST /predict/batch HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" + std::string(kReceipt) +
              "X-Request-Timeout-Ms: 60000\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  const Reply reply = receive(client);
  CHECK(reply.status == 200 && server.worker().rows() == 2 && reply.says("X-Penstock-Cache: hit"));
  CHECK(reply.body.find("[3.0,3.0,3.0,3.0]") != std::string::npos);
  CHECK(reply.body.find("[7.0,7.0,7.0,7.0]") != std::string::npos);
}

void requests_wait_for_each_others_rows(std::uint32_t io_threads) {
  CachingServer server(io_threads);
  server.worker().close();
  auto first = std::make_unique<Client>(server.port());
  first->send(raw_request(range(0, 20)));
  server.await_rows(20);
  Client second(server.port());
  second.send(raw_request(range(10, 30)));
  server.await_rows(30);
  server.await(&RingStats::cache_coalesced, 10);
  Client third(server.port());
  third.send(raw_request({15}));
  server.await(&RingStats::cache_coalesced, 11);
  // Ten of the first one's rows are wanted by others.
  leave(first);
  server.await(&RingStats::rows_cancelled, 20);
  server.worker().open();
  CHECK(receive(second).body == rows_of(answers_of(range(10, 30))));
  CHECK(receive(third).body == rows_of({31}));
  while (!server.engine().entry(server.ring())->is_unused()) std::this_thread::yield();
}

// Who waits leaves first: nothing is told to anybody who is gone.
void a_request_that_waits_may_leave(std::uint32_t io_threads) {
  CachingServer server(io_threads);
  server.worker().close();
  Client first(server.port());
  first.send(raw_request(range(0, 20)));
  server.await_rows(20);
  auto second = std::make_unique<Client>(server.port());
  second->send(raw_request(range(0, 21)));
  server.await_rows(21);
  leave(second);
  server.await(&RingStats::rows_cancelled, 1);
  server.worker().open();
  CHECK(receive(first).body == rows_of(answers_of(range(0, 20))));
  while (!server.engine().entry(server.ring())->is_unused()) std::this_thread::yield();
}

// Of rows that a worker drops since their own request would be late: who waited for them and has more time runs anew.
void rows_that_are_shed_take_nobody_along(std::uint32_t io_threads) {
  CachingServer server(io_threads);
  server.worker().close();
  Client first(server.port());
  first.send(raw_request({1, 2, 3}, "X-Request-Timeout-Ms: 60000\r\n"));
  server.await_rows(3);
  Client second(server.port());
  second.send(raw_request({3, 2, 1}));
  server.await(&RingStats::cache_coalesced, 3);
  BatchTaker taker = [&] {
    std::vector<int> event_fds;
    for (const auto& loop : server.engine().loops()) event_fds.push_back(loop->event_fd());
    return BatchTaker(server.engine().entry(server.ring())->ring.fd(), event_fds, 1);
  }();
  for (std::uint32_t dropped = 0; dropped < 3;) {
    auto batch = taker.take(10'000);
    CHECK(batch.has_value());
    for (std::uint32_t row = 0; row < batch->rows; ++row) taker.fail_row(*batch, row, RowError::kShed, "");
    dropped += batch->rows;
    taker.complete(std::move(*batch));
  }
  CHECK(receive(first).status == 503);
  server.await_rows(6);
  server.worker().open();
  CHECK(receive(second).body == rows_of({7, 5, 3}));
  while (!server.engine().entry(server.ring())->is_unused()) std::this_thread::yield();
}

// Forbidden: an answer of another row, a request without an answer, a row that is counted as out for ever.
void many_requests_of_many_rows(std::uint32_t io_threads) {
  CachingServer server(io_threads);
  std::vector<std::thread> clients;
  for (unsigned seed = 0; seed < 4; ++seed) {
    clients.emplace_back([&server, seed] {
      std::mt19937 random(seed);
      auto client = std::make_unique<Client>(server.port());
      for (int round = 0; round < 40; ++round) {
        std::vector<float> values(1 + random() % 5000);
        const std::uint64_t spread = 1 + random() % 20'000;
        for (float& value : values) value = static_cast<float>(random() % spread);
        CHECK(ask(*client, values).body == rows_of(answers_of(values)));
        if (round % 8 != 0) continue;
        client->send(raw_request(values));
        leave(client);
        client = std::make_unique<Client>(server.port());
      }
    });
  }
  for (std::thread& client : clients) client.join();
  while (!server.engine().entry(server.ring())->is_unused()) std::this_thread::yield();
  CHECK(server.count(&RingStats::cache_hits) > 0 && server.count(&RingStats::cache_coalesced) > 0);
}

}  // namespace

int main() {
  known_rows_do_not_run();
  equal_rows_of_a_request_run_once();
  a_request_may_say_that_it_wants_a_run();
  a_failure_is_that_of_its_equals();
  rows_that_do_not_fit_stand_between_known_ones();
  for (const std::uint32_t io_threads : {1U, 2U}) {
    requests_wait_for_each_others_rows(io_threads);
    a_request_that_waits_may_leave(io_threads);
    rows_that_are_shed_take_nobody_along(io_threads);
    many_requests_of_many_rows(io_threads);
  }
}
