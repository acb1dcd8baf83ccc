// Calls whose messages come and go one by one: each message has its answer, in its turn, and what is torn, late, slow
// or taken back holds nothing.
#include <deque>
#include <random>

#include "codec/codec_utf8.hpp"
#include "codec/proto_reader.hpp"
#include "engine_control.hpp"
#include "grpc_calls.hpp"

namespace {

using penstock::dataplane::is_utf8;
using penstock::dataplane::ProtoField;
using penstock::dataplane::ProtoReader;
using penstock::test::await;
using penstock::test::Call;
using penstock::test::field;
using penstock::test::GrpcCalls;
using penstock::test::message;
using penstock::test::prefixed;
using penstock::test::Server;
using penstock::test::varint;

constexpr const char* kStream = "/inference.GRPCInferenceService/ModelStreamInfer";
constexpr const char* kWatch = "/grpc.health.v1.Health/Watch";
constexpr const char* kReflect = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
constexpr std::uint32_t kUnderWayMax = 32;

struct Answer {
  std::string error, model, id, raw;
  bool is_final = false;
};

Answer read_answer(const std::string& bytes) {
  Answer answer;
  ProtoReader reader(bytes);
  ProtoField each;
  while (reader.next(each)) {
    if (each.is_bytes(1)) answer.error = each.bytes;
    if (!each.is_bytes(2)) continue;
    ProtoReader inner(each.bytes);
    ProtoField part;
    while (inner.next(part)) {
      if (part.is_bytes(1)) answer.model = part.bytes;
      if (part.is_bytes(3)) answer.id = part.bytes;
      if (part.is_bytes(4)) answer.is_final = part.bytes.find("triton_final_response") != std::string_view::npos;
      if (part.is_bytes(6)) answer.raw = part.bytes;
    }
    CHECK(!inner.is_malformed());
  }
  CHECK(!reader.is_malformed());
  return answer;
}

void check(const std::string& bytes, const std::string& id, float first, std::size_t elements = 4) {
  const Answer answer = read_answer(bytes);
  CHECK(answer.error.empty() && answer.id == id && answer.is_final);
  CHECK(answer.raw.size() == elements * sizeof(float));
  float value = 0;
  std::memcpy(&value, answer.raw.data(), sizeof value);
  CHECK(value == 2 * first + 1);
}

std::string name_of(std::size_t number) { return std::string("r").append(std::to_string(number)); }

std::string affine(std::size_t i) { return message("small", 1, 4, static_cast<float>(i), name_of(i)); }

void in_order() {
  Server server;
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream);
  for (std::size_t i = 0; i < 500; ++i) client.send(id, affine(i));
  for (std::size_t i = 0; i < 500; ++i) check(client.wait(id, i), name_of(i), static_cast<float>(i));
  client.send(id, affine(500));  // after a while in which nothing was under way
  check(client.wait(id, 500), "r500", 500);
  client.send(id, affine(501));
  client.finish(id);
  const Call& call = client.wait_end(id);
  CHECK(call.messages.size() == 502 && call.status() == 0);
  check(call.messages[501], "r501", 501);
  CHECK(call.fields.at(":status") == "200" && call.fields.at("content-type") == "application/grpc");
  const std::int32_t empty = client.open(kStream);
  client.finish(empty);
  CHECK(client.wait_end(empty).status() == 0 && client.call(empty).messages.empty());
}

// Rows of every size, in one stream: those that go to jobs are answered in their turn, too.
void sizes() {
  Server server;
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream);
  for (std::size_t i = 0; i < 12; ++i) {
    const auto first = static_cast<float>(i);
    client.send(id, i % 3 == 0 ? message("large", 1, Server::kLargeElements, first, std::to_string(i))
                               : message("small", i % 3 == 1 ? 1 : 5000, 4, first, std::to_string(i)));
  }
  client.finish(id);
  CHECK(client.wait_end(id).status() == 0 && client.call(id).messages.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) {
    check(client.call(id).messages[i], std::to_string(i), static_cast<float>(i),
          i % 3 == 0   ? Server::kLargeElements
          : i % 3 == 1 ? 4
                       : 20'000);
  }
}

void errors() {
  Server server;
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kStream);
  client.send(id, affine(1));
  client.send(id, message("nothing", 1, 4, 0, "bad"));
  client.send(id, "");
  client.send(id, "\x0a\xff");
  client.send(id, affine(2));
  check(client.wait(id, 0), "r1", 1);
  Answer answer = read_answer(client.wait(id, 1));
  CHECK(answer.error.find("no model 'nothing'") != std::string::npos && answer.id == "bad" && answer.is_final);
  CHECK(answer.model.empty() && answer.raw.empty());
  CHECK(!read_answer(client.wait(id, 2)).error.empty());
  CHECK(read_answer(client.wait(id, 3)).error == "the message is no protobuf");
  check(client.wait(id, 4), "r2", 2);
  client.finish(id);
  CHECK(client.wait_end(id).status() == 0);
}

// Details and names are cut to their bounds, and never within a character: clients refuse the whole stream for one.
void cut_texts() {
  Server server;
  GrpcCalls client(server.port());
  const auto two_byte = [](std::string text, int characters) {
    for (int i = 0; i < characters; ++i) text += "\xc3\xa9";
    return text;
  };
  const std::int32_t id = client.open(kStream);
  std::size_t number = 0;
  for (const char* const first : {"", "a"}) {  // a bound falls within a character of one of them
    client.send(id, message(two_byte(first, 300), 1, 4, 0, "long model"));
    Answer answer = read_answer(client.wait(id, number++));
    CHECK(is_utf8(answer.error) && answer.error.find("\xc3\xa9") != std::string::npos && answer.id == "long model");
    client.send(id, message("small", 1, 4, 0, two_byte(first, 200)));
    answer = read_answer(client.wait(id, number++));
    CHECK(is_utf8(answer.error) && is_utf8(answer.id) && two_byte(first, 200).starts_with(answer.id));
    CHECK(answer.id.size() >= 250);
  }
  client.send(id, message("\xff", 1, 4, 0, "b\xff"));
  const Answer answer = read_answer(client.wait(id, number));
  CHECK(is_utf8(answer.error) && answer.error.find("\xef\xbf\xbd") != std::string::npos && answer.id == "b");
}

// However DATA is cut.
void pieces() {
  Server server;
  GrpcCalls client(server.port());
  std::mt19937 random(11);
  std::string all;
  for (std::size_t i = 0; i < 200; ++i) all += prefixed(affine(i));
  const std::int32_t id = client.open(kStream);
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t bytes = std::min<std::size_t>(all.size() - at, 1 + random() % (random() % 8 == 0 ? 5000 : 9));
    client.send_bytes(id, std::string_view(all).substr(at, bytes));
    at += bytes;
  }
  for (std::size_t i = 0; i < 200; ++i) check(client.wait(id, i), name_of(i), static_cast<float>(i));
}

void torn() {
  Server server;
  GrpcCalls client(server.port());
  const auto ended = [&](std::string_view bytes) {
    const std::int32_t id = client.open(kStream);
    client.send_bytes(id, bytes);
    client.finish(id);
    return client.wait_end(id).status();
  };
  CHECK(ended(prefixed(affine(1)).substr(0, 30)) == 3);
  CHECK(ended(std::string("\0\0", 2)) == 3);
  CHECK(ended(std::string("\1\0\0\0\1x", 6)) == 12);              // compressed
  CHECK(ended(std::string("\0\x7f\xff\xff\xff", 5) + "x") == 8);  // too large
  // What came before is answered before.
  const std::int32_t id = client.open(kStream);
  client.send_bytes(id, prefixed(affine(1)) + std::string("\0\x7f\xff\xff\xff and more", 14));
  CHECK(client.wait_end(id).status() == 8 && client.call(id).messages.size() == 1);
  check(client.call(id).messages[0], "r1", 1);
}

// A model whose rows nobody takes.
std::uint32_t add_idle(Server& server) {
  penstock::batcher::RingConfig config;
  config.schema = {penstock::RowLayout({{"x", penstock::DType::kFloat32, {4}}}),
                   penstock::RowLayout({{"y", penstock::DType::kFloat32, {4}}})};
  const std::uint32_t idle = server.engine().add_ring("idle", "1", config);
  server.engine().publish({{"small", "1", 0, true, true}, {"idle", "1", idle, true, true}});
  return idle;
}

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

void keys() {
  Server server;
  server.engine().set_keys({}, {.required = true});
  GrpcCalls client(server.port());
  CHECK(client.wait_end(client.open(kStream)).status() == 16);
  CHECK(client.wait_end(client.open(kReflect)).status() == 16);
  server.engine().set_keys({}, {.required = false});
  const std::int32_t id = client.open(kStream);
  client.send(id, affine(1));
  check(client.wait(id, 0), "r1", 1);
  server.engine().set_keys({}, {.required = true});
  client.send(id, affine(2));
  CHECK(client.wait_end(id).status() == 16);
  const std::int32_t watch = client.open(kWatch);  // needs none
  client.send(watch, "");
  CHECK(client.wait(watch, 0) == "\x08\x01");
}

void many_streams() {
  Server server;
  GrpcCalls client(server.port());
  std::vector<std::int32_t> ids;
  for (int round = 0; round < 3; ++round) {  // places and streams are used again
    ids.clear();
    for (int i = 0; i < 100; ++i) ids.push_back(client.open(kStream));
    for (std::size_t k = 0; k < 40; ++k) {
      for (const std::int32_t id : ids) client.send(id, affine(k + static_cast<std::size_t>(id)));
    }
    for (const std::int32_t id : ids) client.finish(id);
    for (const std::int32_t id : ids) {
      CHECK(client.wait_end(id).status() == 0 && client.call(id).messages.size() == 40);
      for (std::size_t k = 0; k < 40; ++k) {
        const std::size_t number = k + static_cast<std::size_t>(id);
        check(client.call(id).messages[k], name_of(number), static_cast<float>(number));
      }
    }
  }
}

void watching() {
  Server server;
  GrpcCalls client(server.port());
  const auto watch = [&](std::string_view name) {
    const std::int32_t id = client.open(kWatch);
    client.send(id, name.empty() ? "" : field(1, name));
    client.finish(id);
    return id;
  };
  const std::int32_t all = watch("");
  const std::int32_t service = watch("inference.GRPCInferenceService");
  const std::int32_t small = watch("small");
  const std::int32_t version = watch("small/1");
  const std::int32_t other = watch("small/2");
  for (const std::int32_t id : {all, service, small, version}) CHECK(client.wait(id, 0) == "\x08\x01");
  CHECK(client.wait(other, 0) == "\x08\x03");
  server.engine().set_ready(false);
  for (const std::int32_t id : {all, service}) CHECK(client.wait(id, 1) == "\x08\x02");
  server.engine().set_ready(true);
  for (const std::int32_t id : {all, service}) CHECK(client.wait(id, 2) == "\x08\x01");
  server.engine().publish({{"small", "1", 0, false, true}, {"small", "2", 1, true, true}});
  CHECK(client.wait(other, 1) == "\x08\x01");
  server.engine().publish({{"small", "2", 1, true, false}});
  CHECK(client.wait(small, 1) == "\x08\x02" && client.wait(other, 2) == "\x08\x02");
  CHECK(client.wait(version, 1) == "\x08\x03");
  server.engine().drain();
  CHECK(client.wait(all, 3) == "\x08\x02");
  for (const std::int32_t id : {all, service, small, version, other}) CHECK(client.wait_end(id).status() == 14);
  await([&] { return server.engine().drained(); });
}

void wrong_watches() {
  Server server;
  GrpcCalls client(server.port());
  const std::int32_t none = client.open(kWatch);
  client.finish(none);
  CHECK(client.wait_end(none).status() == 3);
  const std::int32_t two = client.open(kWatch);
  client.send(two, "");
  client.send(two, "");
  CHECK(client.wait_end(two).status() == 3 && client.call(two).messages.size() == 1);
  const std::int32_t torn = client.open(kWatch);
  client.send(torn, "\x0a\xff");
  CHECK(client.wait_end(torn).status() == 3);
  const std::int32_t large = client.open(kWatch);
  client.send_bytes(large, std::string("\0\1\0\0\0", 5) + "x");
  CHECK(client.wait_end(large).status() == 8);
}

void draining() {
  Server server;
  add_idle(server);
  GrpcCalls client(server.port());
  const std::int32_t quiet = client.open(kStream);
  client.send(quiet, affine(1));
  check(client.wait(quiet, 0), "r1", 1);
  const std::int32_t held = client.open(kStream, {{"grpc-timeout", "400m"}});
  client.send(held, message("idle", 1, 4, 0));
  await([&] { return server.engine().entry(2)->stats[0].rows_out.get() == 1; });
  server.engine().drain();
  CHECK(client.wait_end(quiet).status() == 14);
  CHECK(client.wait_end(held).status() == 4 || client.call(held).status() == 14);
  await([&] { return server.engine().drained(); });
}

void relayed() {
  penstock::test::ControlPlane plane;
  Server server(penstock::test::options_for(plane));
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kReflect);
  client.send(id, "one");
  client.send(id, "two");
  constexpr std::string_view kRoute =
      "POST /grpc/grpc.reflection.v1.ServerReflection/ServerReflectionInfo HTTP/1.0\r\n";
  const int first = plane.accept(65536, kRoute);
  plane.answer(first, "HTTP/1.1 200 OK\r\n\r\nuno");
  CHECK(client.wait(id, 0) == "uno");
  plane.answer(plane.accept(65536, kRoute), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  CHECK(client.wait(id, 1).empty());
  client.send(id, "three");
  plane.answer(plane.accept(65536, kRoute),
               "HTTP/1.1 501 Not Implemented\r\n\r\n{\"code\": \"not_implemented\", \"detail\": \"pip install\"}");
  CHECK(client.wait_end(id).status() == 12 && client.call(id).fields.at("grpc-message") == "pip install");
  const std::int32_t gone = client.open(kReflect);
  client.send(gone, "four");
  const int last = plane.accept(65536, kRoute);
  client.reset(gone);
  char byte = 0;
  while (::recv(last, &byte, 1, 0) > 0) continue;  // nobody waits for it any more
  ::close(last);
  plane.stop();
  const std::int32_t none = client.open(kReflect);
  client.send(none, "five");
  CHECK(client.wait_end(none).status() == 14);
}

// What is relayed while the server stops ends its call, whatever comes of it.
void relayed_at_the_end() {
  penstock::test::ControlPlane plane;
  Server server(penstock::test::options_for(plane));
  GrpcCalls client(server.port());
  const std::int32_t id = client.open(kReflect);
  client.send(id, "one");
  const int call = plane.accept(65536, "POST /grpc/grpc.reflection.");
  const std::int32_t quiet = client.open(kStream);
  client.send(quiet, affine(1));
  check(client.wait(quiet, 0), "r1", 1);
  server.engine().drain();
  CHECK(client.wait_end(quiet).status() == 14);  // so the other has been told, too
  plane.answer(call, "HTTP/1.1 501 Not Implemented\r\n\r\n{\"code\": \"not_implemented\", \"detail\": \"no\"}");
  CHECK(client.wait_end(id).status() == 14 && client.call(id).messages.empty());
  await([&] { return server.engine().drained(); });
}

// No more at a time than connections may be: each has room for its messages.
void bounded() {
  penstock::dataplane::EngineOptions options;
  options.max_connections = 3;
  Server server(options);
  GrpcCalls client(server.port());
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(client.open(kStream));
  CHECK(client.wait_end(client.open(kStream)).status() == 14);
  client.reset(ids[0]);
  const std::int32_t id = client.open(kStream);
  client.send(id, affine(1));
  check(client.wait(id, 0), "r1", 1);
}

// What a call says of itself counts while it is read, and not while it is answered: those that last hold up no others.
void long_fields() {
  for (const bool streams : {true, false}) {
    Server server;
    const std::uint32_t idle = add_idle(server);
    GrpcCalls client(server.port());
    for (int i = 0; i < 60; ++i) {
      const std::int32_t id = client.open(streams ? kStream : "/inference.GRPCInferenceService/ModelInfer",
                                          {{"x-token", std::string(3000, 'a')}});
      client.send(id, message("idle", 1, 4, 0));
      if (!streams) client.finish(id);
    }
    await([&] { return server.engine().entry(idle)->stats[0].rows_out.get() == 60; });
  }
}

// Whatever is done to the bytes of a stream, it ends or each message has an answer; the next stream knows nothing of
// it.
void mutations() {
  Server server;
  GrpcCalls client(server.port());
  std::mt19937 random(5);
  std::string whole;
  for (std::size_t i = 0; i < 5; ++i) whole += prefixed(affine(i));
  for (int i = 0; i < 2000; ++i) {
    std::string sent = whole;
    for (std::size_t k = random() % 5; k-- > 0;) sent[random() % sent.size()] = static_cast<char>(random());
    if (random() % 4 == 0) sent.resize(random() % sent.size());
    if (random() % 4 == 0) sent.insert(random() % (sent.size() + 1), 1 + random() % 8, static_cast<char>(random()));
    const std::int32_t id = client.open(kStream);
    client.send_bytes(id, sent);
    if (random() % 8 == 0) {
      client.reset(id);
      continue;
    }
    client.finish(id);
    const int status = client.wait_end(id).status();
    CHECK(status == 0 || status == 3 || status == 8 || status == 12);
    for (const std::string& answer : client.call(id).messages) CHECK(!answer.empty());
  }
  const std::int32_t id = client.open(kStream);
  client.send(id, affine(9));
  check(client.wait(id, 0), "r9", 9);
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each : {Case{"in_order", in_order},
                           Case{"sizes", sizes},
                           Case{"errors", errors},
                           Case{"cut_texts", cut_texts},
                           Case{"pieces", pieces},
                           Case{"torn", torn},
                           Case{"backpressure", backpressure},
                           Case{"taken_back", taken_back},
                           Case{"deadlines", deadlines},
                           Case{"late_messages", late_messages},
                           Case{"messages_own_time", messages_own_time},
                           Case{"others_between", others_between},
                           Case{"torn_answer", torn_answer},
                           Case{"slow_reader", slow_reader},
                           Case{"exact_window", exact_window},
                           Case{"keys", keys},
                           Case{"many_streams", many_streams},
                           Case{"watching", watching},
                           Case{"wrong_watches", wrong_watches},
                           Case{"draining", draining},
                           Case{"relayed", relayed},
                           Case{"bounded", bounded},
                           Case{"long_fields", long_fields},
                           Case{"mutations", mutations},
                           Case{"relayed_at_the_end", relayed_at_the_end}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
