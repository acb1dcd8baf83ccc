// HTTP/2 on the engine's connections: requests as streams, and what may not be done with them.
#include "http2_fixture.hpp"

namespace {

using penstock::dataplane::EngineOptions;
using penstock::dataplane::kHttp2Preface;
using penstock::test::Client;
using penstock::test::frame;
using penstock::test::Http2Answer;
using penstock::test::Http2Client;
using penstock::test::Server;

const penstock::test::Fields& raw_fields() {
  static const penstock::test::Fields fields{{"content-type", "application/octet-stream"},
                                             {"accept", "application/octet-stream"}};
  return fields;
}

std::string row_of(std::uint32_t elements, float first) {
  std::string body(elements * sizeof(float), '\0');
  for (std::uint32_t i = 0; i < elements; ++i) {
    const float value = first + static_cast<float>(i % 1000);
    std::memcpy(body.data() + i * sizeof value, &value, sizeof value);
  }
  return body;
}

void check_row(const Http2Answer& answer, std::uint32_t elements, float first) {
  CHECK(answer.status() == 200 && answer.body.size() == elements * sizeof(float));
  for (std::uint32_t i = 0; i < elements; ++i) {
    float value = 0;
    std::memcpy(&value, answer.body.data() + i * sizeof value, sizeof value);
    CHECK(value == 2 * (first + static_cast<float>(i % 1000)) + 1);
  }
}

// A model that nobody runs: what is asked of it stays until its deadline.
void add_idle(Server& server) {
  penstock::batcher::RingConfig config;
  config.schema = {penstock::RowLayout({{"x", penstock::DType::kFloat32, {1}}}),
                   penstock::RowLayout({{"y", penstock::DType::kFloat32, {1}}})};
  const std::uint32_t idle = server.engine().add_ring("idle", "1", config);
  server.engine().publish(
      {{"small", "1", 0, true, true}, {"large", "1", 1, true, true}, {"idle", "1", idle, true, true}});
}

template <class Condition>
void eventually(Condition&& condition) {
  for (int i = 0; i < 50'000'000 && !condition(); ++i) std::this_thread::yield();
  CHECK(condition());
}

// The server ends the connection, whatever it says before that.
void expect_closed(Client& client) {
  char bytes[4096];
  while (::recv(client.fd(), bytes, sizeof bytes, 0) > 0) {
  }
}

void streams_are_requests() {
  Server server;
  Http2Client client(server.port());
  check_row(client.ask("POST", "/predict?model=small", raw_fields(), row_of(4, 7)), 4, 7);
  const Http2Answer& live = client.ask("GET", "/health/live");
  CHECK(live.status() == 200 && live.body == "{\"status\":\"live\"}" && !live.field("x-request-id").empty());
  CHECK(live.field("connection").empty());
  const Http2Answer& named = client.ask("GET", "/health/live", {{"x-request-id", "mine"}});
  CHECK(named.field("x-request-id") == "mine");
  const Http2Answer& head = client.ask("HEAD", "/health/live");
  CHECK(head.status() == 200 && head.body.empty());
  const Http2Answer& refused = client.ask("POST", "/predict?model=small", raw_fields(), "abc");
  CHECK(refused.status() == 422 && refused.body.find("\"code\":\"invalid_input\"") != std::string::npos);
  CHECK(client.ask("GET", "/predict").status() == 405);
}

void many_at_a_time() {
  Server server;
  Http2Client client(server.port());
  std::vector<std::int32_t> ids;
  for (int round = 0; round < 5; ++round) {
    ids.clear();
    for (int i = 0; i < 100; ++i)
      ids.push_back(client.request("POST", "/predict?model=small", raw_fields(), row_of(4, static_cast<float>(i))));
    for (int i = 0; i < 100; ++i) check_row(client.wait(ids[static_cast<std::size_t>(i)]), 4, static_cast<float>(i));
  }
}

// Larger than windows, frames and buffers, both ways.
void large_bodies() {
  Server server;
  Http2Client client(server.port());
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 4; ++i)
    ids.push_back(client.request("POST", "/predict?model=large", raw_fields(),
                                 row_of(Server::kLargeElements, static_cast<float>(i))));
  for (int i = 0; i < 4; ++i)
    check_row(client.wait(ids[static_cast<std::size_t>(i)]), Server::kLargeElements, static_cast<float>(i));
  const auto& state = server.engine().state();
  eventually([&] { return state.pool.bytes_used() == 0; });
}

// A body that is not taken: its answer comes, whatever of it was sent.
void too_large_a_body() {
  Server server;
  Http2Client client(server.port());
  const Http2Answer& refused = client.ask("POST", "/predict?model=small", raw_fields(), std::string(3'000'000, 'x'));
  CHECK(refused.status() == 413);
  check_row(client.ask("POST", "/predict?model=small", raw_fields(), row_of(4, 1)), 4, 1);
}

void preface_in_pieces() {
  Server server;
  Client client(server.port());
  for (const char c : kHttp2Preface) client.send({&c, 1});
  client.send(frame(NGHTTP2_SETTINGS, 0, 0, ""));
  char head[9];
  client.receive(head, sizeof head);
  CHECK(head[3] == NGHTTP2_SETTINGS);
  // What only begins like it is HTTP/1.1, and wrong.
  Client other(server.port());
  other.send("PRI * HTTP/2.0\r\n\r\nGET");
  std::string body;
  CHECK(other.receive_reply(body) == 505 || !body.empty());
}

// A connection's place is taken by one of the other kind.
void places_are_reused() {
  Server server;
  for (int i = 0; i < 3; ++i) {
    {
      Http2Client client(server.port());
      check_row(client.ask("POST", "/predict?model=small", raw_fields(), row_of(4, 3)), 4, 3);
    }
    const auto& open = server.engine().loops()[0]->stats().connections_open;
    eventually([&] { return open.get() == 0; });
    Client client(server.port());
    std::string body;
    for (int k = 0; k < 100; ++k) client.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int k = 0; k < 100; ++k) CHECK(client.receive_reply(body) == 200);
  }
}

void time_runs_out() {
  Server server;
  add_idle(server);
  Http2Client client(server.port());
  penstock::test::Fields fields = raw_fields();
  fields.emplace_back("x-request-timeout-ms", "200");
  CHECK(client.ask("POST", "/predict?model=idle", fields, row_of(1, 1)).status() == 504);
}

// What a client takes back leaves the queue, and its place is free.
void cancelled() {
  Server server;
  add_idle(server);
  Http2Client client(server.port());
  const auto& stats = server.engine().entry(2)->stats[0];
  for (int i = 0; i < 300; ++i) {
    const std::int32_t id = client.request("POST", "/predict?model=idle", raw_fields(), row_of(1, 1));
    client.flush();
    client.reset(id);
    client.flush();
  }
  check_row(client.ask("POST", "/predict?model=small", raw_fields(), row_of(4, 1)), 4, 1);
  eventually([&] { return stats.rows_cancelled.get() == 300; });
}

void gone_with_requests() {
  Server server;
  add_idle(server);
  {
    Http2Client client(server.port());
    for (int i = 0; i < 20; ++i) client.request("POST", "/predict?model=idle", raw_fields(), row_of(1, 1));
    client.flush();
    CHECK(client.ask("GET", "/health/live").status() == 200);
  }
  const auto& stats = server.engine().entry(2)->stats[0];
  eventually([&] { return stats.rows_cancelled.get() == 20; });
}

void drained() {
  Server server;
  Http2Client client(server.port());
  CHECK(client.ask("GET", "/health/live").status() == 200);
  server.engine().drain();
  while (client.read()) {
  }
  CHECK(client.was_told_to_go());
  eventually([&] { return server.engine().drained(); });
}

// Requests that are taken back as soon as they are made, without end (CVE-2023-44487).
void rapid_resets() {
  Server server;
  Http2Client client(server.port());
  bool open = true;
  for (int i = 0; open && i < 3000; ++i) {
    const std::int32_t id = client.request("GET", "/nowhere");
    client.flush();
    client.reset(id);
    if (i % 50 == 49) {
      client.request("GET", "/health/live");
      open = client.read();
      open = open && !client.was_told_to_go();
    }
  }
  CHECK(!open);
}

// A head that never ends (CVE-2024-28182).
void endless_continuations() {
  Server server;
  Client client(server.port());
  std::string bytes(kHttp2Preface);
  bytes += frame(NGHTTP2_SETTINGS, 0, 0, "");
  bytes += frame(NGHTTP2_HEADERS, 0, 1, "\x82");
  for (int i = 0; i < 50; ++i) bytes += frame(NGHTTP2_CONTINUATION, 0, 1, "");
  client.send(bytes);
  expect_closed(client);
}

void large_heads() {
  Server server;
  Http2Client client(server.port());
  penstock::test::Fields fields;
  for (int i = 0; i < 10; ++i) fields.emplace_back("x-" + std::to_string(i), std::string(1000, 'a'));
  CHECK(client.ask("GET", "/health/live", fields).status() == 431);
  CHECK(client.ask("GET", "/health/live").status() == 200);
  // One field, and ten thousand times a byte that stands for it.
  Client bomb(server.port());
  std::string bytes(kHttp2Preface);
  bytes += frame(NGHTTP2_SETTINGS, 0, 0, "");
  std::string block = "\x40\x01x\x7f\x81\x0e" + std::string(2048, 'a');  // 127 + 1921
  block += std::string(10'000, '\xbe');
  bytes += frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, block);
  bomb.send(bytes);
  expect_closed(bomb);
}

// A head that does not end holds up the connection, and not for long.
void slow_head() {
  EngineOptions options;
  options.head_timeout_ms = 200;
  Server server(options);
  Client client(server.port());
  client.send(std::string(kHttp2Preface) + frame(NGHTTP2_SETTINGS, 0, 0, "") + frame(NGHTTP2_HEADERS, 0, 1, "\x82"));
  expect_closed(client);
}

void slow_body() {
  EngineOptions options;
  options.body_timeout_ms = 200;
  Server server(options);
  Client client(server.port());
  // :method POST, :path /predict, :scheme http, :authority a
  const std::string block =
      "\x83\x04\x08/predict\x86\x01\x01"
      "a";
  client.send(std::string(kHttp2Preface) + frame(NGHTTP2_SETTINGS, 0, 0, "") +
              frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, block) + frame(NGHTTP2_DATA, 0, 1, "ab"));
  std::string seen;
  char bytes[4096];
  while (seen.find("request_timeout") == std::string::npos) {
    const ssize_t received = ::recv(client.fd(), bytes, sizeof bytes, 0);
    CHECK(received > 0);
    seen.append(bytes, static_cast<std::size_t>(received));
  }
}

// A client that opens no window for the answers it asked for.
void takes_no_data() {
  EngineOptions options;
  options.write_timeout_ms = 300;
  Server server(options);
  Client client(server.port());
  const std::string closed_window("\x00\x04\x00\x00\x00\x00", 6);
  // :method GET, :path /health/live, :scheme http, :authority a
  const std::string block =
      "\x82\x04\x0c/health/live\x86\x01\x01"
      "a";
  client.send(std::string(kHttp2Preface) + frame(NGHTTP2_SETTINGS, 0, 0, closed_window) +
              frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, block));
  expect_closed(client);
}

void grpc_health() {
  Server server;
  Http2Client client(server.port());
  const std::string service = "/inference.GRPCInferenceService/";
  const std::string yes("\0\0\0\0\x02\x08\x01", 7);
  const std::string no("\0\0\0\0\x02\x08\x00", 7);
  for (const char* method : {"ServerLive", "ServerReady"}) {
    const Http2Answer& answer = client.call(service + method, "");
    CHECK(answer.status() == 200 && answer.grpc_status() == 0 && answer.body == yes);
    CHECK(answer.field("content-type") == "application/grpc");
  }
  CHECK(client.call(service + "ModelReady", "\x0a\x05small").body == yes);
  CHECK(client
            .call(service + "ModelReady",
                  "\x0a\x05small\x12\x01"
                  "2")
            .body == no);
  CHECK(client.call(service + "ModelReady", "").grpc_status() == 3);
  CHECK(client.call("/grpc.health.v1.Health/Check", "").body == yes);
  CHECK(client.call("/grpc.health.v1.Health/Check", "\x0a\x05other").grpc_status() == 5);
  server.engine().set_ready(false);
  CHECK(client.call(service + "ServerReady", "").body == no);
  CHECK(client.call("/grpc.health.v1.Health/Check", "").body == std::string("\0\0\0\0\x02\x08\x02", 7));
}

void grpc_refusals() {
  Server server;
  Http2Client client(server.port());
  const penstock::test::Fields grpc{{"content-type", "application/grpc"}, {"te", "trailers"}};
  const Http2Answer& unknown = client.call("/inference.GRPCInferenceService/Nothing", "");
  CHECK(unknown.status() == 200 && unknown.grpc_status() == 12 &&
        unknown.field("grpc-message").starts_with("no method /inference"));
  CHECK(!unknown.field("x-request-id").empty());
  const std::string live = "/inference.GRPCInferenceService/ServerLive";
  CHECK(client.ask("POST", live, grpc, "abc").grpc_status() == 3);
  CHECK(client
            .ask("POST", live, grpc,
                 std::string("\0\0\0\0\x09"
                             "abc",
                             8))
            .grpc_status() == 3);
  CHECK(client.ask("POST", live, grpc, std::string("\x01\0\0\0\x00", 5)).grpc_status() == 12);
  CHECK(client.call(live, "", {{"grpc-timeout", "soon"}}).grpc_status() == 3);
  CHECK(client.call("/inference.GRPCInferenceService/ModelReady", "\x0a\xff").grpc_status() == 3);
  CHECK(client.ask("POST", live, grpc, std::string("\0\x7f\xff\xff\xff", 5)).grpc_status() == 8);
}

// The first half of the preface, and then nothing: its time is that of any head.
void part_of_a_preface() {
  penstock::dataplane::EngineOptions options;
  options.head_timeout_ms = 50;
  options.idle_timeout_ms = 60'000;
  Server server(options);
  penstock::test::Client client(server.port());
  client.send("PRI * HTTP/2.0\r\n\r\nSM");
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  CHECK(::setsockopt(client.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
  char bytes[4096];
  ssize_t received = 0;
  while ((received = ::recv(client.fd(), bytes, sizeof bytes, 0)) > 0) continue;
  CHECK(received == 0);
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each :
       {Case{"part_of_a_preface", part_of_a_preface}, Case{"streams_are_requests", streams_are_requests},
        Case{"many_at_a_time", many_at_a_time}, Case{"large_bodies", large_bodies},
        Case{"too_large_a_body", too_large_a_body}, Case{"preface_in_pieces", preface_in_pieces},
        Case{"places_are_reused", places_are_reused}, Case{"time_runs_out", time_runs_out},
        Case{"cancelled", cancelled}, Case{"gone_with_requests", gone_with_requests}, Case{"drained", drained},
        Case{"rapid_resets", rapid_resets}, Case{"endless_continuations", endless_continuations},
        Case{"large_heads", large_heads}, Case{"slow_head", slow_head}, Case{"slow_body", slow_body},
        Case{"takes_no_data", takes_no_data}, Case{"grpc_health", grpc_health}, Case{"grpc_refusals", grpc_refusals}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
