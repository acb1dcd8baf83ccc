#include "engine/grpc_path.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>

#include "codec/proto_reader.hpp"
#include "engine/predict_options.hpp"
#include "engine/rejoin.hpp"
#include "http/grpc_status.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::string_view kInference = "/inference.GRPCInferenceService/";
constexpr std::string_view kService = kInference.substr(1, kInference.size() - 2);
constexpr std::string_view kHealth = "/grpc.health.v1.Health/";
constexpr std::string_view kReflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
constexpr std::string_view kReflectionAlpha = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
constexpr std::string_view kMessageType = "application/grpc";

enum Serving : std::uint8_t { kServing = 1, kNotServing = 2, kServiceUnknown = 3 };

std::string_view method_of(std::string_view path) noexcept {
  return path.starts_with(kInference) ? path.substr(kInference.size()) : std::string_view{};
}

// Asked without a key, as /health is.
bool is_health(std::string_view path) noexcept {
  const std::string_view method = method_of(path);
  return method == "ServerLive" || method == "ServerReady" || method == "ModelReady" || path.starts_with(kHealth);
}

bool changes_something(std::string_view path) noexcept {
  const std::string_view method = method_of(path);
  return method == "RepositoryModelLoad" || method == "RepositoryModelUnload";
}

// A call may say nothing for days, and a peer that is gone says nothing, either: the kernel asks it now and then.
void notice_loss(int fd) noexcept {
  constexpr int kOn = 1;
  constexpr int kIdleSeconds = 60;
  constexpr int kAgainSeconds = 15;
  constexpr int kTimes = 4;
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &kOn, sizeof kOn);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kIdleSeconds, sizeof kIdleSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kAgainSeconds, sizeof kAgainSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kTimes, sizeof kTimes);
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

bool read_grpc_name(std::string_view message, std::string_view& name, Problem& problem) noexcept {
  std::string_view ignored;
  return read_texts(message, name, ignored, problem);
}

bool GrpcPath::admits(const RequestHead& head, std::uint64_t& body_bytes_max, Problem& problem) const {
  const std::string_view method = method_of(head.path);
  if (method == "ModelInfer") {
    body_bytes_max = infer_bytes_max();
    return loop_.keys->admits_predict(head, problem);
  }
  body_bytes_max = kGrpcNamesBytesMax;
  Principal principal;
  return is_health(head.path) || loop_.keys->admits_control(as_reading(head), principal, problem);
}

std::uint64_t GrpcPath::infer_bytes_max() const {
  return std::max(loop_.table->body_bytes_max({}), kRowsBytesMax) + kGrpcNamesBytesMax;
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
    if (!problem && head.path.starts_with(kHealth) && head.path.substr(kHealth.size()) == "List") {
      session_.reply(connection, pending, 200, kMessageType, list_health());
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

std::uint8_t GrpcPath::serving(std::string_view service) const {
  const bool runs = !loop_.engine.draining.load(std::memory_order_relaxed);
  if (service.empty() || service == kService) return is_ready() ? kServing : kNotServing;
  const std::size_t slash = service.find('/');
  const std::string_view version = slash == std::string_view::npos ? std::string_view() : service.substr(slash + 1);
  switch (loop_.table->state_of(service.substr(0, slash), version)) {
    case RouteTable::State::kServes:
      return runs ? kServing : kNotServing;
    case RouteTable::State::kKnown:
      return kNotServing;
    default:
      return kServiceUnknown;
  }
}

// HealthListResponse: what Check would say of the server, its service and each model.
std::string GrpcPath::list_health() const {
  std::string list;
  const auto add = [&list](std::string_view name, std::uint8_t state) {
    constexpr std::size_t kNameBytesMax = 100;  // so that lengths have one byte; names of models have up to 64
    if (name.size() > kNameBytesMax) return;
    const auto bytes = static_cast<char>(name.size());
    list.append("\x0a").push_back(static_cast<char>(bytes + 6));
    list.append("\x0a").push_back(bytes);
    list.append(name).append("\x12\x02\x08").push_back(static_cast<char>(state));
  };
  add("", serving(""));
  add(kService, serving(kService));
  loop_.table->each_model([&](std::string_view name, RouteTable::State state) {
    add(name, state == RouteTable::State::kServes && !loop_.engine.draining.load(std::memory_order_relaxed)
                  ? kServing
                  : kNotServing);
  });
  return list;
}

// False: it is none of the methods that say how we are, or `problem` is set. They need no key, as /health needs none.
bool GrpcPath::answer_health(std::string_view path, std::string_view message, char (&reply)[2],
                             Problem& problem) const {
  constexpr char kFirstField = 1 << 3;  // a number
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
  } else if (path.starts_with(kHealth) && path.substr(kHealth.size()) == "Check") {
    if (!read_grpc_name(message, name, problem)) return false;
    const std::uint8_t state = serving(name);
    if (state == kServiceUnknown) {
      problem.set(ProblemCode::kModelNotFound,
                  "there is no service or model '%.*s': ask for '', inference.GRPCInferenceService, MODEL or "
                  "MODEL/VERSION",
                  static_cast<int>(std::min<std::size_t>(name.size(), 80)), name.data());
      return false;
    }
    reply[1] = static_cast<char>(state);
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

MessageStream* GrpcPath::open_messages(Connection& connection, Pending& pending, const RequestHead& head,
                                       Problem& problem) {
  GrpcStream::Kind kind = GrpcStream::Kind::kInfer;
  if (head.path == kReflection || head.path == kReflectionAlpha) {
    kind = GrpcStream::Kind::kRelay;
  } else if (head.path.starts_with(kHealth) && head.path.substr(kHealth.size()) == "Watch") {
    kind = GrpcStream::Kind::kWatch;
  } else if (method_of(head.path) != "ModelStreamInfer") {
    return nullptr;
  }
  Principal principal;
  if (!read_options(head, pending, problem)) return nullptr;
  if (head.method != Method::kPost) {
    problem.set(ProblemCode::kMethodNotAllowed, "gRPC is called with POST");
  } else if (connection.reserved) {
    problem.set(ProblemCode::kConnectionsExhausted,
                "all connections are in use; this one is kept for administration, which does not stay");
    connection.closing = true;
  } else if (kind == GrpcStream::Kind::kWatch ||
             (kind == GrpcStream::Kind::kInfer ? loop_.keys->admits_predict(head, problem)
                                               : loop_.keys->admits_control(as_reading(head), principal, problem))) {
    GrpcStream* const stream = take_stream(problem);
    if (stream == nullptr) return nullptr;
    stream->open(kind, connection, pending, head);
    if (kind == GrpcStream::Kind::kWatch) watchers_.push_back(stream);
    notice_loss(connection.fd);
    return stream;
  }
  return nullptr;
}

// Each has room for its requests, so there are no more of them than there may be connections.
GrpcStream* GrpcPath::take_stream(Problem& problem) {
  if (free_.empty()) {
    if (streams_.size() >= loop_.engine.options.max_connections) {
      problem.set(ProblemCode::kConnectionsExhausted, "%zu calls with streams of messages are under way already",
                  streams_.size());
      return nullptr;
    }
    streams_.push_back(std::make_unique<GrpcStream>(loop_, session_, handler_, *this));
    free_.reserve(streams_.capacity());
    watchers_.reserve(streams_.capacity());
    free_.push_back(streams_.back().get());
  }
  GrpcStream* const stream = free_.back();
  free_.pop_back();
  return stream;
}

void GrpcPath::tell_changes() {
  const bool ready = is_ready();
  if (told_ready_ == ready && told_version_ == loop_.table_version) return;
  told_ready_ = ready;
  told_version_ = loop_.table_version;
  for (GrpcStream* const each : watchers_) each->look();
}

void GrpcPath::recycle(GrpcStream& stream) {
  std::erase(watchers_, &stream);
  free_.push_back(&stream);  // reserved
}

}  // namespace penstock::dataplane
