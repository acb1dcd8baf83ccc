// Windows and time in calls whose messages come one by one: what is slow, late or taken back holds up nobody.
#include "engine_control.hpp"
#include "grpc_answers.hpp"

namespace {

using penstock::test::add_idle;
using penstock::test::affine;
using penstock::test::Answer;
using penstock::test::await;
using penstock::test::Call;
using penstock::test::check;
using penstock::test::field;
using penstock::test::GrpcCalls;
using penstock::test::kStream;
using penstock::test::message;
using penstock::test::prefixed;
using penstock::test::read_answer;
using penstock::test::Server;
using penstock::test::varint;

constexpr std::uint32_t kUnderWayMax = 32;

// More messages than may be under way wait where they are, and then at the client: its window stays shut.
void backpressure() {
  Server server;
  const std::uint32_t idle = add_idle(server);
  const auto& stats = server.engine().entry(idle)->stats[0];
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream);
  const std::string one = prefixed(message("idle", 1, 4, 0));
  std::string many;
  while (many.size() < 8 << 20) many += one;
  client.send_bytes(id, many);
  await([&] { return stats.rows_out.get() == kUnderWayMax; });
  // A call beside it is answered all the same; by then everything was read that could be.
  const std::int32_t other = client.open(kStream);
  client.send(other, affine(7));
  check(client.wait(other, 0), "r7", 7);
  client.send(other, affine(8));
  check(client.wait(other, 1), "r8", 8);
  CHECK(stats.rows_out.get() == kUnderWayMax && client.call(id).unsent.size() > 6 << 20);
  CHECK(server.engine().state().pool.bytes_used() < 4 << 20);
  client.reset(id);
  await([&] { return stats.rows_cancelled.get() == kUnderWayMax; });
  await([&] { return server.engine().state().pool.bytes_used() < 64 << 10; });
}

void taken_back() {
  Server server;
  const std::uint32_t idle = add_idle(server);
  const auto& stats = server.engine().entry(idle)->stats[0];
  {
    GrpcCalls client(server.port());
    for (int i = 0; i < 20; ++i) {
      const std::int32_t id = client.open(kStream);
      client.send(id, message("idle", 3, 4, 0));
      client.send_bytes(id, prefixed(affine(1)).substr(0, 20));
    }
    await([&] { return stats.rows_out.get() == 60; });
  }  // the connection is gone
  await([&] { return stats.rows_cancelled.get() == 60; });
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream);
  client.send(id, affine(3));
  check(client.wait(id, 0), "r3", 3);
}

void deadlines() {
  Server server;
  const std::uint32_t idle = add_idle(server);
  const auto& stats = server.engine().entry(idle)->stats[0];
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream, {{"grpc-timeout", "300m"}});
  client.send(id, affine(1));
  check(client.wait(id, 0), "r1", 1);
  client.send(id, message("idle", 1, 4, 0));
  // Whichever is noticed first: that of the message, which is the call's, or the call's.
  CHECK(client.wait_end(id).status() == 4);
  await([&] { return stats.rows_cancelled.get() == 1; });
  CHECK(client.wait_end(client.open(kStream, {{"grpc-timeout", "1m"}})).status() == 4);
  CHECK(client.wait_end(client.open(kStream, {{"grpc-timeout", "soon"}})).status() == 3);
}

// A message of its own takes too long, and the stream goes on; one that does not arrive ends it.
void late_messages() {
  penstock::dataplane::EngineOptions options;
  options.request_timeout_ms = 150;
  options.body_timeout_ms = 300;
  Server server(options);
  add_idle(server);
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream);
  client.send(id, message("idle", 1, 4, 0, "late"));
  client.send(id, affine(1));
  const Answer late = read_answer(client.wait(id, 0));
  CHECK(late.id == "late" && late.error.starts_with("no answer within 150 ms"));
  check(client.wait(id, 1), "r1", 1);
  client.send_bytes(id, prefixed(affine(1)).substr(0, 20));
  const Call& call = client.wait_end(id);
  CHECK(call.status() == 4 && call.fields.at("grpc-message").find("did not arrive") != std::string::npos);
}

// That its call may last longer gives a message no more time than it has otherwise, and what it asks for itself counts.
void messages_own_time() {
  penstock::dataplane::EngineOptions options;
  options.request_timeout_ms = 400;
  Server server(options);
  add_idle(server);
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream, {{"grpc-timeout", "60S"}});
  client.send(id, message("idle", 1, 4, 0, "late"));
  CHECK(read_answer(client.wait(id, 0)).error.starts_with("no answer within 400 ms"));
  const std::string own = field(4, field(1, "timeout") + field(2, varint(2 << 3) + varint(150'000)));
  client.send(id, message("idle", 1, 4, 0, "own") + own);
  const Answer answer = read_answer(client.wait(id, 1));
  CHECK(answer.id == "own" && answer.error.starts_with("no answer within 150 ms"));
}

std::string window_update(std::int32_t id) {
  std::string out("\0\0\4\x8\0", 5);
  for (const std::int32_t value : {id, 0x7fff0000 - 65'536})
    for (const int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(value >> shift));
  return out;
}

// Messages that are answered without a worker, and all at once: the other connections have their turn between them.
void others_between() {
  constexpr std::size_t kStreams = 24;
  constexpr std::size_t kMessages = 50'000;  // of no bytes: each is answered by an error
  constexpr std::size_t kPassBytes = 6 * (128 * 1024 + 32 * 1024);
  Server server;
  GrpcCalls client(server.port(), false);
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < kStreams; ++i) ids.push_back(client.open(kStream));
  for (const std::int32_t id : ids) client.send_bytes(id, std::string(5 * kMessages, '\0'));
  std::string updates = window_update(0);
  for (const std::int32_t id : ids) {
    while (!client.call(id).unsent.empty()) CHECK(client.read());
    updates += window_update(id);
  }
  const std::size_t bytes = kStreams * kMessages * (5 + client.wait(ids[0], 0).size()) - 65'536;
  const auto& passes = server.engine().loops()[0]->stats().passes;
  const std::uint64_t before = passes.get();
  client.socket().send(updates);
  std::string taken(1 << 20, '\0');
  for (std::size_t all = 0; all < bytes;) {
    const ssize_t received = ::recv(client.socket().fd(), taken.data(), taken.size(), 0);
    CHECK(received > 0);
    all += static_cast<std::size_t>(received);
  }
  CHECK(passes.get() - before >= bytes / kPassBytes);
}

// A client that takes nothing: what it is owed is bounded, and its connection is given up.
void slow_reader() {
  penstock::dataplane::EngineOptions options;
  options.write_timeout_ms = 500;
  Server server(options);
  const auto& stats = server.engine().entry(0)->stats[0];
  GrpcCalls client(server.port(), false);
  const std::int32_t id = client.open(kStream);
  const std::string one = prefixed(message("small", 64, 4, 1));
  std::string many;
  for (int i = 0; i < 4000; ++i) many += one;
  client.send_bytes(id, many);
  while (!client.call(id).ended && client.read()) continue;
  CHECK(client.call(id).unsent.size() > many.size() / 2);
  CHECK(stats.rows_ok.get() < 64 * 1000);
  await([&] { return stats.rows_out.get() == 0 && server.engine().state().pool.bytes_used() < 64 << 10; });
}

// The answers fill the client's window to the byte, and it has taken them all: nothing is late.
void exact_window() {
  penstock::dataplane::EngineOptions options;
  options.write_timeout_ms = 300;
  Server server(options);
  GrpcCalls client(server.port(), false);
  const std::int32_t id = client.open(kStream);
  // Long names, so that lengths of one more byte change no other.
  const auto ask = [&](std::size_t number, std::size_t more) {
    client.send(id, message("small", 1, 4, 0, std::string(60 + more, 'x')));
    return 5 + client.wait(id, number).size();
  };
  const std::size_t one = ask(0, 0);
  std::size_t left = 65'535 - one;
  for (std::size_t number = 1; left > 0; ++number) {
    const std::size_t bytes = ask(number, std::min<std::size_t>(60, left % one));
    CHECK(bytes <= left);
    left -= bytes;
  }
  // Another call of the connection outlasts the time in which answers must be taken.
  const std::int32_t later = client.open(kStream, {{"grpc-timeout", "1S"}});
  CHECK(client.wait_end(later).status() == 4 && !client.call(id).ended);
}

// The time of a call is over while half an answer is with a client that takes no more: it is told at once.
void torn_answer() {
  Server server;
  GrpcCalls client(server.port(), false);
  const std::int32_t id = client.open(kStream, {{"grpc-timeout", "500m"}});
  client.send(id, message("large", 1, Server::kLargeElements, 1));
  const Call& call = client.wait_end(id);  // its window stays shut
  CHECK(call.messages.empty() && call.received.size() > 60'000 && call.status() == -1);
  await([&] { return server.engine().state().pool.bytes_used() == 0; });
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each :
       {Case{"backpressure", backpressure}, Case{"taken_back", taken_back}, Case{"deadlines", deadlines},
        Case{"late_messages", late_messages}, Case{"messages_own_time", messages_own_time},
        Case{"others_between", others_between}, Case{"torn_answer", torn_answer}, Case{"slow_reader", slow_reader},
        Case{"exact_window", exact_window}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
