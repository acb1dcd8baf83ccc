// Rings that come and go: nothing is lost, nothing is mixed up, and their memory comes back.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "engine/model_entry.hpp"
#include "engine/route_table.hpp"
#include "engine_fixture.hpp"

namespace {

using penstock::DType;
using penstock::RowLayout;
using penstock::dataplane::Engine;
using penstock::dataplane::EngineOptions;
using penstock::dataplane::kNoRing;
using penstock::dataplane::ModelEntry;
using penstock::dataplane::RouteTable;
using penstock::test::AffineWorker;
using penstock::test::Client;
using penstock::test::Server;

// Sanitizers keep freed memory for a while, and take their time.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr std::uint32_t kCycles = kSanitized ? 1'000 : 10'000;
constexpr std::size_t kResidentSlack = 4 << 20;  // bytes: less than 500 a cycle, where a ring keeps thousands
constexpr std::uint32_t kSwaps = 60;

std::uint32_t add(Engine& engine, const std::string& version, std::uint32_t elements = 4,
                  const std::string& group = {}) {
  penstock::batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {elements}}}), RowLayout({{"y", DType::kFloat32, {elements}}})};
  return engine.add_ring("model", version, config, group);
}

void remove(Engine& engine, std::uint32_t ring) {
  while (!engine.remove_ring(ring)) std::this_thread::yield();
}

std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t found = 0;
  for (std::string line; std::getline(maps, line);) found += line.find("penstock-ring") != std::string::npos ? 1 : 0;
  return found;
}

std::size_t descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages >> pages;
  return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

std::string request(std::string_view query, std::string_view fields = {}) {
  return "POST /predict" + std::string(query) +
         " HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nAccept: application/json\r\n" +
         std::string(fields) + "Content-Length: 16\r\n\r\n" + std::string(16, '\0');
}

int ask(Client& client, std::string_view query, std::string& body) {
  body.clear();
  client.send(request(query));
  return client.receive_reply(body);
}

bool throws_out_of_range(Engine& engine, std::uint32_t ring) {
  try {
    (void)engine.entry(ring);
  } catch (const std::out_of_range&) {
    return true;
  }
  return false;
}

void memory_and_numbers_come_back() {
  Server server;
  Engine& engine = server.engine();
  constexpr std::size_t before = 4;  // two rings, and their takers
  while (mappings() < before) std::this_thread::yield();
  const std::uint32_t first = add(engine, "1");
  remove(engine, first);
  std::size_t open_before = 0;
  std::size_t resident_before = 0;
  for (std::uint32_t i = 0; i < kCycles; ++i) {
    if (i == kCycles / 10) {  // allocators and lists have found their size
      open_before = descriptors();
      resident_before = resident_bytes();
    }
    const std::uint32_t ring = add(engine, "1");
    CHECK(ring == first);
    engine.publish({{"model", "1", ring, true, true}});
    engine.publish({});
    remove(engine, ring);
  }
  CHECK(mappings() == before);
  CHECK(descriptors() == open_before);
  if (!kSanitized) CHECK(resident_bytes() < resident_before + kResidentSlack);
  CHECK(throws_out_of_range(engine, first));
  CHECK(engine.entries().size() == 2);
}

// Whoever waits for a table to be gone frees its rings, and so must be the last that has them.
void a_table_that_is_gone_holds_no_ring() {
  penstock::batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {4}}}), RowLayout({{"y", DType::kFloat32, {4}}})};
  std::shared_ptr<const std::atomic<bool>> gone;
  bool freed_by_table = false;
  const auto free = [&](ModelEntry* entry) {
    freed_by_table = !gone->load();
    delete entry;
  };
  {
    std::vector<std::shared_ptr<ModelEntry>> entries;
    entries.emplace_back(new ModelEntry(0, "model", "1", config), free);
    const RouteTable table({{"model", "1", 0, true, true}}, std::move(entries));
    gone = table.gone();
  }
  CHECK(gone->load() && freed_by_table);
}

void a_ring_that_is_routed_stays() {
  Server server;
  Engine& engine = server.engine();
  const std::uint32_t ring = add(engine, "1");
  engine.publish({{"model", "1", ring, true, true}, {"model", "staging", ring, false, true}});
  CHECK(!engine.ring_idle(ring));
  CHECK(!engine.remove_ring(ring));
  CHECK(engine.entry(ring)->version == "1");
}

void a_ring_with_a_row_stays() {
  Server server;
  Engine& engine = server.engine();
  const std::uint32_t ring = add(engine, "1");
  engine.publish({{"model", "1", ring, true, true}});
  Client client(server.port());
  client.send(request("?model=model"));
  while (engine.entry(ring)->is_unused()) std::this_thread::yield();  // nobody serves it yet
  engine.publish({});
  for (int i = 0; i < 100; ++i) CHECK(!engine.ring_idle(ring) && !engine.remove_ring(ring));
  {
    const AffineWorker worker(engine, ring);
    std::string body;
    CHECK(client.receive_reply(body) == 200);
    while (!engine.ring_idle(ring)) std::this_thread::yield();
  }
  remove(engine, ring);
}

void a_body_that_is_still_decoded_finds_its_ring() {
  Server server;
  Engine& engine = server.engine();
  const std::uint32_t ring = add(engine, "1", Server::kLargeElements);
  auto worker = std::make_unique<AffineWorker>(engine, ring);
  std::string body(Server::kLargeElements * 2 + 1, ',');
  for (std::size_t i = 0; i < body.size(); i += 2) body[i] = '1';
  body = "{\"inputs\":[" + body.substr(0, Server::kLargeElements * 2 - 1) + "]}";
  for (int i = 0; i < 20; ++i) {
    engine.publish({{"model", "1", ring, true, true}});
    Client client(server.port());
    client.send("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
    engine.publish({});
    std::string reply;
    const int status = client.receive_reply(reply);
    CHECK(status == 200 || status == 404);
    while (!engine.ring_idle(ring)) std::this_thread::yield();
  }
  worker.reset();
  remove(engine, ring);
}

// Each version answers with its own name: a request that was taken by one ring and answered by another would show.
void swaps_under_load(std::uint32_t io_threads) {
  EngineOptions options;
  options.io_threads = io_threads;
  Server server(options);
  Engine& engine = server.engine();
  std::uint32_t live = add(engine, "0");
  auto worker = std::make_unique<AffineWorker>(engine, live);
  engine.publish({{"model", "0", live, true, true}});
  std::atomic<bool> done{false};
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      Client client(server.port());
      std::string body;
      while (!done.load(std::memory_order_relaxed)) {
        CHECK(ask(client, "", body) == 200);
        CHECK(body.find("\"version\":\"") != std::string::npos && body.find("[1.0,1.0,1.0,1.0]") != std::string::npos);
      }
    });
  }
  for (std::uint32_t swap = 1; swap <= kSwaps; ++swap) {
    const std::uint32_t next = add(engine, std::to_string(swap));
    auto next_worker = std::make_unique<AffineWorker>(engine, next);
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

void rings_of_a_group_stay() {
  Server server;
  Engine& engine = server.engine();
  const std::uint32_t ring = add(engine, "1", 4, "group");
  bool refused = false;
  try {
    engine.remove_ring(ring);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
}

void names_without_a_ring() {
  Server server;
  Engine& engine = server.engine();
  engine.publish({{"model", "1", kNoRing, true, false}, {"lazy", "2", kNoRing, true, false, true}});
  Client client(server.port());
  std::string body;
  CHECK(ask(client, "?model=model", body) == 503);
  CHECK(body.find("model_unavailable") != std::string::npos);
  CHECK(engine.misses().take().empty());
  for (int i = 0; i < 3; ++i) {
    body.clear();
    client.send(request("?model=lazy"));
    const std::string head = client.receive_head();
    CHECK(head.starts_with("HTTP/1.1 503") && head.find("Retry-After: 1") != std::string::npos);
  }
  const auto misses = engine.misses().take();
  CHECK(misses.size() == 1 && misses[0].first == "lazy" && misses[0].second == "2");
  CHECK(engine.misses().take().empty());
}

void an_alias_is_another_name() {
  Server server;
  Engine& engine = server.engine();
  const std::uint32_t ring = add(engine, "7");
  const AffineWorker worker(engine, ring);
  engine.publish({{"model", "7", ring, true, true}, {"model", "staging", ring, false, true}});
  Client client(server.port());
  std::string body;
  for (const std::string_view query : {"", "?version=staging", "?version=7", "?model=model&version=staging"}) {
    CHECK(ask(client, query, body) == 200);
    CHECK(body.find("\"version\":\"7\"") != std::string::npos);
  }
  CHECK(ask(client, "?version=champion", body) == 404);
}

}  // namespace

int main() {
  memory_and_numbers_come_back();
  a_table_that_is_gone_holds_no_ring();
  a_ring_that_is_routed_stays();
  a_ring_with_a_row_stays();
  a_body_that_is_still_decoded_finds_its_ring();
  swaps_under_load(1);
  swaps_under_load(2);
  rings_of_a_group_stay();
  names_without_a_ring();
  an_alias_is_another_name();
}
