// Requests that are streamed over HTTP/2: pieces that go both ways, back-pressure in windows, and every way to end.
#include <poll.h>

#include "engine_control.hpp"
#include "http2_fixture.hpp"

namespace {

using penstock::dataplane::EngineOptions;
using penstock::test::await;
using penstock::test::ControlPlane;
using penstock::test::Fields;
using penstock::test::Frame;
using penstock::test::frame;
using penstock::test::head;
using penstock::test::number;
using penstock::test::options_for;
using penstock::test::RawHttp2;
using penstock::test::Server;

constexpr std::string_view kAnswerHead =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

void begin(const RawHttp2& client, std::uint32_t stream, std::uint8_t flags = 0, const Fields& more = {}) {
  Fields fields{{"content-type", "application/x-ndjson"}};
  fields.insert(fields.end(), more.begin(), more.end());
  client.request(stream, head("POST", "/predict/batch?model=a", fields), flags);
}

std::string data(std::uint32_t stream, std::string_view bytes, std::uint8_t flags = 0) {
  return frame(NGHTTP2_DATA, flags, stream, bytes);
}

std::string read_to(int fd, std::string_view end) {
  std::string text;
  while (!text.ends_with(end)) {
    char bytes[65536];
    const ssize_t received = ::recv(fd, bytes, sizeof bytes, 0);
    CHECK(received > 0);
    text.append(bytes, static_cast<std::size_t>(received));
  }
  return text;
}

// All that still comes.
std::string rest_of(int fd) {
  std::string text;
  char bytes[65536];
  for (ssize_t received = 0; (received = ::recv(fd, bytes, sizeof bytes, 0)) > 0;)
    text.append(bytes, static_cast<std::size_t>(received));
  ::close(fd);
  return text;
}

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    CHECK(sent > 0);
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

// A row is answered before the next one is sent; other requests of the connection are answered meanwhile.
void both_ways() {
  const ControlPlane plane;
  Server server(options_for(plane));
  RawHttp2 client(server.port());
  for (std::uint32_t stream = 1; stream < 9; stream += 4) {
    begin(client, stream);
    const int call = plane.accept(1);
    const std::string text = read_to(call, "\r\n\r\n");
    CHECK(text.find("HTTP/1.1\r\n") != text.npos && text.find("Transfer-Encoding: chunked") != text.npos);
    client.send(data(stream, "1\n"));
    CHECK(read_to(call, "\r\n1\n\r\n") == "2\r\n1\n\r\n");
    write_all(call, std::string(kAnswerHead) + "3\r\n{}\n\r\n");
    CHECK(client.await(NGHTTP2_HEADERS, stream).payload[0] == '\x88');
    CHECK(client.await(NGHTTP2_DATA, stream).payload == "{}\n");
    client.request(stream + 2, head("GET", "/health/live"));
    CHECK(client.await(NGHTTP2_DATA, stream + 2).payload.starts_with("{\"status\""));
    client.send(data(stream, "2\n") + data(stream, "", NGHTTP2_FLAG_END_STREAM));
    CHECK(read_to(call, "0\r\n\r\n") == "2\r\n2\n\r\n0\r\n\r\n");
    write_all(call, "3\r\n[]\n\r\n0\r\n\r\n");
    ::close(call);
    CHECK(client.await(NGHTTP2_DATA, stream).payload == "[]\n");
  }
  await([&] { return server.engine().loops()[0]->stats().control_active.get() == 0; });
}

void many_at_a_time() {
  const ControlPlane plane;
  Server server(options_for(plane));
  RawHttp2 client(server.port());
  std::vector<int> calls;
  for (std::uint32_t i = 0; i < 10; ++i) {
    begin(client, 1 + 2 * i);
    client.send(data(1 + 2 * i, std::to_string(i)));
    calls.push_back(plane.accept(1));
    CHECK(read_to(calls.back(), std::to_string(i) + "\r\n").find("\r\n1\r\n") != std::string::npos);
    write_all(calls.back(), kAnswerHead);
  }
  for (std::uint32_t i = 10; i-- > 0;) {
    write_all(calls[i], "1\r\n" + std::to_string(i) + "\r\n0\r\n\r\n");
    ::close(calls[i]);
    CHECK(client.await(NGHTTP2_DATA, 1 + 2 * i).payload == std::to_string(i));
  }
}

// A control plane that does not read leaves the client without window, and goes on where it stopped.
void body_waits() {
  const ControlPlane plane;
  Server server(options_for(plane));
  RawHttp2 client(server.port());
  begin(client, 1);
  const int call = plane.accept(1);
  constexpr std::size_t kPieces = 4096;
  constexpr std::size_t kPieceBytes = 8192;
  const std::string piece(kPieceBytes, '~');
  std::size_t window = 65'535;  // of the connection
  std::size_t stream_window = 65'535;
  std::size_t sent = 0;
  std::string body;
  std::thread reader;
  for (Frame update; sent < kPieces;) {
    if (window >= kPieceBytes && stream_window >= kPieceBytes) {
      ++sent;
      client.send(data(1, piece, sent == kPieces ? NGHTTP2_FLAG_END_STREAM : 0));
      window -= kPieceBytes;
      stream_window -= kPieceBytes;
      continue;
    }
    pollfd ready{.fd = client.socket().fd(), .events = POLLIN, .revents = 0};
    // Silence is taken for a full pipe once; afterwards it is only that of a busy machine.
    if (!reader.joinable() && ::poll(&ready, 1, 300) == 0) {
      CHECK(sent < kPieces / 2);
      CHECK(server.engine().state().pool.bytes_used() == 0);
      reader = std::thread([&] { body = read_to(call, "0\r\n\r\n"); });
    }
    CHECK(client.next(update));
    if (update.type == NGHTTP2_WINDOW_UPDATE) (update.stream == 0 ? window : stream_window) += update.number_at(0);
  }
  CHECK(reader.joinable());
  reader.join();
  CHECK(static_cast<std::size_t>(std::count(body.begin(), body.end(), '~')) == kPieces * kPieceBytes);
  ControlPlane::answer(call, std::string(kAnswerHead) + "2\r\nok\r\n0\r\n\r\n");
  CHECK(client.await(NGHTTP2_DATA, 1).payload == "ok");
}

// A client that gives no window stops the control plane, and the others of its connection go on.
void answer_waits() {
  const ControlPlane plane;
  Server server(options_for(plane));
  RawHttp2 client(server.port());
  begin(client, 1, NGHTTP2_FLAG_END_STREAM);
  const int call = plane.accept(1);
  read_to(call, "0\r\n\r\n");
  write_all(call, kAnswerHead);
  const std::string chunk = "100000\r\n" + std::string(1u << 20, '~') + "\r\n";
  std::size_t written = 0;
  for (;;) {
    const std::string_view rest = std::string_view(chunk).substr(written % chunk.size());
    const ssize_t sent = ::send(call, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      written += static_cast<std::size_t>(sent);
      CHECK(written < 16u << 20);
      continue;
    }
    pollfd ready{.fd = call, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 300) == 0) break;
  }
  std::thread writer([&] {
    write_all(call, std::string_view(chunk).substr(written % chunk.size()));
    write_all(call, "0\r\n\r\n");
    ::close(call);
  });
  std::size_t bytes = 0;
  for (Frame answer; (answer.flags & NGHTTP2_FLAG_END_STREAM) == 0 || answer.type != NGHTTP2_DATA;) {
    CHECK(client.next(answer));
    if (answer.type != NGHTTP2_DATA || answer.payload.empty()) continue;
    bytes += answer.payload.size();
    const std::string more = number(static_cast<std::uint32_t>(answer.payload.size()));
    client.send(frame(NGHTTP2_WINDOW_UPDATE, 0, 0, more) + frame(NGHTTP2_WINDOW_UPDATE, 0, 1, more));
  }
  writer.join();
  CHECK(bytes == (written / chunk.size() + (written % chunk.size() == 0 ? 0 : 1)) << 20);
}

// Taken back, or gone with its connection: the control plane does not take half a body for all of it.
void client_leaves() {
  const ControlPlane plane;
  Server server(options_for(plane));
  for (const bool answering : {false, true}) {
    for (const bool resets : {false, true}) {
      auto client = std::make_unique<RawHttp2>(server.port());
      begin(*client, 1);
      client->send(data(1, "1\n"));
      const int call = plane.accept(1);
      read_to(call, "1\n\r\n");
      if (answering) write_all(call, kAnswerHead);
      if (resets) {
        client->send(frame(NGHTTP2_RST_STREAM, 0, 1, number(NGHTTP2_CANCEL)));
        CHECK(rest_of(call).empty());
        client->request(3, head("GET", "/health/live"));
        static_cast<void>(client->await(NGHTTP2_DATA, 3));
      } else {
        client.reset();
        CHECK(rest_of(call).empty());
      }
    }
  }
  await([&] { return server.engine().loops()[0]->stats().control_active.get() == 0; });
}

// Half an answer is never taken for a whole one.
void control_plane_leaves() {
  const ControlPlane plane;
  Server server(options_for(plane));
  RawHttp2 client(server.port());
  begin(client, 1, NGHTTP2_FLAG_END_STREAM);
  ControlPlane::answer(plane.accept(65536), std::string(kAnswerHead) + "3\r\n{}\n\r\n");
  CHECK(client.await(NGHTTP2_RST_STREAM, 1).number_at(0) == NGHTTP2_INTERNAL_ERROR);
  begin(client, 3);
  ::close(plane.accept(65536));
  CHECK(client.await(NGHTTP2_DATA, 3).payload.find("control_plane_unavailable") != std::string::npos);
}

// An answer before the body is there: what still comes of it goes nowhere, and takes no window from the others.
void early_refusal() {
  const ControlPlane plane;
  Server server(options_for(plane));
  RawHttp2 client(server.port());
  begin(client, 1);
  ControlPlane::answer(plane.accept(65536), "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
  CHECK(client.await(NGHTTP2_DATA, 1).payload == "no");
  client.send(data(1, std::string(16'000, '~')) + data(1, "", NGHTTP2_FLAG_END_STREAM));
  client.request(3, head("POST", "/predict/batch", {{"content-type", "text/csv"}, {"content-encoding", "br"}}), 0);
  CHECK(client.await(NGHTTP2_DATA, 3).payload.find("415") != std::string::npos);
  client.request(5, head("GET", "/health/live"));
  static_cast<void>(client.await(NGHTTP2_DATA, 5));
}

void no_progress() {
  const ControlPlane plane;
  EngineOptions options = options_for(plane);
  options.request_timeout_ms = 300;
  options.body_timeout_ms = 60;
  Server server(options);
  RawHttp2 client(server.port());
  begin(client, 1);
  client.send(data(1, "1"));
  const int unread = plane.accept(1);
  CHECK(client.await(NGHTTP2_DATA, 1).payload.find("request_timeout") != std::string::npos);
  ::close(unread);
  for (const bool answering : {false, true}) {
    const std::uint32_t stream = answering ? 5 : 3;
    begin(client, stream, NGHTTP2_FLAG_END_STREAM);
    const int call = plane.accept(1);
    read_to(call, "0\r\n\r\n");
    if (answering) {
      write_all(call, kAnswerHead);
      CHECK(client.await(NGHTTP2_RST_STREAM, stream).number_at(0) == NGHTTP2_INTERNAL_ERROR);
    } else {
      CHECK(client.await(NGHTTP2_DATA, stream).payload.find("deadline_exceeded") != std::string::npos);
    }
    ::close(call);
  }
}

// A body that is not as long as it said ends its stream, and the call without its end.
void broken_body() {
  const ControlPlane plane;
  Server server(options_for(plane));
  RawHttp2 client(server.port());
  begin(client, 1, 0, {{"content-length", "3"}});
  const int call = plane.accept(65536);
  client.send(data(1, "1\n", NGHTTP2_FLAG_END_STREAM));
  CHECK(client.await(NGHTTP2_RST_STREAM, 1).number_at(0) == NGHTTP2_PROTOCOL_ERROR);
  CHECK(rest_of(call).find("0\r\n\r\n") == std::string::npos);
}

// An answer that is not taken is given up; one that is not made is another matter.
void nobody_takes_it() {
  const ControlPlane plane;
  EngineOptions options = options_for(plane);
  options.write_timeout_ms = 200;
  Server server(options);
  RawHttp2 client(server.port(), std::string_view("\x00\x04\x00\x00\x00\x00", 6));
  begin(client, 1, NGHTTP2_FLAG_END_STREAM);
  const int call = plane.accept(65536);
  write_all(call, std::string(kAnswerHead) + "2\r\nok\r\n");
  CHECK(client.awaited_end() == NGHTTP2_NO_ERROR);
  static_cast<void>(rest_of(call));  // the server has ended it
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each :
       {Case{"both_ways", both_ways}, Case{"many_at_a_time", many_at_a_time}, Case{"body_waits", body_waits},
        Case{"answer_waits", answer_waits}, Case{"client_leaves", client_leaves},
        Case{"control_plane_leaves", control_plane_leaves}, Case{"early_refusal", early_refusal},
        Case{"no_progress", no_progress}, Case{"broken_body", broken_body}, Case{"nobody_takes_it", nobody_takes_it}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
