// What a client of HTTP/2 may not do to the engine, with frames that no library would send.
#include <algorithm>

#include "grpc_calls.hpp"
#include "http2_fixture.hpp"

namespace {

using penstock::dataplane::EngineOptions;
using penstock::test::Call;
using penstock::test::Client;
using penstock::test::field;
using penstock::test::Fields;
using penstock::test::Frame;
using penstock::test::frame;
using penstock::test::GrpcCalls;
using penstock::test::head;
using penstock::test::Http2Answer;
using penstock::test::Http2Client;
using penstock::test::number;
using penstock::test::prefixed;
using penstock::test::RawHttp2;
using penstock::test::Server;

template <class Condition>
void eventually(Condition&& condition) {
  for (int i = 0; i < 50'000'000 && !condition(); ++i) std::this_thread::yield();
  CHECK(condition());
}

// Sends for as long as it is taken. A server that has closed the connection makes it fail, which is no failure here.
void send_all(const Client& client, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(client.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

// Requests that the client makes the server reset, without end (CVE-2025-8671).
void made_to_reset() {
  Server server;
  RawHttp2 client(server.port());
  std::string bytes;
  for (std::uint32_t stream = 1; stream < 2 * 10'000; stream += 2) {
    bytes += frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, head("POST", "/predict"));
    bytes += frame(NGHTTP2_WINDOW_UPDATE, 0, stream, number(0x7fffffff));  // more than there is: its stream is reset
  }
  std::thread sender([&] { send_all(client.socket(), bytes); });
  CHECK(client.awaited_end() == NGHTTP2_ENHANCE_YOUR_CALM);
  sender.join();
}

// An error of the connection ends it, whatever requests are under way.
void broken_rules() {
  Server server;
  for (const std::string& wrong : {frame(NGHTTP2_WINDOW_UPDATE, 0, 1, number(0)), frame(NGHTTP2_DATA, 0, 0, "a"),
                                   frame(NGHTTP2_PING, 0, 0, "short"), frame(NGHTTP2_SETTINGS, 0, 0, "short")}) {
    RawHttp2 client(server.port());
    client.request(1, head("POST", "/predict"), 0);
    client.send(wrong);
    CHECK(client.awaited_end() != NGHTTP2_NO_ERROR);
  }
}

void taken_back() {
  Server server;
  RawHttp2 client(server.port());
  std::string bytes;
  for (std::uint32_t stream = 1; stream < 2 * 1500; stream += 2) {
    bytes += frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, head("POST", "/predict"));
    bytes += frame(NGHTTP2_RST_STREAM, 0, stream, number(NGHTTP2_CANCEL));
  }
  std::thread sender([&] { send_all(client.socket(), bytes); });
  CHECK(client.awaited_end() == NGHTTP2_ENHANCE_YOUR_CALM);
  sender.join();
}

// What is refused before anybody looked at it may be sent again, and its client is told so.
void refused_streams() {
  Server server;
  RawHttp2 client(server.port());
  Fields fields;
  for (int i = 0; i < 40; ++i) fields.emplace_back("x-" + std::to_string(i), std::string(100, 'a'));
  std::uint32_t stream = 1;
  for (; stream < 2 * 60; stream += 2) client.request(stream, head("POST", "/predict", fields), 0);
  CHECK(client.await(NGHTTP2_RST_STREAM, stream - 2).number_at(0) == NGHTTP2_REFUSED_STREAM);
  client.send(frame(NGHTTP2_RST_STREAM, 0, 1, number(NGHTTP2_CANCEL)));
  client.send(frame(NGHTTP2_RST_STREAM, 0, 3, number(NGHTTP2_CANCEL)));
  client.request(stream, head("GET", "/health/live"));
  static_cast<void>(client.await(NGHTTP2_DATA, stream));
}

// Frames that open no stream are no use of a connection.
void idle_with_pings() {
  for (const std::uint32_t places : {4096u, 0u}) {  // none: then it holds one that is kept for administration
    EngineOptions options;
    options.max_connections = places;
    options.idle_timeout_ms = options.head_timeout_ms = 300;
    Server server(options);
    RawHttp2 client(server.port());
    client.request(1, head("GET", "/health/live"));
    const std::uint64_t begin_ns = penstock::dataplane::monotonic_ns();
    for (Frame reply; client.next(reply);) {
      const bool ours = reply.type == NGHTTP2_DATA || (reply.type == NGHTTP2_PING && reply.flags == NGHTTP2_FLAG_ACK);
      if (ours) send_all(client.socket(), frame(NGHTTP2_PING, 0, 0, "12345678"));
      CHECK(penstock::dataplane::monotonic_ns() - begin_ns < 30'000'000'000);
    }
  }
}

constexpr std::string_view kNoWindow("\x00\x04\x00\x00\x00\x00", 6);  // SETTINGS_INITIAL_WINDOW_SIZE

const Fields& raw_fields() {
  static const Fields fields{{"content-type", "application/octet-stream"}, {"accept", "application/octet-stream"}};
  return fields;
}

std::string large_row() { return std::string(Server::kLargeElements * sizeof(float), '\0'); }

// The first part of the body, and when there is a window for it the rest.
void send_large(RawHttp2& client, std::uint32_t stream) {
  const std::string row = large_row();
  Fields fields = raw_fields();
  fields.emplace_back("content-length", std::to_string(row.size()));
  client.request(stream, head("POST", "/predict?model=large", fields), 0);
  constexpr std::size_t kPieceBytes = 16'000;
  for (std::size_t at = 0; at < row.size(); at += kPieceBytes) {
    if (at == kPieceBytes) static_cast<void>(client.await(NGHTTP2_WINDOW_UPDATE, stream));
    const std::string_view piece = std::string_view(row).substr(at, kPieceBytes);
    client.send(frame(NGHTTP2_DATA, at + piece.size() == row.size() ? NGHTTP2_FLAG_END_STREAM : 0, stream, piece));
  }
}

// A window that is opened byte by byte holds an answer no longer than one that stays shut. The connection, whose client
// does take something, goes on.
void takes_bytes() {
  EngineOptions options;
  options.write_timeout_ms = 300;
  Server server(options);
  RawHttp2 client(server.port(), kNoWindow);
  send_large(client, 1);
  client.send(frame(NGHTTP2_WINDOW_UPDATE, 0, 1, number(1)));
  for (Frame reply;;) {
    CHECK(client.next(reply));
    if (reply.type == NGHTTP2_RST_STREAM) {
      CHECK(reply.stream == 1 && reply.number_at(0) == NGHTTP2_CANCEL);
      break;
    }
    CHECK(reply.type != NGHTTP2_DATA || (reply.flags & NGHTTP2_FLAG_END_STREAM) == 0);
    if (reply.type == NGHTTP2_DATA) send_all(client.socket(), frame(NGHTTP2_WINDOW_UPDATE, 0, 1, number(1)));
  }
  eventually([&] { return server.engine().state().pool.bytes_used() == 0; });
}

// One answer that is not taken ends alone while the others are.
void takes_others() {
  EngineOptions options;
  options.write_timeout_ms = 300;
  Server server(options);
  RawHttp2 client(server.port(), kNoWindow);
  send_large(client, 1);
  const auto ask = [&](std::uint32_t stream) {
    client.request(stream, head("GET", "/health/live"));
    client.send(frame(NGHTTP2_WINDOW_UPDATE, 0, stream, number(1000)));
  };
  std::uint32_t stream = 3;
  ask(stream);
  for (Frame reply;;) {
    CHECK(client.next(reply));
    if (reply.type == NGHTTP2_RST_STREAM) {
      CHECK(reply.stream == 1 && reply.number_at(0) == NGHTTP2_CANCEL);
      break;
    }
    if (reply.type == NGHTTP2_DATA) ask(stream += 2);
  }
  eventually([&] { return server.engine().state().pool.bytes_used() == 0; });
}

// A client that takes no answers has but some of its requests answered, until it does.
void answers_wait() {
  constexpr int kRequests = 100;
  for (const bool takes : {false, true}) {
    EngineOptions options;
    options.request_timeout_ms = takes ? 60'000 : 3'000;
    Server server(options);
    Http2Client client(server.port(), 0);
    std::vector<std::int32_t> ids;
    for (int i = 0; i < kRequests; ++i)
      ids.push_back(client.request("POST", "/predict?model=large", raw_fields(), large_row()));
    const auto answered = [&] {
      return std::ranges::count_if(ids, [&](std::int32_t id) { return client.answer(id).status() != 0; });
    };
    while (answered() < (takes ? 20 : kRequests)) CHECK(client.read());
    if (takes) {
      for (const std::int32_t id : ids) client.open_window(id, 1 << 20);
    }
    int late = 0;
    for (const std::int32_t id : ids) {
      if (takes) CHECK(client.wait(id).body.size() == large_row().size());
      if (client.answer(id).status() == 504) ++late;
    }
    CHECK(takes ? late == 0 : late >= kRequests - 64 && late < kRequests);
  }
}

// One that waits for its turn does so no longer than its client allows.
void answers_wait_briefly() {
  Server server;
  Http2Client client(server.port(), 0);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 64; ++i) ids.push_back(client.request("POST", "/predict?model=large", raw_fields(), large_row()));
  for (const std::int32_t id : ids) {
    while (client.answer(id).status() == 0) CHECK(client.read());
  }
  Fields fields = raw_fields();
  fields.emplace_back("x-request-timeout-ms", "200");
  const std::int32_t late = client.request("POST", "/predict?model=small", fields, std::string(16, '\0'));
  while (client.answer(late).status() == 0) CHECK(client.read());
  client.open_window(late, 65'535);
  CHECK(client.wait(late).status() == 504);
  CHECK(client.answer(late).body.find("no answer within 200 ms") != std::string::npos);
  const Http2Answer& call = client.call("/inference.GRPCInferenceService/ModelInfer",
                                        penstock::test::message("small", 1, 4, 0), {{"grpc-timeout", "200m"}});
  CHECK(call.grpc_status() == 4 && call.field("grpc-message").starts_with("no answer within 200 ms"));
  for (const std::int32_t id : ids) client.open_window(id, 1 << 20);
  for (const std::int32_t id : ids) CHECK(client.wait(id).body.size() == large_row().size());
}

// A body for which there is no memory waits in the line of those of HTTP/1.1, and its client with it.
void bodies_wait() {
  const std::string row = large_row();
  const std::string length = std::to_string(row.size());
  const std::string request =
      "POST /predict?model=large HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
      "Accept: application/octet-stream\r\nContent-Length: " +
      length + "\r\n\r\n";
  EngineOptions options;
  options.body_pool_bytes = 5 * row.size() / 2;
  Server server(options);
  const auto& waits = server.engine().loops()[0]->stats().memory_waits;
  const auto& used = server.engine().state().pool;
  auto first = std::make_unique<Client>(server.port());
  auto second = std::make_unique<Client>(server.port());
  first->send(request);
  second->send(request);
  eventually([&] { return used.bytes_used() >= 2 * row.size(); });
  Http2Client client(server.port());
  Fields fields = raw_fields();
  fields.emplace_back("content-length", length);
  const std::int32_t large = client.request("POST", "/predict?model=large", fields, row);
  // Others of the connection go on, and do so without memory of the pool.
  CHECK(client.ask("POST", "/predict?model=small", raw_fields(), std::string(16, '\0')).status() == 200);
  eventually([&] { return waits.get() == 1; });
  Client third(server.port());
  third.send(request);
  eventually([&] { return waits.get() == 2; });
  CHECK(client.answer(large).status() == 0);
  CHECK(used.bytes_used() <= 2 * (row.size() + 1024) + 2 * 65'536);
  first.reset();
  second.reset();
  CHECK(client.wait(large).status() == 200 && client.answer(large).body.size() == row.size());
  third.send(row);
  std::string body;
  CHECK(third.receive_reply(body) == 200);
  eventually([&] { return used.bytes_used() == 0; });
}

// It waits no longer than a body may take to come; and one that is taken back leaves the line.
void bodies_wait_in_vain() {
  EngineOptions options;
  options.body_timeout_ms = 200;
  const std::string row = large_row();
  options.body_pool_bytes = row.size() + 10'000;
  Server server(options);
  Client holder(server.port());
  holder.send(
      "POST /predict?model=large HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
      std::to_string(row.size()) + "\r\n\r\n");
  eventually([&] { return server.engine().state().pool.bytes_used() >= row.size(); });
  const auto& waits = server.engine().loops()[0]->stats().memory_waits;
  Http2Client client(server.port());
  const std::int32_t taken_back = client.request("POST", "/predict?model=large", raw_fields(), row);
  client.flush();
  CHECK(client.ask("GET", "/health/live").status() == 200);
  eventually([&] { return waits.get() == 1; });
  client.reset(taken_back);
  const Http2Answer& late = client.ask("POST", "/predict?model=large", raw_fields(), row);
  CHECK(late.status() == 503 && late.body.find("no memory became free") != std::string::npos);
  client.request("POST", "/predict?model=large", raw_fields(), row);
  client.flush();
}

// Half a message of gRPC that says how long it is. Returns its stream.
std::int32_t begin_message(GrpcCalls& client, std::size_t bytes) {
  const std::int32_t id = client.open("/inference.GRPCInferenceService/ModelInfer");
  client.send_bytes(id, prefixed(std::string(bytes, '\0')).substr(0, 100));
  return id;
}

// A message of gRPC says its length in front: a long one has the time of a body with Content-Length.
void long_messages() {
  EngineOptions options;
  options.body_timeout_ms = 200;
  Server server(options);
  GrpcCalls client(server.port());
  const std::uint64_t begin_ns = penstock::dataplane::monotonic_ns();
  CHECK(client.wait_end(begin_message(client, 64'000)).status() == 4);
  CHECK(penstock::dataplane::monotonic_ns() - begin_ns > 1'000'000'000);
}

// The time in which a body waited for memory is not the client's: then it has all of its own.
void bodies_wait_then_come() {
  EngineOptions options;
  options.head_timeout_ms = 300;
  options.body_timeout_ms = 2'000;
  const std::string row = large_row();
  options.body_pool_bytes = row.size() + 10'000;
  Server server(options);
  auto holder = std::make_unique<Client>(server.port());
  holder->send(
      "POST /predict?model=large HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
      std::to_string(row.size()) + "\r\n\r\n");
  eventually([&] { return server.engine().state().pool.bytes_used() >= row.size(); });
  GrpcCalls client(server.port());
  const std::int32_t id = begin_message(client, 20'000);
  eventually([&] { return server.engine().loops()[0]->stats().memory_waits.get() == 1; });
  Client late(server.port());  // until it is refused a part of the time goes by
  late.send("GET /");
  std::string body;
  CHECK(late.receive_reply(body) == 408);
  const std::uint64_t begin_ns = penstock::dataplane::monotonic_ns();
  holder.reset();
  const Call& call = client.wait_end(id);
  CHECK(call.status() == 4 && call.fields.at("grpc-message").find("did not arrive") != std::string::npos);
  CHECK(penstock::dataplane::monotonic_ns() - begin_ns > 2'200'000'000);
}

std::string pseudo(std::string_view method, std::string_view path, std::string_view authority) {
  return field(":method", method) + field(":path", path) + field(":scheme", "http") + field(":authority", authority);
}

// Requests that are none (RFC 9113 8.1 to 8.3, 8.5): each ends its own stream, whatever the others of the connection
// do.
void malformed_requests() {
  Server server;
  RawHttp2 client(server.port());
  const std::string good = head("GET", "/health/live");
  std::uint32_t stream = 1;
  for (const std::string& block :
       {good + field("Upper", "case"), good + field("connection", "close"),
        good + field("transfer-encoding", "chunked"), good + field("te", "gzip"), good + field(":late", "1"),
        good + field(":path", "/two"), good + field("x", "a\nb"), good + field("x", std::string("a\0b", 3)),
        good + field("", "no name"), field("x", "first") + good, field(":method", "GET") + field(":scheme", "http"),
        field(":method", "GET") + field(":path", "/health/live"), pseudo("GET", "", "a"),
        field(":method", "CONNECT") + field(":authority", "a:1") + field(":path", "/"),
        good + field("content-length", "x"), good + field("content-length", "1") + field("content-length", "2")}) {
    client.request(stream, block);
    CHECK(client.await(NGHTTP2_RST_STREAM, stream).number_at(0) == NGHTTP2_PROTOCOL_ERROR);
    stream += 2;
  }
  // Those that HTTP/2 allows and the parser of requests does not are told why.
  for (const std::string& block :
       {pseudo("GET", "/health/live", "a b"), pseudo("GET", "/health/live", "a@b"), pseudo("GET", "/a b", "a"),
        pseudo("GET", "/a#b", "a"), pseudo("G T", "/health/live", "a"), pseudo("GET", "/health/live", ""),
        field(":method", "CONNECT") + field(":authority", "a:1")}) {
    client.request(stream, block);
    Frame reply;
    do {
      CHECK(client.next(reply));
    } while (reply.stream != stream || (reply.type != NGHTTP2_DATA && reply.type != NGHTTP2_RST_STREAM));
    const bool refused = reply.payload.find("\"status\":4") != reply.payload.npos ||
                         reply.payload.find("\"status\":5") != reply.payload.npos;
    CHECK(reply.type == NGHTTP2_RST_STREAM ? reply.number_at(0) == NGHTTP2_PROTOCOL_ERROR : refused);
    stream += 2;
  }
  client.request(stream, good);
  CHECK(client.await(NGHTTP2_DATA, stream).payload == "{\"status\":\"live\"}");
}

// A body that is longer or shorter than it said, and what comes behind its end.
void malformed_bodies() {
  Server server;
  const Fields fields{{"content-type", "application/octet-stream"}, {"content-length", "16"}};
  const std::string post = head("POST", "/predict?model=small", fields);
  for (const std::size_t bytes : {15u, 17u}) {
    RawHttp2 client(server.port());
    client.request(1, post, 0);
    client.send(frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, std::string(bytes, '\0')));
    CHECK(client.await(NGHTTP2_RST_STREAM, 1).number_at(0) == NGHTTP2_PROTOCOL_ERROR);
    client.request(3, head("GET", "/health/live"));
    static_cast<void>(client.await(NGHTTP2_DATA, 3));
  }
  for (const std::string& behind :
       {frame(NGHTTP2_DATA, 0, 1, "more"),
        frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, post)}) {
    RawHttp2 client(server.port());
    client.send(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, post) +
                frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, std::string(16, '\0')) + behind);
    CHECK(client.awaited_end() == NGHTTP2_STREAM_CLOSED);
  }
  // Trailers end a request as DATA does, and say nothing.
  RawHttp2 client(server.port());
  client.send(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, post) +
              frame(NGHTTP2_DATA, 0, 1, std::string(16, '\0')) +
              frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, field("x-sum", "1")));
  CHECK(client.await(NGHTTP2_DATA, 1).payload.find("\"y\"") != std::string::npos);
}

// Frames that no connection may have (RFC 9113 5.1, 6).
void malformed_frames() {
  Server server;
  const std::string ask = head("GET", "/health/live");
  constexpr std::uint8_t kWhole = NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM;
  for (const std::string& wrong :
       {frame(NGHTTP2_HEADERS, kWhole, 2, ask), frame(NGHTTP2_DATA, 0, 5, "a"),
        frame(NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, ask),
        frame(NGHTTP2_HEADERS, 0, 1, ask) + frame(NGHTTP2_PING, 0, 0, "12345678"),
        frame(NGHTTP2_HEADERS, kWhole, 1, "\x80"),
        frame(NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1, number(2) + ask), frame(NGHTTP2_SETTINGS, 0, 1, ""),
        frame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, "123456"),
        frame(NGHTTP2_SETTINGS, 0, 0, std::string("\0\x04\x80\0\0\0", 6)),
        frame(NGHTTP2_SETTINGS, 0, 0, std::string("\0\x05\0\0\0\x01", 6)),
        frame(NGHTTP2_WINDOW_UPDATE, 0, 0, number(0x7fffffff)), frame(NGHTTP2_WINDOW_UPDATE, 0, 0, number(0)),
        frame(NGHTTP2_RST_STREAM, 0, 1, number(0)), frame(NGHTTP2_GOAWAY, 0, 1, number(0) + number(0)),
        frame(NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 0, "\x05"), frame(NGHTTP2_DATA, 0, 1, std::string(16'385, 'a')),
        frame(NGHTTP2_HEADERS, kWhole | NGHTTP2_FLAG_PADDED, 1, "\xff" + ask)}) {
    RawHttp2 client(server.port());
    client.send(wrong);
    CHECK(client.awaited_end() != NGHTTP2_NO_ERROR);
  }
}

// Frames that each want an answer, from a client that reads none: what waits to be sent is bounded.
void floods() {
  EngineOptions options;
  options.write_timeout_ms = 500;
  Server server(options);
  for (const std::string& each : {frame(NGHTTP2_PING, 0, 0, "12345678"), frame(NGHTTP2_SETTINGS, 0, 0, ""),
                                  frame(NGHTTP2_SETTINGS, 0, 0, std::string("\0\x04\0\0\0\x01", 6))}) {
    RawHttp2 client(server.port());
    std::string bytes;
    for (int i = 0; i < 20'000; ++i) bytes += each;
    for (int i = 0; i < 200; ++i) send_all(client.socket(), bytes);
    static_cast<void>(client.awaited_end());
  }
  // Frames that want none cost what they cost, and end nothing.
  RawHttp2 client(server.port());
  std::string bytes;
  for (int i = 0; i < 20'000; ++i)
    bytes += frame(NGHTTP2_PRIORITY, 0, 1, std::string("\0\0\0\0\x10", 5)) + frame(0xfa, 0, 0, "");
  client.send(bytes);
  client.request(3, head("GET", "/health/live"));
  static_cast<void>(client.await(NGHTTP2_DATA, 3));
}

// A call whose fields end after the server began to drain ends as those that were there before.
void drained_within_fields() {
  Server server;
  RawHttp2 client(server.port());
  const std::string watch = head("POST", "/grpc.health.v1.Health/Watch");
  client.send(
      frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, head("GET", "/health/live")) +
      frame(NGHTTP2_HEADERS, 0, 3, watch));
  static_cast<void>(client.await(NGHTTP2_DATA, 1));
  server.engine().drain();
  CHECK(client.await(NGHTTP2_GOAWAY, 0).number_at(0) == 3);
  client.send(frame(NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 3, field("content-type", "application/grpc")) +
              frame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 3, std::string(5, '\0')));
  CHECK((client.await(NGHTTP2_HEADERS, 3).flags & NGHTTP2_FLAG_END_STREAM) != 0);
  CHECK(client.awaited_end() == NGHTTP2_NO_ERROR);
  eventually([&] { return server.engine().drained(); });
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each :
       {Case{"made_to_reset", made_to_reset}, Case{"broken_rules", broken_rules}, Case{"taken_back", taken_back},
        Case{"refused_streams", refused_streams}, Case{"idle_with_pings", idle_with_pings},
        Case{"takes_bytes", takes_bytes}, Case{"takes_others", takes_others}, Case{"answers_wait", answers_wait},
        Case{"answers_wait_briefly", answers_wait_briefly}, Case{"bodies_wait", bodies_wait},
        Case{"bodies_wait_in_vain", bodies_wait_in_vain}, Case{"long_messages", long_messages},
        Case{"bodies_wait_then_come", bodies_wait_then_come}, Case{"malformed_requests", malformed_requests},
        Case{"malformed_bodies", malformed_bodies}, Case{"malformed_frames", malformed_frames}, Case{"floods", floods},
        Case{"drained_within_fields", drained_within_fields}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
