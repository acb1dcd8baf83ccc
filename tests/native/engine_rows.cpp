// Requests of many rows: split over batches, rejoined in order, refused or abandoned as one.
#include <algorithm>

#include "engine_fixture.hpp"

namespace {

using penstock::DType;
using penstock::RowLayout;
using penstock::dataplane::RingStats;
using penstock::test::AffineWorker;
using penstock::test::Client;
using penstock::test::Server;

constexpr std::string_view kRawReply = "Accept: application/octet-stream\r\n";

std::string request(std::string_view model, std::string_view body, std::string_view fields = kRawReply) {
  return "POST /predict?model=" + std::string(model) +
         " HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n" + std::string(fields) +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

// Element i of the request is first + i, so that every row of every request is another one.
std::string floats(std::size_t count, float first, bool answered = false) {
  std::string bytes(count * sizeof(float), '\0');
  for (std::size_t i = 0; i < count; ++i) {
    const float x = first + static_cast<float>(i);
    const float value = answered ? 2 * x + 1 : x;
    std::memcpy(bytes.data() + i * sizeof value, &value, sizeof value);
  }
  return bytes;
}

void expect_rows(Client& client, std::string_view model, std::size_t elements, float first) {
  client.send(request(model, floats(elements, first)));
  std::string body;
  CHECK(client.receive_reply(body) == 200);
  CHECK(body == floats(elements, first, true));
}

void expect_refusal(Client& client, const std::string& bytes, int status, std::string_view detail) {
  client.send(bytes);
  std::string body;
  CHECK(client.receive_reply(body) == status);
  if (body.find(detail) == std::string::npos) std::fprintf(stderr, "%s\n", body.c_str());
  CHECK(body.find(detail) != std::string::npos);
}

std::uint64_t sum_of(Server& server, std::uint32_t ring, const penstock::dataplane::Counter RingStats::* member) {
  std::uint64_t sum = 0;
  for (const RingStats& stats : server.engine().entry(ring)->stats) sum += (stats.*member).get();
  return sum;
}

// A ring that nobody serves yet, of 4 floats.
std::uint32_t add_idle(Server& server, DType dtype = DType::kFloat32, std::uint64_t queue_bytes = 64 << 20) {
  penstock::batcher::RingConfig config;
  config.schema = {RowLayout({{"x", dtype, {4}}}), RowLayout({{"y", DType::kFloat32, {4}}})};
  config.queue_bytes = queue_bytes;
  config.max_batch_size = 16;
  const std::uint32_t idle = server.engine().add_ring("idle", "1", config);
  server.engine().publish(
      {{"small", "1", 0, true, true}, {"large", "1", 1, true, true}, {"idle", "1", idle, true, true}});
  return idle;
}

void rows_come_back_in_order() {
  Server server;
  Client client(server.port());
  float first = 0;
  for (std::size_t rows = 1; rows <= 300; rows += rows < 20 ? 1 : 37) {
    expect_rows(client, "small", 4 * rows, first);
    first += static_cast<float>(4 * rows);
  }
  CHECK(sum_of(server, 0, &RingStats::batches_done) > 10);
}

// Rows of many requests share batches, and each request gets its own.
void requests_share_batches() {
  penstock::dataplane::EngineOptions options;
  options.io_threads = 2;
  Server server(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(std::make_unique<Client>(server.port()));
  for (int round = 0; round < 50; ++round) {
    const auto first = [round](std::size_t i) {
      return static_cast<float>(round * 10'000) + static_cast<float>(i * 1000);
    };
    const auto elements = [round](std::size_t i) { return 4 * (1 + (i * 7 + static_cast<std::size_t>(round)) % 40); };
    for (std::size_t i = 0; i < clients.size(); ++i)
      clients[i]->send(request("small", floats(elements(i), first(i))) + request("small", floats(4, first(i))));
    for (std::size_t i = 0; i < clients.size(); ++i) {
      std::string body;
      CHECK(clients[i]->receive_reply(body) == 200);
      CHECK(body == floats(elements(i), first(i), true));
      body.clear();
      CHECK(clients[i]->receive_reply(body) == 200 && body == floats(4, first(i), true));
    }
  }
}

// Rows in the arena, a body and a reply of megabytes: submitted over several passes.
void large_rows() {
  Server server;
  Client client(server.port());
  for (std::size_t rows = 1; rows <= 5; ++rows)
    expect_rows(client, "large", rows * Server::kLargeElements, static_cast<float>(rows));
}

void refusals() {
  Server server;
  const std::uint32_t flags = add_idle(server, DType::kBool);
  constexpr std::uint32_t kRowsMax = penstock::dataplane::kRequestRowsMax;
  CHECK(flags > 0);
  Client client(server.port());
  expect_refusal(client, request("small", floats(8, 0), ""), 406, "2 rows");
  expect_refusal(client, request("small", floats(7, 0)), 422, "16 bytes");
  expect_refusal(client, request("small", floats(4, 0) + "x"), 422, "16 bytes");
  std::string many = request("idle", std::string(std::size_t{4} * (kRowsMax + 1), '\0'));
  expect_refusal(client, many, 413, std::to_string(4 * kRowsMax));  // bytes
  Client other(server.port());
  expect_refusal(other, many.replace(many.find("/predict"), 8, "/predict/batch"), 413, std::to_string(kRowsMax));
  std::string wrong(4 * 40, '\1');
  wrong[4 * 37 + 1] = '\2';
  expect_refusal(other, request("idle", wrong), 422, "row 37");
  expect_rows(other, "small", 40, 3);
}

// Requests larger than the queue go on as rows come back. Together they take half of it, and single rows find room.
void full_queue() {
  Server server;
  const std::uint32_t idle = add_idle(server, DType::kFloat32, 16 * 1024);
  const auto entry = server.engine().entry(idle);
  const std::uint32_t rows = 3 * entry->lane_rows(entry->ring.lane_of(penstock::batcher::RowClass::kNormal));
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 1; i <= 4; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(request("idle", floats(4 * rows, static_cast<float>(1000 * i))));
  }
  while (entry->ring.counters().rows_claimed < rows / 6) std::this_thread::yield();
  Client single(server.port());
  single.send(request("idle", floats(4, 7)));
  AffineWorker worker(server.engine(), idle);
  std::string body;
  CHECK(single.receive_reply(body) == 200 && body == floats(4, 7, true));
  body.clear();
  for (std::size_t i = 0; i < clients.size(); ++i) {
    CHECK(clients[i]->receive_reply(body) == 200);
    CHECK(body == floats(4 * rows, static_cast<float>(1000 * (i + 1)), true));
    body.clear();
  }
  for (int i = 0; i < 20; ++i) expect_rows(*clients.front(), "idle", 4 * rows, static_cast<float>(i));
}

// Nobody waits any more: the deadline passed, or the client went. Its rows hold nothing and answer nobody.
void abandoned() {
  Server server;
  const std::uint32_t idle = add_idle(server);
  const auto entry = server.engine().entry(idle);
  Client patient(server.port());
  patient.send(request("idle", floats(4 * 50, 1), std::string(kRawReply) + "X-Request-Timeout-Ms: 50\r\n"));
  std::string body;
  CHECK(patient.receive_reply(body) == 504);
  auto gone = std::make_unique<Client>(server.port());
  gone->send(request("idle", floats(4 * 50, 1000)));
  while (entry->ring.counters().rows_claimed < 100) std::this_thread::yield();
  const linger abort{.l_onoff = 1, .l_linger = 0};  // a reset: an end in good order may still want its answer
  CHECK(::setsockopt(gone->fd(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort) == 0);
  gone.reset();
  while (sum_of(server, idle, &RingStats::rows_cancelled) < 100) std::this_thread::yield();
  AffineWorker worker(server.engine(), idle);
  for (int i = 0; i < 20; ++i) expect_rows(patient, "idle", 4 * 60, static_cast<float>(i));
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each : {Case{"rows_come_back_in_order", rows_come_back_in_order},
                           Case{"requests_share_batches", requests_share_batches}, Case{"large_rows", large_rows},
                           Case{"refusals", refusals}, Case{"full_queue", full_queue}, Case{"abandoned", abandoned}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
