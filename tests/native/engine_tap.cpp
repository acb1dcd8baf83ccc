// The sampled tap: its ring, what it keeps of a request, and what becomes of a trace that comes with one.
#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "engine/tap.hpp"
#include "engine/tap_drain.hpp"
#include "engine_fixture.hpp"

namespace {

using penstock::dataplane::Engine;
using penstock::dataplane::EngineOptions;
using penstock::dataplane::parse_traceparent;
using penstock::dataplane::Ratio;
using penstock::dataplane::TapDrain;
using penstock::dataplane::TapOptions;
using penstock::dataplane::TapRecord;
using penstock::dataplane::TapRing;
using penstock::dataplane::TraceContext;
using penstock::test::Client;
using penstock::test::Server;

constexpr std::string_view kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr std::string_view kParent = "00f067aa0ba902b7";

std::string traceparent(std::string_view flags) {
  return "00-" + std::string(kTrace) + "-" + std::string(kParent) + "-" + std::string(flags);
}

std::string hex(const std::uint8_t* bytes, std::size_t count) {
  std::string text(2 * count, ' ');
  penstock::dataplane::write_hex(text.data(), bytes, count);
  return text;
}

// --- the ring --------------------------------------------------------------------------------------------------------

TapRecord numbered(std::uint64_t number) {
  TapRecord record{};
  record.arrival_ns = number;
  std::memset(record.trace_state, static_cast<int>(number & 0xff), sizeof record.trace_state);
  return record;
}

bool is_whole(const TapRecord& record) {
  const auto wanted = static_cast<char>(record.arrival_ns & 0xff);
  return std::ranges::all_of(record.trace_state, [wanted](char c) { return c == wanted; });
}

void the_ring_drops_when_it_is_full_and_goes_round() {
  TapRing ring(4);
  std::uint64_t next = 0;
  std::uint64_t expected = 0;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 4; ++i) CHECK(ring.put(numbered(next++)));
    CHECK(!ring.put(numbered(999)));  // lost, and nothing of it shows
    const auto take = [&expected](const TapRecord& record) {
      CHECK(record.arrival_ns == expected++);
      CHECK(is_whole(record));
    };
    CHECK(ring.drain(3, take) == 3);
    CHECK(ring.put(numbered(next++)));
    CHECK(ring.drain(100, take) == 2);
    CHECK(ring.drain(100, take) == 0);
  }
  CHECK(expected == next);
}

void a_ring_without_room_takes_nothing() {
  TapRing ring(0);
  CHECK(!ring.put(numbered(1)));
  CHECK(ring.drain(1, [](const TapRecord&) { CHECK(false); }) == 0);
}

// Forbidden: a record twice, out of order, or made of two.
void the_ring_hands_over_between_threads() {
  constexpr std::uint64_t kRecords = 20'000;
  TapRing ring(16);
  std::atomic<bool> over{false};
  std::uint64_t put = 0;
  std::thread producer([&] {
    for (std::uint64_t i = 1; i <= kRecords; ++i) {
      if (ring.put(numbered(i))) ++put;
    }
    over.store(true, std::memory_order_release);
  });
  std::uint64_t last = 0;
  std::uint64_t taken = 0;
  for (bool more = true; more;) {
    const bool was_over = over.load(std::memory_order_acquire);
    const std::size_t count = ring.drain(8, [&](const TapRecord& record) {
      CHECK(record.arrival_ns > last);
      CHECK(is_whole(record));
      last = record.arrival_ns;
      ++taken;
    });
    more = !was_over || count > 0;
  }
  producer.join();
  CHECK(taken == put && taken >= 16);
}

// --- samples and traces ----------------------------------------------------------------------------------------------

void a_ratio_is_a_share() {
  CHECK(!Ratio(0).admits(0));
  CHECK(Ratio(1).admits(~std::uint64_t{0}));
  CHECK(Ratio(0.5).admits((std::uint64_t{1} << 63) - 1) && !Ratio(0.5).admits(std::uint64_t{1} << 63));
  for (const double wrong : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    bool refused = false;
    try {
      const Ratio ratio(wrong);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    CHECK(refused);
  }
}

void a_traceparent_is_read_strictly() {
  TraceContext context;
  CHECK(parse_traceparent(traceparent("01"), context));
  CHECK(context.sampled && hex(context.trace_id.data(), 16) == kTrace && hex(context.span_id.data(), 8) == kParent);
  CHECK(parse_traceparent(traceparent("00"), context) && !context.sampled);
  CHECK(parse_traceparent(traceparent("03"), context) && context.sampled);
  std::string later = traceparent("01");
  later[0] = 'c';
  CHECK(parse_traceparent(later, context) && parse_traceparent(later + "-what-comes-then", context));
  CHECK(!parse_traceparent(later + "x", context));
  CHECK(!parse_traceparent("ff" + traceparent("01").substr(2), context));
  CHECK(!parse_traceparent(traceparent("01") + "-x", context));  // version 00 has no more
  CHECK(!parse_traceparent(traceparent("0"), context));
  CHECK(!parse_traceparent(traceparent("0x"), context));
  CHECK(!parse_traceparent("00-" + std::string(32, '0') + "-" + std::string(kParent) + "-01", context));
  CHECK(!parse_traceparent("00-" + std::string(kTrace) + "-" + std::string(16, '0') + "-01", context));
  for (const std::size_t at : {std::size_t{2}, std::size_t{35}, std::size_t{52}}) {
    std::string wrong = traceparent("01");
    wrong[at] = '_';
    CHECK(!parse_traceparent(wrong, context));
  }
  std::string upper = traceparent("01");
  upper[4] = 'B';
  CHECK(!parse_traceparent(upper, context));
  CHECK(!parse_traceparent("", context) && !parse_traceparent("00", context));
  char written[penstock::dataplane::kTraceparentBytes];
  CHECK(parse_traceparent(traceparent("01"), context));
  penstock::dataplane::write_traceparent(written, context.trace_id, context.span_id, true);
  CHECK(std::string_view(written, sizeof written) == traceparent("01"));
}

// --- a whole engine --------------------------------------------------------------------------------------------------

std::string predict(std::string_view fields, std::string_view inputs = "[1,2,3,4]") {
  const std::string body = "{\"model\":\"small\",\"inputs\":" + std::string(inputs) + "}";
  return "POST /predict?model=small HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" + std::string(fields) +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

EngineOptions with(TapOptions tap) {
  EngineOptions options;
  options.tap = tap;
  return options;
}

int ask(Client& client, std::string_view request) {
  client.send(request);
  std::string body;
  return client.receive_reply(body);
}

// The records of what is traced. Whoever has an answer finds its record: it is put in before the answer is sent.
std::vector<TapRecord> traced(Engine& engine, TapDrain& drained) {
  drained = engine.drain_tap();
  std::vector<TapRecord> records(drained.records.size() / sizeof(TapRecord));
  std::memcpy(records.data(), drained.records.data(), records.size() * sizeof(TapRecord));
  return records;
}

void nothing_is_kept_when_it_is_off() {
  Server server;
  Client client(server.port());
  CHECK(ask(client, predict("traceparent: " + traceparent("01") + "\r\n")) == 200);
  CHECK(ask(client, predict("", "[1]")) == 422);
  const TapDrain drained = server.engine().drain_tap();
  CHECK(drained.lines.empty() && drained.records.empty());
}

void a_prediction_leaves_its_times() {
  Server server(with({.trace_sample = 1.0}));
  Client client(server.port());
  CHECK(ask(client, predict("X-Request-Id: one\r\n")) == 200);
  TapDrain drained;
  const std::vector<TapRecord> records = traced(server.engine(), drained);
  CHECK(records.size() == 1 && drained.lines.empty());
  const TapRecord& record = records[0];
  CHECK(record.arrival_ns <= record.taken_ns && record.taken_ns <= record.run_ns);
  CHECK(record.run_ns <= record.done_ns && record.done_ns <= record.replied_ns);
  CHECK(record.arrival_ns > 1'600'000'000'000'000'000);  // since 1970
  CHECK(record.status == 200 && record.rows == 1 && record.batch_rows == 1 && record.bytes_in > 20);
  CHECK(record.bytes_out > 60);
  CHECK(std::string_view(record.request_id, record.request_id_bytes) == "one");
  CHECK(std::string_view(record.path, record.path_bytes) == "/predict");
  CHECK(std::string_view(record.model, record.model_bytes) == "small");
  CHECK(std::string_view(record.version, record.version_bytes) == "1");
  CHECK(std::string_view(record.client, record.client_bytes) == "127.0.0.1");
  CHECK(hex(record.trace_id.data(), 16) != std::string(32, '0') &&
        hex(record.span_id.data(), 8) != std::string(16, '0'));
  CHECK((record.flags & TapRecord::kHasParent) == 0);
}

void who_began_a_trace_decides_for_it() {
  Server server(with({.trace_sample = 0.0}));
  Client client(server.port());
  const std::string state = "tracestate: a=1,b=2\r\ntracestate: c=3\r\n";
  CHECK(ask(client, predict("traceparent: " + traceparent("01") + "\r\n" + state)) == 200);
  CHECK(ask(client, predict("traceparent: " + traceparent("00") + "\r\n" + state)) == 200);
  CHECK(ask(client, predict("traceparent: " + traceparent("0x") + "\r\n" + state)) ==
        200);  // none, so the ratio counts
  CHECK(ask(client, predict("")) == 200);
  TapDrain drained;
  const std::vector<TapRecord> records = traced(server.engine(), drained);
  CHECK(records.size() == 1);
  CHECK(hex(records[0].trace_id.data(), 16) == kTrace && hex(records[0].parent_id.data(), 8) == kParent);
  CHECK(hex(records[0].span_id.data(), 8) != kParent && (records[0].flags & TapRecord::kHasParent) != 0);
  CHECK(std::string_view(records[0].trace_state, records[0].trace_state_bytes) == "a=1,b=2,c=3");
}

void a_trace_that_is_not_sampled_is_not_sampled_here_either() {
  Server server(with({.trace_sample = 1.0}));
  Client client(server.port());
  CHECK(ask(client, predict("traceparent: " + traceparent("00") + "\r\n")) == 200);
  CHECK(ask(client, predict("traceparent: 00-nonsense\r\ntracestate: a=1\r\n")) == 200);
  TapDrain drained;
  const std::vector<TapRecord> records = traced(server.engine(), drained);
  CHECK(records.size() == 1);
  CHECK(records[0].trace_state_bytes == 0);  // whose it was is not known
}

void long_trace_states_lose_whole_members() {
  Server server(with({.trace_sample = 1.0}));
  Client client(server.port());
  const std::string first = "a=" + std::string(250, 'x');
  const std::string state = first + ",b=" + std::string(200, 'y') + ",c=" + std::string(100, 'z');
  CHECK(ask(client, predict("traceparent: " + traceparent("01") + "\r\ntracestate: " + state + "\r\n")) == 200);
  TapDrain drained;
  const std::vector<TapRecord> records = traced(server.engine(), drained);
  CHECK(std::string_view(records[0].trace_state, records[0].trace_state_bytes) ==
        first + ",b=" + std::string(200, 'y'));
}

void failures_are_logged_whatever_the_sample_is() {
  Server server(with({.access_log_sample = 0.0}));
  Client client(server.port());
  CHECK(ask(client, predict("")) == 200);
  CHECK(ask(client, predict("X-Request-Id: bad\r\n", "[1]")) == 422);
  CHECK(ask(client, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n") == 404);
  TapDrain drained = server.engine().drain_tap();
  CHECK(drained.lines_count == 2 && drained.records.empty());
  CHECK(drained.lines.find("\"request_id\":\"bad\"") != std::string::npos);
  CHECK(drained.lines.find("\"status\":422,\"code\":\"invalid_input\"") != std::string::npos);
  CHECK(drained.lines.find("\"method\":\"GET\",\"path\":\"/nothing\",\"status\":404") != std::string::npos);
  // Refused before it began: its body is too long, and is not waited for.
  CHECK(ask(client, "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n") == 413);
  drained = server.engine().drain_tap();
  CHECK(drained.lines.find("\"method\":\"POST\",\"path\":\"/predict\",\"status\":413") != std::string::npos);
  Client other(server.port());
  CHECK(ask(other, "nonsense\r\n\r\n") == 400);
  drained = server.engine().drain_tap();
  CHECK(drained.lines_count == 1 && drained.lines.find("\"method\":\"_OTHER\",\"status\":400") != std::string::npos);
}

void failures_beyond_the_bound_are_counted() {
  Server server(with({.access_log_sample = 0.0}));
  Client client(server.port());
  constexpr int kAsked = 3000;
  int lines = 0;
  for (int i = 0; i < kAsked; ++i) {
    CHECK(ask(client, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n") == 404);
    if (i % 500 == 499) lines += static_cast<int>(server.engine().drain_tap().lines_count);
  }
  const std::uint64_t suppressed = server.engine().loops()[0]->tap().suppressed.get();
  CHECK(static_cast<std::uint64_t>(lines) + suppressed == kAsked);
  CHECK(lines >= static_cast<int>(penstock::dataplane::kFailuresMax));
}

void every_request_of_a_full_sample_is_a_line() {
  Server server(with({.access_log_sample = 1.0}));
  Client client(server.port());
  for (int i = 0; i < 500; ++i) CHECK(ask(client, predict("")) == 200);
  const TapDrain drained = server.engine().drain_tap();
  CHECK(drained.lines_count == 500 && std::ranges::count(drained.lines, '\n') == 500);
  CHECK(drained.lines.find("\"rows\":1,\"queue_us\":") != std::string::npos);
}

void a_full_tap_loses_records_and_no_requests() {
  Server server(with({.access_log_sample = 1.0}));
  Client client(server.port());
  constexpr int kAsked = static_cast<int>(penstock::dataplane::kTapRecords) + 10;
  for (int i = 0; i < kAsked; ++i) CHECK(ask(client, predict("")) == 200);
  auto& tap = server.engine().loops()[0]->tap();
  CHECK(tap.dropped.get() == 10 && tap.written.get() == penstock::dataplane::kTapRecords);
  std::size_t lines = 0;
  for (TapDrain drained = server.engine().drain_tap(); drained.lines_count > 0; drained = server.engine().drain_tap())
    lines += drained.lines_count;
  CHECK(lines == penstock::dataplane::kTapRecords);
}

void a_client_that_goes_is_logged_as_gone() {
  Server server(with({.access_log_sample = 1.0}));
  penstock::batcher::RingConfig config;  // of a model that nobody runs
  config.schema = {penstock::RowLayout({{"x", penstock::DType::kFloat32, {4}}}),
                   penstock::RowLayout({{"y", penstock::DType::kFloat32, {4}}})};
  const std::uint32_t idle = server.engine().add_ring("idle", "1", config);
  server.engine().publish({{"small", "1", 0, true, true}, {"idle", "1", idle, true, true}});
  {
    Client client(server.port());
    client.send(
        "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n"
        "{\"model\":\"idle\",\"inputs\":[1,2,3,4]}");
    while (server.engine().entry(idle)->ring.counters().rows_claimed == 0) std::this_thread::yield();
    const linger reset{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(client.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  TapDrain drained;
  while (drained.lines_count == 0) drained = server.engine().drain_tap();
  CHECK(drained.lines.find("\"path\":\"/predict\",\"aborted\":true,\"model\":\"idle\"") != std::string::npos);
}

}  // namespace

int main() {
  the_ring_drops_when_it_is_full_and_goes_round();
  a_ring_without_room_takes_nothing();
  the_ring_hands_over_between_threads();
  a_ratio_is_a_share();
  a_traceparent_is_read_strictly();
  nothing_is_kept_when_it_is_off();
  a_prediction_leaves_its_times();
  who_began_a_trace_decides_for_it();
  a_trace_that_is_not_sampled_is_not_sampled_here_either();
  long_trace_states_lose_whole_members();
  failures_are_logged_whatever_the_sample_is();
  failures_beyond_the_bound_are_counted();
  every_request_of_a_full_sample_is_a_line();
  a_full_tap_loses_records_and_no_requests();
  a_client_that_goes_is_logged_as_gone();
  return 0;
}
