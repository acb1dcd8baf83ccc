// Rows that vary in length: which lane they go to, what admission counts for them, and that rows of the arena arrive.
#include <algorithm>
#include <vector>

#include "engine/row_padding.hpp"
#include "engine_fixture.hpp"

namespace {

using penstock::DType;
using penstock::RowLayout;
using penstock::TensorSpec;
using penstock::batcher::CostModel;
using penstock::batcher::RowClass;
using penstock::dataplane::monotonic_ns;
using penstock::test::AffineWorker;
using penstock::test::Client;
using penstock::test::Server;

std::string request(std::uint32_t length, std::string_view fields = {}) {
  const std::size_t bytes = length * sizeof(float);
  return "POST /predict?model=uneven HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n" +
         std::string(fields) + "Content-Length: " + std::to_string(bytes) + "\r\n\r\n" + std::string(bytes, '\0');
}

// A ring that nobody serves yet.
std::uint32_t add_uneven(Server& server) {
  penstock::batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {64}, true}}), RowLayout({{"y", DType::kFloat32, {64}, true}})};
  config.lengths = {4, 16, 64};
  const std::uint32_t uneven = server.engine().add_ring("uneven", "1", config);
  server.engine().publish({{"uneven", "1", uneven, true, true}});
  return uneven;
}

CostModel constant_cost(float ns) {
  CostModel cost;
  cost.mean_ns_at.fill(ns);
  cost.p99_ns_at.fill(ns);
  return cost;
}

void rows_go_to_the_shortest_bucket_that_holds_them() {
  Server server;
  const std::uint32_t uneven = add_uneven(server);
  const auto entry = server.engine().entry(uneven);
  Client client(server.port());
  std::uint64_t claimed = 0;
  std::vector<std::uint64_t> rows(3);
  for (const auto& [length, bucket] : {std::pair{1u, 0u}, {4u, 0u}, {5u, 1u}, {16u, 1u}, {17u, 2u}, {64u, 2u}}) {
    client.send(request(length));
    ++rows[bucket];
    ++claimed;
    while (entry->ring.counters().rows_claimed < claimed) std::this_thread::yield();
    for (std::uint32_t i = 0; i < 3; ++i) {
      const std::uint32_t lane = entry->ring.lane_of(RowClass::kNormal, i);
      CHECK(entry->ring.load(lane, monotonic_ns()).rows_ahead == rows[i]);
    }
  }
  AffineWorker worker(server.engine(), uneven);
  for (std::uint64_t i = 0; i < claimed; ++i) CHECK(client.receive_head().starts_with("HTTP/1.1 200 "));
}

// No worker is there, so a second is counted until one has started.
void each_bucket_has_its_price() {
  Server server;
  const std::uint32_t uneven = add_uneven(server);
  const auto entry = server.engine().entry(uneven);
  entry->ring.set_cost(0, constant_cost(10e6F));
  entry->ring.set_cost(1, constant_cost(10e6F));
  entry->ring.set_cost(2, constant_cost(2e9F));
  constexpr std::string_view kTwoSeconds = "X-Request-Timeout-Ms: 2000\r\n";
  const auto refused = [&] { return entry->stats[0].rows_refused_deadline.get(); };
  Client waiting(server.port());
  waiting.send(request(3, kTwoSeconds));
  while (entry->ring.counters().rows_claimed < 1) std::this_thread::yield();
  Client client(server.port());
  client.send(request(40, kTwoSeconds));
  CHECK(client.receive_head().starts_with("HTTP/1.1 503 "));
  CHECK(refused() == 1);
  // Behind a long row, a short one is late, too.
  waiting.send(request(40));
  while (entry->ring.counters().rows_claimed < 2) std::this_thread::yield();
  Client other(server.port());
  other.send(request(3, kTwoSeconds));
  CHECK(other.receive_head().starts_with("HTTP/1.1 503 "));
  CHECK(refused() == 2);
}

// Whatever the lengths: tensors that vary and others, packed for the longest, then for the bucket.
void slots_are_packed_anew() {
  const RowLayout longest({{"a", DType::kUint8, {100}, true},
                           {"b", DType::kInt16, {7}},
                           {"c", DType::kFloat32, {100, 3}, true},
                           {"d", DType::kUint8, {}}});
  for (const std::uint32_t bucket : {1u, 9u, 64u, 99u, 100u}) {
    const RowLayout layout = with_length(longest, bucket);
    for (const std::uint32_t length : {1u, (bucket + 1) / 2, bucket}) {
      std::vector<std::byte> row(longest.bytes(), std::byte{0xEE});
      const auto item = [&](std::size_t i) {
        const TensorSpec& tensor = longest.tensors()[i];
        return tensor.varies ? tensor.bytes() / 100 * length : tensor.bytes();
      };
      for (std::size_t i = 0; i < 4; ++i)
        std::fill_n(row.begin() + static_cast<std::ptrdiff_t>(longest.offset(i)), item(i), std::byte(i + 1));
      penstock::dataplane::pad_slot(longest, layout, length, row.data());
      for (std::size_t i = 0; i < 4; ++i) {
        const auto first = row.begin() + static_cast<std::ptrdiff_t>(layout.offset(i));
        const auto end = first + static_cast<std::ptrdiff_t>(item(i));
        const auto room = first + static_cast<std::ptrdiff_t>(layout.tensors()[i].bytes());
        CHECK(std::all_of(first, end, [&](std::byte value) { return value == std::byte(i + 1); }));
        CHECK(std::all_of(end, room, [](std::byte value) { return value == std::byte{0}; }));
      }
    }
  }
}

}  // namespace

int main() {
  rows_go_to_the_shortest_bucket_that_holds_them();
  each_bucket_has_its_price();
  slots_are_packed_anew();
  return 0;
}
