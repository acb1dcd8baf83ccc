// Requests that are streamed through the control plane: pieces that go both ways, back-pressure, and every way to end.
#include <fcntl.h>
#include <poll.h>

#include "engine_control.hpp"

namespace {

using penstock::dataplane::EngineOptions;
using penstock::test::await;
using penstock::test::Client;
using penstock::test::ControlPlane;
using penstock::test::options_for;
using penstock::test::Server;

constexpr std::string_view kHead =
    "POST /predict/batch?model=a HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
    "Transfer-Encoding: chunked\r\n\r\n";
constexpr std::string_view kAnswerHead =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
// What the sockets and windows on the way hold, with room to spare; a stream is much longer.
constexpr std::size_t kHeldMax = 16u << 20;

// Reads until what came ends with `end`.
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

void write_all(int fd, std::string_view bytes) {
  CHECK(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

// Writes the piece over and over until nothing has been taken for a while; how much was.
std::size_t write_until_full(int fd, std::string_view piece) {
  std::size_t written = 0;
  for (;;) {
    const std::string_view rest = piece.substr(written % piece.size());
    const ssize_t sent = ::send(fd, rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      written += static_cast<std::size_t>(sent);
      CHECK(written < kHeldMax);
      continue;
    }
    pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 300) == 0) return written;
  }
}

// Reads up to the end of the connection: true for an orderly one, false for a reset.
bool ends_orderly(int fd, std::string* text = nullptr) {
  char bytes[65536];
  for (;;) {
    const ssize_t received = ::recv(fd, bytes, sizeof bytes, 0);
    if (received <= 0) return received == 0;
    if (text != nullptr) text->append(bytes, static_cast<std::size_t>(received));
  }
}

// A row is answered before the next one is sent, and the connection is good for other requests afterwards.
void both_ways() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const Client client(server.port());
  for (int round = 0; round < 2; ++round) {
    client.send(kHead);
    const int call = plane.accept(1);
    const std::string head = read_to(call, "\r\n\r\n");
    CHECK(head.find("HTTP/1.1\r\n") != std::string::npos && head.find("Transfer-Encoding: chunked") != head.npos);
    client.send("2\r\n1\n\r\n");
    CHECK(read_to(call, "\r\n1\n\r\n") == "2\r\n1\n\r\n");
    write_all(call, kAnswerHead);
    write_all(call, "3\r\n{}\n\r\n");
    const std::string answer = read_to(client.fd(), "3\r\n{}\n\r\n");
    CHECK(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.find("X-Request-Id: ") != answer.npos);
    client.send("2\r\n2\n\r\n0\r\n\r\n");
    CHECK(read_to(call, "0\r\n\r\n") == "2\r\n2\n\r\n0\r\n\r\n");
    write_all(call, "3\r\n[]\n\r\n0\r\n\r\n");
    ::close(call);
    CHECK(read_to(client.fd(), "0\r\n\r\n") == "3\r\n[]\n\r\n0\r\n\r\n");
  }
  client.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(read_to(client.fd(), "}").starts_with("HTTP/1.1 200"));
}

// A control plane that does not read stops the client, and goes on where it stopped.
void body_waits() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const Client client(server.port());
  constexpr std::size_t kBodyBytes = 64u << 20;
  client.send("POST /predict/batch HTTP/1.1\r\nHost: a\r\nContent-Type: text/csv\r\nContent-Length: " +
              std::to_string(kBodyBytes) + "\r\n\r\n");
  const int call = plane.accept(1);
  const std::string piece(1u << 20, '~');
  std::size_t sent = write_until_full(client.fd(), piece);
  CHECK(server.engine().state().pool.bytes_used() == 0);
  std::thread sender([&] {
    for (; sent < kBodyBytes; sent += std::min(piece.size(), kBodyBytes - sent))
      client.send(std::string_view(piece).substr(0, std::min(piece.size(), kBodyBytes - sent)));
  });
  std::string body = read_to(call, "0\r\n\r\n");
  sender.join();
  CHECK(static_cast<std::size_t>(std::count(body.begin(), body.end(), '~')) == kBodyBytes);
  ControlPlane::answer(call, std::string(kAnswerHead) + "0\r\n\r\n");
  CHECK(read_to(client.fd(), "0\r\n\r\n").starts_with("HTTP/1.1 200"));
}

// A client that does not read stops the control plane.
void answer_waits() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const Client client(server.port());
  client.send(std::string(kHead) + "0\r\n\r\n");
  const int call = plane.accept(1);
  read_to(call, "0\r\n\r\n");
  write_all(call, kAnswerHead);
  std::string chunk = "100000\r\n" + std::string(1u << 20, '~') + "\r\n";
  std::size_t written = write_until_full(call, chunk);
  const std::size_t rest = chunk.size() - written % chunk.size();  // the last one is finished below
  std::thread writer([&] {
    std::string_view bytes = std::string_view(chunk).substr(chunk.size() - rest);
    while (!bytes.empty()) {
      const ssize_t sent = ::send(call, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      CHECK(sent > 0);
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    write_all(call, "0\r\n\r\n");
    ::close(call);
  });
  const std::string answer = read_to(client.fd(), "0\r\n\r\n");
  writer.join();
  const auto sent = static_cast<std::ptrdiff_t>((written + rest) / chunk.size() << 20);
  CHECK(std::count(answer.begin(), answer.end(), '~') == sent);
}

void client_leaves() {
  const ControlPlane plane;
  Server server(options_for(plane));
  for (const bool answering : {false, true}) {
    auto client = std::make_unique<Client>(server.port());
    client->send(std::string(kHead) + "2\r\n1\n\r\n");
    const int call = plane.accept(1);
    read_to(call, "1\n\r\n");
    if (answering) write_all(call, kAnswerHead);
    client.reset();
    std::string rest;
    ends_orderly(call, &rest);
    CHECK(rest.empty());  // no last chunk
    ::close(call);
  }
  await([&] { return server.engine().loops()[0]->stats().control_active.get() == 0; });
}

// Half an answer is never taken for a whole one, whatever says where it ends.
void control_plane_leaves() {
  const ControlPlane plane;
  Server server(options_for(plane));
  for (const std::string_view version : {"HTTP/1.1", "HTTP/1.0"}) {
    const Client client(server.port());
    client.send("POST /predict/batch " + std::string(version) +
                "\r\nHost: a\r\nContent-Type: text/csv\r\nContent-Length: 2\r\n\r\n1\n");
    const int call = plane.accept(1);
    read_to(call, "0\r\n\r\n");
    ControlPlane::answer(call, std::string(kAnswerHead) + "3\r\n{}\n\r\n");
    std::string answer;
    CHECK(!ends_orderly(client.fd(), &answer));
  }
  const Client client(server.port());
  client.send(kHead);
  const int call = plane.accept(1);
  read_to(call, "\r\n\r\n");
  ::close(call);
  std::string answer;
  CHECK(ends_orderly(client.fd(), &answer) && answer.starts_with("HTTP/1.1 502"));
}

// What is wrong with the request is said before its body has come, and ends the connection.
void early_refusal() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const Client client(server.port());
  client.send(std::string(kHead) + "2\r\n1\n\r\n");
  ControlPlane::answer(plane.accept(1), "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
  std::string answer;
  CHECK(ends_orderly(client.fd(), &answer));
  CHECK(answer.starts_with("HTTP/1.1 404") && answer.ends_with("no"));
  CHECK(answer.find("Connection: close") != answer.npos && answer.find("Content-Length: 2") != answer.npos);
}

void old_client() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const Client client(server.port());
  client.send(
      "POST /predict/batch HTTP/1.0\r\nConnection: keep-alive\r\nContent-Type: text/csv\r\nContent-Length: "
      "2\r\n\r\n1\n");
  const int call = plane.accept(1);
  read_to(call, "0\r\n\r\n");
  ControlPlane::answer(call, std::string(kAnswerHead) + "3\r\n{}\n\r\n3\r\n[]\n\r\n0\r\n\r\n");
  std::string answer;
  CHECK(ends_orderly(client.fd(), &answer));
  CHECK(answer.ends_with("\r\n\r\n{}\n[]\n") && answer.find("Transfer-Encoding") == answer.npos);
}

// Requests before and behind a streamed one on the same connection are answered in their order.
void in_a_pipeline() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const Client client(server.port());
  const std::string models = "GET /models HTTP/1.1\r\nHost: a\r\n\r\n";
  client.send(models + std::string(kHead) + "2\r\n1\n\r\n0\r\n\r\n" + models);
  ControlPlane::answer(plane.accept(65536, "GET "), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
  const int call = plane.accept(5, "POST ");
  read_to(call, "0\r\n\r\n");
  ControlPlane::answer(call, std::string(kAnswerHead) + "6\r\nsecond\r\n0\r\n\r\n");
  ControlPlane::answer(plane.accept(65536, "GET "), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthird");
  const std::string answers = read_to(client.fd(), "third");
  CHECK(answers.find("first") < answers.find("second"));
}

void continues() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const Client client(server.port());
  std::string head(kHead);
  client.send(head.insert(head.size() - 2, "Expect: 100-continue\r\n"));
  CHECK(read_to(client.fd(), "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("2\r\n1\n\r\n0\r\n\r\n");
  const int call = plane.accept(1);
  CHECK(read_to(call, "0\r\n\r\n").find("xpect:") == std::string::npos);
  ControlPlane::answer(call, std::string(kAnswerHead) + "0\r\n\r\n");
  CHECK(read_to(client.fd(), "0\r\n\r\n").starts_with("HTTP/1.1 200"));
}

// Whoever lets the others wait is told so; once the head is out only the end of the connection can say it.
void no_progress() {
  const ControlPlane plane;
  EngineOptions options = options_for(plane);
  options.request_timeout_ms = 300;
  options.body_timeout_ms = 60;
  Server server(options);
  const Client slow(server.port());
  slow.send(std::string(kHead) + "2\r\n1");
  const int unread = plane.accept(1);
  std::string answer;
  CHECK(ends_orderly(slow.fd(), &answer) && answer.starts_with("HTTP/1.1 408"));
  for (const bool answering : {false, true}) {
    const Client client(server.port());
    client.send(std::string(kHead) + "0\r\n\r\n");
    const int call = plane.accept(1);
    read_to(call, "0\r\n\r\n");
    if (answering) write_all(call, kAnswerHead);
    if (answering) {
      CHECK(!ends_orderly(client.fd()));
    } else {
      CHECK(read_to(client.fd(), "}").starts_with("HTTP/1.1 504"));
    }
    ::close(call);
  }
  ::close(unread);
}

void broken_body() {
  const ControlPlane plane;
  Server server(options_for(plane));
  for (const bool answering : {false, true}) {
    const Client client(server.port());
    client.send(std::string(kHead) + "2\r\n1\n\r\n");
    const int call = plane.accept(1);
    read_to(call, "1\n\r\n");
    if (answering) {
      write_all(call, kAnswerHead);
      read_to(client.fd(), "\r\n\r\n");
    }
    client.send("no size\r\n");
    std::string answer;
    CHECK(ends_orderly(client.fd(), &answer) != answering);
    CHECK(answering || answer.starts_with("HTTP/1.1 400"));
    std::string rest;
    ends_orderly(call, &rest);
    CHECK(rest.empty());
    ::close(call);
  }
}

// Long requests leave places for administration.
void places() {
  const ControlPlane plane;
  Server server(options_for(plane));
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<int> calls;
  for (std::size_t i = 0; i < penstock::dataplane::kControlStreamsMax; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(kHead);
    calls.push_back(plane.accept(1));
  }
  const Client late(server.port());
  late.send(kHead);
  std::string answer;
  CHECK(ends_orderly(late.fd(), &answer) && answer.starts_with("HTTP/1.1 503"));
  clients.clear();
  await([&] { return server.engine().loops()[0]->stats().control_active.get() == 0; });
  for (const int call : calls) ::close(call);
  const Client next(server.port());
  next.send(kHead);
  ::close(plane.accept(1));
}

// The private listener takes predictions without a key, also beyond max_connections; the public one does not.
void private_listener() {
  const ControlPlane plane;
  EngineOptions options = options_for(plane);
  penstock::dataplane::Engine engine(options);
  const std::uint16_t port = engine.listen_tcp("127.0.0.1", 0);
  const std::string path = plane.path() + "-predict";
  engine.listen_private(path);
  engine.set_keys({}, {.required = true});
  engine.start();
  engine.set_ready(true);
  constexpr std::string_view kPredict =
      "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
  Client outside(port);
  for (const std::string_view request : {kPredict, kHead}) {
    const Client client(port);
    client.send(request);
    CHECK(read_to(client.fd(), "}").starts_with("HTTP/1.1 401"));
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int inside = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(::connect(inside, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  write_all(inside, kPredict);
  CHECK(!read_to(inside, "}").starts_with("HTTP/1.1 401"));
  engine.drain();
  await([&] { return engine.drained() || ::shutdown(outside.fd(), SHUT_RDWR) == 0; });
  write_all(inside, kPredict);  // what was accepted may still need it
  CHECK(!read_to(inside, "}").starts_with("HTTP/1.1 401"));
  ::close(inside);
  engine.stop();
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each :
       {Case{"both_ways", both_ways}, Case{"body_waits", body_waits}, Case{"answer_waits", answer_waits},
        Case{"client_leaves", client_leaves}, Case{"control_plane_leaves", control_plane_leaves},
        Case{"early_refusal", early_refusal}, Case{"old_client", old_client}, Case{"in_a_pipeline", in_a_pipeline},
        Case{"continues", continues}, Case{"no_progress", no_progress}, Case{"broken_body", broken_body},
        Case{"places", places}, Case{"private_listener", private_listener}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
