// ModelInfer over gRPC: messages become rows and rows messages; whatever comes instead is refused and harms nobody.
#include <random>

#include "codec/proto_reader.hpp"
#include "engine_control.hpp"
#include "grpc_calls.hpp"
#include "http2_fixture.hpp"

namespace {

using penstock::dataplane::ProtoField;
using penstock::dataplane::ProtoReader;
using penstock::test::field;
using penstock::test::floats;
using penstock::test::Http2Answer;
using penstock::test::Http2Client;
using penstock::test::input;
using penstock::test::message;
using penstock::test::Server;
using penstock::test::varint;

constexpr std::string_view kInfer = "/inference.GRPCInferenceService/ModelInfer";

struct Reply {
  std::string model, version, id, name, datatype, raw;
  std::vector<std::uint64_t> shape;
};

Reply read_reply(const Http2Answer& answer) {
  CHECK(answer.status() == 200 && answer.grpc_status() == 0);
  CHECK(answer.body.size() > 5);
  Reply reply;
  ProtoReader reader(std::string_view(answer.body).substr(5));
  ProtoField each;
  while (reader.next(each)) {
    if (each.number == 1) reply.model = each.bytes;
    if (each.number == 2) reply.version = each.bytes;
    if (each.number == 3) reply.id = each.bytes;
    if (each.number == 6) reply.raw = each.bytes;
    if (each.number != 5) continue;
    ProtoReader tensor(each.bytes);
    ProtoField part;
    while (tensor.next(part)) {
      if (part.number == 1) reply.name = part.bytes;
      if (part.number == 2) reply.datatype = part.bytes;
      if (part.number != 3) continue;
      ProtoReader shape(part.bytes);
      for (std::uint64_t extent = 0; !shape.at_end();) {
        CHECK(shape.read_varint(extent));
        reply.shape.push_back(extent);
      }
    }
    CHECK(!tensor.is_malformed());
  }
  CHECK(!reader.is_malformed());
  return reply;
}

void check(const Http2Answer& answer, const char* model, std::uint32_t rows, std::uint32_t elements, float first) {
  const Reply reply = read_reply(answer);
  CHECK(reply.model == model && reply.version == "1" && reply.id == "an id");
  CHECK(reply.name == "y" && reply.datatype == "FP32");
  CHECK(reply.shape == (std::vector<std::uint64_t>{rows, elements}));
  CHECK(reply.raw.size() == std::size_t{rows} * elements * sizeof(float));
  for (std::uint32_t i = 0; i < rows * elements; ++i) {
    float value = 0;
    std::memcpy(&value, reply.raw.data() + i * sizeof value, sizeof value);
    CHECK(value == 2 * (first + static_cast<float>(i % 1000)) + 1);
  }
}

void rows() {
  Server server;
  Http2Client client(server.port());
  check(client.call(kInfer, message("small", 1, 4, 5)), "small", 1, 4, 5);
  check(client.call(kInfer, message("small", 300, 4, 7)), "small", 300, 4, 7);
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 100; ++i) ids.push_back(client.grpc(kInfer, message("small", 3, 4, static_cast<float>(i))));
  for (int i = 0; i < 100; ++i)
    check(client.wait(ids[static_cast<std::size_t>(i)]), "small", 3, 4, static_cast<float>(i));
  check(client.call(kInfer, message("large", 2, Server::kLargeElements, 1)), "large", 2, Server::kLargeElements, 1);
}

void typed_contents() {
  Server server;
  Http2Client client(server.port());
  const std::string names = field(1, "small") + field(3, "an id");
  check(client.call(kInfer, names + input(2, 4, floats(8, 3))), "small", 2, 4, 3);
  // The same, number by number; and fields that nobody knows.
  std::string contents;
  const std::string bytes = floats(4, 3);
  for (std::size_t at = 0; at < bytes.size(); at += 4) contents += varint(6 << 3 | 5) + bytes.substr(at, 4);
  const std::string tensor = field(1, "x") + field(2, "FP32") + varint(3 << 3) + varint(1) + varint(3 << 3) +
                             varint(4) + field(5, contents) + field(99, "later");
  check(client.call(kInfer, field(5, tensor) + names + field(77, "?")), "small", 1, 4, 3);
}

void refusals() {
  Server server;
  Http2Client client(server.port());
  const auto refused = [&](const std::string& sent, int status, const char* words) {
    const Http2Answer& answer = client.call(kInfer, sent);
    CHECK(answer.grpc_status() == status && answer.body.empty());
    CHECK(answer.field("grpc-message").find(words) != std::string::npos);
  };
  const std::string small = field(1, "small");
  refused(field(1, "nothing"), 5, "no model 'nothing'");
  refused(small, 3, "inputs.x: missing");
  refused(small + input(1, 4), 3, "contents: expected 4 elements, got fewer");
  refused(small + input(1, 4, floats(5, 0)), 3, "contents: expected 4 elements, got more");
  refused(small + input(1, 3) + field(7, floats(3, 0)), 3, "shape");
  refused(small + input(1, 4) + field(7, floats(3, 0)), 3, "inputs.x");
  refused(small + input(1, 4) + field(7, floats(4, 0)) + field(7, ""), 3, "raw_input_contents");
  refused(small + input(1, 4) + input(1, 4), 3, "occurs twice");
  refused(small + input(1, 4, floats(4, 0)) + field(7, floats(4, 0)), 3, "one of them");
  refused(small + field(6, field(1, "z")) + input(1, 4) + field(7, floats(4, 0)), 3, "outputs.z");
  refused(small + field(5, field(1, "x") + field(5, "\x09")), 3, "inputs.x");
  refused("\x0a\xff", 3, "no protobuf");
  const std::string region = field(4, field(1, "shared_memory_region") + field(2, field(3, "r")));
  refused(small + field(5, field(1, "x") + region), 3, "shared memory");
}

// Time-outs, a client that takes its request back, and priorities go the way of any other request.
void manners() {
  Server server;
  penstock::batcher::RingConfig config;
  config.schema = {penstock::RowLayout({{"x", penstock::DType::kFloat32, {4}}}),
                   penstock::RowLayout({{"y", penstock::DType::kFloat32, {4}}})};
  const std::uint32_t idle = server.engine().add_ring("idle", "1", config);
  server.engine().publish({{"small", "1", 0, true, true}, {"idle", "1", idle, true, true}});
  Http2Client client(server.port());
  CHECK(client.call(kInfer, message("idle", 1, 4, 0), {{"grpc-timeout", "200m"}}).grpc_status() == 4);
  const std::int32_t id = client.grpc(kInfer, message("idle", 3, 4, 0));
  client.flush();
  client.reset(id);
  check(client.call(kInfer, message("small", 1, 4, 1), {{"x-request-priority", "batch"}}), "small", 1, 4, 1);
  CHECK(client.call(kInfer, message("small", 1, 4, 1), {{"x-request-priority", "now"}}).grpc_status() == 3);
  const auto& cancelled = server.engine().entry(idle)->stats[0].rows_cancelled;
  for (int i = 0; i < 50'000'000 && cancelled.get() != 4; ++i) std::this_thread::yield();
  CHECK(cancelled.get() == 4);
}

void keys() {
  Server server;
  server.engine().set_keys({}, {.required = true});
  Http2Client client(server.port());
  CHECK(client.call(kInfer, message("small", 1, 4, 1)).grpc_status() == 16);
  CHECK(client.call("/inference.GRPCInferenceService/ServerLive", "").grpc_status() == 0);
}

// Of the server, the service and every model, by names.
void health_of_models() {
  Server server;
  Http2Client client(server.port());
  const std::string health = "/grpc.health.v1.Health/";
  const auto checked = [&](std::string_view name) { return client.call(health + "Check", field(1, name)); };
  const std::string yes("\0\0\0\0\x02\x08\x01", 7);
  const std::string no("\0\0\0\0\x02\x08\x02", 7);
  for (const char* name : {"", "inference.GRPCInferenceService", "small", "small/1", "small/latest"})
    CHECK(checked(name).body == yes);
  for (const char* name : {"nothing", "small/2", "/", "small/", "grpc.health.v1.Health"})
    CHECK(checked(name).grpc_status() == (std::string_view(name) == "small/" ? 0 : 5));
  server.engine().publish({{"small", "1", 0, true, false}, {"large", "1", 1, true, true}});
  CHECK(checked("small").body == no);
  const std::string listed = client.call(health + "List", "").body;
  std::map<std::string, std::uint64_t> states;
  ProtoReader reader(std::string_view(listed).substr(5));
  ProtoField entry;
  while (reader.next(entry)) {
    ProtoReader pair(entry.bytes);
    ProtoField name;
    ProtoField state;
    CHECK(entry.is_bytes(1) && pair.next(name) && pair.next(state) && pair.at_end());
    ProtoReader inner(state.bytes);
    ProtoField value;
    CHECK(name.is_bytes(1) && state.is_bytes(2) && inner.next(value) && value.is_varint(1));
    states[std::string(name.bytes)] = value.value;
  }
  CHECK(!reader.is_malformed());
  CHECK((states == std::map<std::string, std::uint64_t>{
                       {"", 1}, {"inference.GRPCInferenceService", 1}, {"small", 2}, {"large", 1}}));
}

// What is not answered here goes to the control plane: the bare message there, the answer or its problem back.
void administration() {
  penstock::test::ControlPlane plane;
  Server server(penstock::test::options_for(plane));
  Http2Client client(server.port());
  constexpr std::string_view kMetadata = "/inference.GRPCInferenceService/ServerMetadata";
  const auto relayed = [&](std::int32_t id, std::string_view start) {
    client.flush();
    CHECK(id > 0);
    return plane.accept(65536, start);
  };
  std::int32_t id = client.grpc(kMetadata, "asked");
  constexpr std::string_view kRoute = "POST /grpc/inference.GRPCInferenceService/ServerMetadata HTTP/1.0\r\n";
  plane.answer(relayed(id, kRoute), "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\r\ntold");
  CHECK(client.wait(id).grpc_status() == 0 && client.answer(id).body == std::string("\0\0\0\0\4told", 9));
  id = client.grpc(kMetadata, "");
  plane.answer(relayed(id, kRoute), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  CHECK(client.wait(id).grpc_status() == 0 && client.answer(id).body == std::string(5, '\0'));
  id = client.grpc("/inference.GRPCInferenceService/ModelConfig", "x");
  plane.answer(relayed(id, "POST /grpc/"),
               "HTTP/1.1 404 Not Found\r\n\r\n{\"code\": \"model_not_found\", \"detail\": \"no model \\\"x\\\"\"}");
  CHECK(client.wait(id).grpc_status() == 5 && client.answer(id).field("grpc-message") == "no model \"x\"");
  // Its time is the client's; nobody waits for the call any more.
  id = client.grpc("/inference.GRPCInferenceService/RepositoryModelLoad", "x", {{"grpc-timeout", "100m"}});
  const int late = relayed(id, "POST /grpc/");
  CHECK(client.wait(id).grpc_status() == 4);
  char byte = 0;
  while (::recv(late, &byte, 1, 0) > 0) continue;  // the message, then the end
  ::close(late);
  // Not over HTTP, where it would be a route of its own.
  CHECK(client.ask("POST", "/grpc/inference.GRPCInferenceService/ServerMetadata", {}, "x").status() == 404);
  plane.stop();
  CHECK(client.call(kMetadata, "").grpc_status() == 14);
}

// Who may ask: reading is open where GET is, and the control plane hears who it is.
void administration_with_keys() {
  penstock::test::ControlPlane plane;
  Server server(penstock::test::options_for(plane));
  Http2Client client(server.port());
  constexpr std::string_view kMetadata = "/inference.GRPCInferenceService/ServerMetadata";
  server.engine().set_keys({}, {.required = true});
  CHECK(client.call(kMetadata, "").grpc_status() == 16);
  server.engine().set_keys({}, {.required = false});
  CHECK(client.call(kMetadata, "", {{"authorization", "Bearer psk_a_b"}}).grpc_status() == 16);
  const std::int32_t id = client.grpc(kMetadata, "", {{"x-penstock-role", "admin"}});
  client.flush();
  const int call = ::accept4(plane.fd(), nullptr, nullptr, SOCK_CLOEXEC);
  std::string request(65536, '\0');
  CHECK(::recv(call, request.data(), request.size(), 0) > 0);
  CHECK(request.find("x-penstock-role") == std::string::npos);
  plane.answer(call, "HTTP/1.1 200 OK\r\n\r\n");
  CHECK(client.wait(id).grpc_status() == 0);
}

// Whatever is done to a message, it has an answer, and the next one has its own.
void mutations() {
  Server server;
  Http2Client client(server.port());
  std::mt19937 random(7);
  const std::string whole = field(4, field(1, "timeout") + field(2, varint(2 << 3) + varint(1'000'000))) +
                            field(6, field(1, "y")) + message("small", 2, 4, 1) + field(2, "1");
  for (int i = 0; i < 5000; ++i) {
    std::string sent = whole;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int k = 0; k < changes; ++k) sent[random() % sent.size()] = static_cast<char>(random());
    if (random() % 4 == 0) sent.resize(random() % sent.size());
    if (random() % 4 == 0) sent.insert(random() % (sent.size() + 1), 1 + random() % 8, static_cast<char>(random()));
    const int status = client.call(kInfer, sent).grpc_status();
    CHECK(status == 0 || status == 3 || status == 5 || status == 8 || status == 4);
  }
  check(client.call(kInfer, message("small", 1, 4, 5)), "small", 1, 4, 5);
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each : {Case{"rows", rows}, Case{"typed_contents", typed_contents}, Case{"refusals", refusals},
                           Case{"manners", manners}, Case{"keys", keys}, Case{"health_of_models", health_of_models},
                           Case{"administration", administration},
                           Case{"administration_with_keys", administration_with_keys}, Case{"mutations", mutations}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
