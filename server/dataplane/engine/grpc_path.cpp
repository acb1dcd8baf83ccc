#include "engine/grpc_path.hpp"

#include <algorithm>
#include <string>

#include "codec/proto_reader.hpp"
#include "engine/predict_options.hpp"
#include "engine/rejoin.hpp"
#include "http/grpc_status.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::string_view kInference = "/inference.GRPCInferenceService/";
constexpr std::string_view kHealth = "/grpc.health.v1.Health/Check";
constexpr std::string_view kMessageType = "application/grpc";

constexpr std::uint64_t kNamesBytesMax = 64 * 1024;  // a message of names alone

std::string_view method_of(std::string_view path) noexcept {
  return path.starts_with(kInference) ? path.substr(kInference.size()) : std::string_view{};
}

// Asked without a key, as /health is.
bool is_health(std::string_view path) noexcept {
  const std::string_view method = method_of(path);
  return method == "ServerLive" || method == "ServerReady" || method == "ModelReady" || path == kHealth;
}

bool changes_something(std::string_view path) noexcept {
  const std::string_view method = method_of(path);
  return method == "RepositoryModelLoad" || method == "RepositoryModelUnload";
}

RequestHead as_reading(const RequestHead& head) noexcept {
  RequestHead reading = head;
  reading.method = Method::kGet;
  return reading;
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
  if (method == "ModelInfer") {
    body_bytes_max = std::max(loop_.table->body_bytes_max({}), kRowsBytesMax) + kNamesBytesMax;
    return loop_.keys->admits_predict(head, problem);
  }
  body_bytes_max = kNamesBytesMax;
  Principal principal;
  return is_health(head.path) || loop_.keys->admits_control(as_reading(head), principal, problem);
}

void GrpcPath::start(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  std::string_view message;
  const RequestHead& head = request.head;
  if (head.method != Method::kPost) {
    problem.set(ProblemCode::kMethodNotAllowed, "gRPC is called with POST");
  } else if (read_grpc_message(request.body, message, problem)) {
    if (method_of(head.path) == "ModelInfer") {
      start_infer(connection, pending, Request{head, message, request.block});
      return;
    }
    char reply[2];
    if (answer_health(head.path, message, reply, problem)) {
      session_.reply(connection, pending, 200, kMessageType, {reply, sizeof reply});
      return;
    }
    if (!problem) {
      relay(connection, pending, Request{head, message, request.block});
      return;
    }
  }
  session_.refuse(connection, pending, problem);
}

// Every message is POSTed. Who only reads needs a key where GET needs one; for what changes something the control plane
// asks for a role.
void GrpcPath::relay(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  Principal principal;
  RequestHead head = as_reading(request.head);
  if (loop_.engine.options.control_socket.empty()) {
    problem.set(ProblemCode::kNotFound, "no method %.*s is served here",
                static_cast<int>(std::min<std::size_t>(head.path.size(), 80)), head.path.data());
    session_.refuse(connection, pending, problem);
    return;
  }
  if (!read_options(head, pending, problem) || !loop_.keys->admits_control(head, principal, problem)) {
    session_.refuse(connection, pending, problem);
    return;
  }
  std::string path(kGrpcRoutes);
  path.append(head.path.substr(1));
  head.path = path;
  if (changes_something(request.head.path)) head.method = Method::kPost;  // which may take as long as loading takes
  control_.start(connection, pending, Request{head, request.body, request.block}, principal);
  if (pending.state != Pending::State::kControl || pending.timeout_ns == 0) return;
  pending.deadline_ns = pending.arrival_ns + pending.timeout_ns;
  loop_.timers.arm(connection.timer, pending.deadline_ns);
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

void GrpcPath::start_infer(Connection& connection, Pending& pending, const Request& request) {
  Problem problem;
  if (!loop_.keys->admits_predict(request.head, problem)) {
    session_.refuse(connection, pending, problem);
  } else if (connection.reserved) {
    problem.set(ProblemCode::kConnectionsExhausted,
                "all connections for predictions are in use; this one is kept for administration");
    connection.closing = true;
    session_.refuse(connection, pending, problem);
  } else {
    pending.content_type = kMessageType;
    predict_.start_message(connection, pending, request);
  }
}

}  // namespace penstock::dataplane
