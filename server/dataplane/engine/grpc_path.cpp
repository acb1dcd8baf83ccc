#include "engine/grpc_path.hpp"

#include <string>

#include "codec/proto_reader.hpp"
#include "http/grpc_status.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::string_view kInference = "/inference.GRPCInferenceService/";
constexpr std::string_view kHealth = "/grpc.health.v1.Health/Check";
constexpr std::string_view kMessageType = "application/grpc";
constexpr std::string_view kRelayed = "/grpc";  // in front of the method, for the control plane

constexpr std::uint64_t kNamesBytesMax = 64 * 1024;  // a message of names alone

std::string_view method_of(std::string_view path) noexcept {
  return path.starts_with(kInference) ? path.substr(kInference.size()) : std::string_view{};
}

// Fields 1 and 2 of a message, both texts.
bool read_texts(std::string_view message, std::string_view& first, std::string_view& second,
                Problem& problem) noexcept {
  ProtoReader reader(message);
  ProtoField field;
  while (reader.next(field)) {
    if (field.is_bytes(1)) first = field.bytes;
    if (field.is_bytes(2)) second = field.bytes;
  }
  if (reader.is_malformed()) problem.set(ProblemCode::kMalformedBody, "the message is no protobuf");
  return !reader.is_malformed();
}

}  // namespace

bool GrpcPath::admits(const RequestHead& head, std::uint64_t& body_bytes_max, Problem& problem) const {
  const std::string_view method = method_of(head.path);
  body_bytes_max = loop_.engine.options.control_body_bytes_max;
  if (head.path == kHealth || method == "ServerLive" || method == "ServerReady" || method == "ModelReady") {
    body_bytes_max = kNamesBytesMax;
    return true;
  }
  Principal principal;
  return loop_.keys->admits_control(head, principal, problem);
}

void GrpcPath::start(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  std::string_view message;
  Principal principal;
  const RequestHead& head = request.head;
  if (head.method != Method::kPost) {
    problem.set(ProblemCode::kMethodNotAllowed, "gRPC is called with POST");
  } else if (read_grpc_message(request.body, message, problem)) {
    char reply[2];
    if (answer_health(head.path, message, reply, problem)) {
      session_.reply(connection, pending, 200, kMessageType, {reply, sizeof reply});
      return;
    }
    if (!problem && loop_.keys->admits_control(head, principal, problem)) {
      relay(connection, pending, Request{head, message, request.block}, principal);
      return;
    }
  }
  session_.refuse(connection, pending, problem);
}

bool GrpcPath::is_ready() const noexcept {
  return loop_.engine.ready.load(std::memory_order_relaxed) && !loop_.engine.draining.load(std::memory_order_relaxed);
}

// False: it is none of the methods that say how we are, or `problem` is set. They need no key, as /health needs none.
bool GrpcPath::answer_health(std::string_view path, std::string_view message, char (&reply)[2],
                             Problem& problem) const {
  constexpr char kFirstField = 1 << 3;  // a number
  constexpr char kServing = 1;
  constexpr char kNotServing = 2;
  const std::string_view method = method_of(path);
  std::string_view name;
  std::string_view version;
  reply[0] = kFirstField;
  if (method == "ServerLive") {
    reply[1] = 1;
  } else if (method == "ServerReady") {
    reply[1] = is_ready() ? 1 : 0;
  } else if (method == "ModelReady") {
    if (!read_texts(message, name, version, problem)) return false;
    if (name.empty()) {
      problem.set(ProblemCode::kInvalidInput, "name: the model must be named");
      return false;
    }
    Problem absent;
    reply[1] = loop_.table->find(name, version, absent) != nullptr ? 1 : 0;
  } else if (path == kHealth) {
    if (!read_texts(message, name, version, problem)) return false;
    if (!name.empty() && !kInference.substr(1).starts_with(std::string(name) + "/")) {
      problem.set(ProblemCode::kModelNotFound, "health is known of the service inference.GRPCInferenceService");
      return false;
    }
    reply[1] = is_ready() ? kServing : kNotServing;
  } else {
    return false;
  }
  return true;
}

// Administration: the message goes as a body of HTTP, and so does the answer.
void GrpcPath::relay(Connection& connection, Pending& pending, const Request& request, const Principal& principal) {
  const std::string path = std::string(kRelayed).append(request.head.path);
  RequestHead head = request.head;
  head.path = path;
  control_.start(connection, pending, Request{head, request.body, request.block}, principal);
}

}  // namespace penstock::dataplane
