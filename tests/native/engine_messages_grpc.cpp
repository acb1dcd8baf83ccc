// Calls whose messages come and go one by one: each message has its answer, in its turn, and a torn one ends its call.
#include <random>

#include "codec/codec_utf8.hpp"
#include "engine_control.hpp"
#include "grpc_answers.hpp"

namespace {

using penstock::dataplane::is_utf8;
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
using penstock::test::name_of;
using penstock::test::prefixed;
using penstock::test::read_answer;
using penstock::test::Server;

constexpr const char* kWatch = "/grpc.health.v1.Health/Watch";
constexpr const char* kReflect = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

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
  for (const Case& each :
       {Case{"in_order", in_order}, Case{"sizes", sizes}, Case{"errors", errors}, Case{"cut_texts", cut_texts},
        Case{"pieces", pieces}, Case{"torn", torn}, Case{"keys", keys}, Case{"many_streams", many_streams},
        Case{"watching", watching}, Case{"wrong_watches", wrong_watches}, Case{"draining", draining},
        Case{"relayed", relayed}, Case{"bounded", bounded}, Case{"long_fields", long_fields},
        Case{"mutations", mutations}, Case{"relayed_at_the_end", relayed_at_the_end}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
