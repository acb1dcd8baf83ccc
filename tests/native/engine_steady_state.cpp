// The promise of the hot path: once a connection and a ring are warm, a request that fits the connection's buffers
// allocates nothing, in the loop, in the ring or in the worker's taker.
#include <cstdlib>
#include <new>

#include "engine_fixture.hpp"

namespace {
std::atomic<std::uint64_t> allocations{0};
}

// Not inlined: the compiler would see malloc() and warn that delete does not fit it.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
extern "C" void* __libc_malloc(std::size_t bytes);
// Counts the allocations that do not come through operator new as well; sanitizers bring a malloc of their own.
extern "C" void* malloc(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(bytes);
}
#endif

namespace {

constexpr std::string_view kJson =
    "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-Id: steady-state\r\n"
    "Content-Length: 38\r\n\r\n{\"model\":\"small\",\"inputs\":[1,2,3,4.5]}";
constexpr std::string_view kHealth = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kBad =
    "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-Id: steady-state\r\n"
    "Content-Length: 35\r\n\r\n{\"model\":\"small\",\"inputs\":[1,2,3,]}";

// Everything that a request may ask for, and many rows at once.
constexpr std::string_view kOptions =
    "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-Id: steady-state\r\n"
    "X-Request-Timeout-Ms: 10000\r\nX-Request-Priority: interactive\r\nX-Penstock-Reproducible: true\r\n"
    "Content-Length: 38\r\n\r\n{\"model\":\"small\",\"inputs\":[1,2,3,4.5]}";
constexpr std::string_view kRowsHead =
    "POST /predict?model=small HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
    "Accept: application/octet-stream\r\nX-Request-Id: steady-state\r\nContent-Length: 1280\r\n\r\n";
// Refused by admission: a nanosecond is over when it is read.
constexpr std::string_view kLate =
    "POST /predict?model=late HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
    "X-Request-Id: steady-state\r\nContent-Length: 16\r\n\r\n0123456789abcdef";

// A row of three elements where up to eight would do, and one that is too long.
constexpr std::string_view kShort =
    "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-Id: steady-state\r\n"
    "Content-Length: 35\r\n\r\n{\"model\":\"uneven\",\"inputs\":[1,2,3]}";
constexpr std::string_view kTooLong =
    "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-Id: steady-state\r\n"
    "Content-Length: 47\r\n\r\n{\"model\":\"uneven\",\"inputs\":[1,2,3,4,5,6,7,8,9]}";

std::uint32_t add_uneven(penstock::test::Server& server) {
  using penstock::DType;
  using penstock::RowLayout;
  penstock::batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {8}, true}}), RowLayout({{"y", DType::kFloat32, {8}, true}})};
  config.lengths = {2, 4, 8};
  return server.engine().add_ring("uneven", "1", config);
}

void add_late(penstock::test::Server& server, std::uint32_t uneven) {
  using penstock::DType;
  using penstock::RowLayout;
  penstock::batcher::RingConfig config;
  config.schema = {RowLayout({{"x", DType::kFloat32, {4}}}), RowLayout({{"y", DType::kFloat32, {4}}})};
  config.slo_ns = 1;
  const std::uint32_t late = server.engine().add_ring("late", "1", config);
  penstock::batcher::CostModel cost;
  cost.mean_ns_at.fill(1e6F);
  cost.p99_ns_at.fill(1e6F);
  server.engine().entry(late)->ring.set_cost(0, cost);
  server.engine().publish({{"small", "1", 0, true, true},
                           {"large", "1", 1, true, true},
                           {"late", "1", late, true, true},
                           {"uneven", "1", uneven, true, true}});
}

// Sends the same bytes again and again; the first reply's length is the length of all.
void ask(penstock::test::Client& client, std::string_view request, std::size_t reply_bytes, int times) {
  char reply[4096];
  CHECK(reply_bytes < sizeof reply);
  for (int i = 0; i < times; ++i) {
    client.send(request);
    client.receive(reply, reply_bytes);
    CHECK(std::memcmp(reply, "HTTP/1.1 ", 9) == 0);
  }
}

std::size_t reply_bytes(penstock::test::Client& client, std::string_view request) {
  client.send(request);
  char reply[4096];
  std::size_t bytes = 0;
  for (;;) {
    const ssize_t received = ::recv(client.fd(), reply + bytes, sizeof reply - bytes, 0);
    CHECK(received > 0);
    bytes += static_cast<std::size_t>(received);
    const std::string_view text(reply, bytes);
    const std::size_t head_end = text.find("\r\n\r\n");
    const std::size_t length_at = text.find("Content-Length: ");
    if (head_end == std::string_view::npos) continue;
    const std::size_t total = head_end + 4 + static_cast<std::size_t>(std::atol(reply + length_at + 16));
    if (bytes == total) return total;
  }
}

void allocates_nothing(const penstock::dataplane::TapOptions& tap) {
  penstock::dataplane::EngineOptions options;
  options.tap = tap;
  penstock::test::Server server(options);
  const std::uint32_t uneven = add_uneven(server);
  add_late(server, uneven);
  const penstock::test::AffineWorker uneven_worker(server.engine(), uneven);
  penstock::test::Client client(server.port());
  const std::string rows = std::string(kRowsHead) + std::string(1280, '\0');
  for (const std::string_view request :
       {kJson, kHealth, kBad, kOptions, std::string_view(rows), kLate, kShort, kTooLong}) {
    const std::size_t bytes = reply_bytes(client, request);
    ask(client, request, bytes, 200);
    const std::uint64_t before = allocations.load(std::memory_order_relaxed);
    ask(client, request, bytes, 2000);
    CHECK(allocations.load(std::memory_order_relaxed) == before);
  }
}

}  // namespace

int main() {
  const std::uint64_t start = allocations.load(std::memory_order_relaxed);
  CHECK(std::string(100, 'x').size() == 100);
  CHECK(allocations.load(std::memory_order_relaxed) > start);  // the counter counts
  allocates_nothing({});
  allocates_nothing({.trace_sample = 0.5, .access_log_sample = 0.5});  // of which nobody takes anything
  return 0;
}
