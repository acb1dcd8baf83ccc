// What a loop does with a request that has arrived: which part of the server answers it, and for whom.
#include <algorithm>
#include <array>
#include <limits>

#include "engine/body_stream.hpp"
#include "engine/event_loop.hpp"
#include "engine/image_fields.hpp"
#include "engine/options_reply.hpp"
#include "engine/routing.hpp"

namespace penstock::dataplane {

bool EventLoop::admits(const Connection& connection, const RequestHead& head, std::uint64_t& body_bytes_max,
                       Problem& problem) {
  if (is_streamed(head)) {
    body_bytes_max = std::numeric_limits<std::uint64_t>::max();
    return loop_.keys->admits_predict(head, problem);
  }
  std::array<char, kRouteNamesBytes> names;
  const RouteTarget target = find_route(head.path, names);
  if (!target.is_prediction()) {
    body_bytes_max = loop_.engine.options.control_body_bytes_max;
    Principal principal;
    return loop_.keys->admits_control(head, principal, problem);  // before its body takes up memory
  }
  if (!connection.internal && !loop_.keys->admits_predict(head, problem)) return false;
  if (loop_.table->body_bytes_max({}) == 0) {
    const bool was_ready = loop_.engine.was_ready.load(std::memory_order_relaxed);
    problem.set(was_ready ? ProblemCode::kModelNotFound : ProblemCode::kModelUnavailable,
                was_ready ? "no model is served here" : "the models are still loading");
    return false;
  }
  // A model named in the query narrows the limit; percent-escapes in it only make it the wider one.
  std::string_view query = head.query;
  std::string_view model = target.model;
  if (query.starts_with("model="))
    model = query.substr(6, query.find('&') == std::string_view::npos ? query.npos : query.find('&') - 6);
  body_bytes_max = loop_.table->body_bytes_max(model);
  if (target.route != Route::kPredict) body_bytes_max = std::max(body_bytes_max, kRowsBytesMax);
  // A file may be larger than the tensor that it is.
  if (is_file(head) || !loop_.table->pictures().empty())
    body_bytes_max = std::max(body_bytes_max, loop_.engine.options.control_body_bytes_max);
  return true;
}

void EventLoop::handle(Connection& connection, Pending& pending, const Request& request) {
  const RequestHead& head = request.head;
  if (head.method == Method::kOptions && answer_options(session_, connection, pending, head)) return;
  std::array<char, kRouteNamesBytes> names;
  const RouteTarget target = find_route(head.path, names);
  if (target.is_prediction()) {
    if (target.route == Route::kPredictRows && is_streamed(head)) {
      handle_by_control(connection, pending, request);
    } else {
      handle_prediction(connection, pending, request, target);
    }
  } else if (target.route == Route::kControl) {
    Problem problem;
    Principal principal;
    if (head.path.starts_with(kGrpcRoutes)) {
      problem.set(ProblemCode::kNotFound, "there is no such route; methods of gRPC are called over gRPC");
      session_.refuse(connection, pending, problem);
    } else if (loop_.keys->admits_control(head, principal, problem)) {
      control_.start(connection, pending, request, principal);
    } else {
      session_.refuse(connection, pending, problem);
    }
  } else if (head.method != Method::kGet && head.method != Method::kHead) {
    Problem problem;
    problem.set(ProblemCode::kMethodNotAllowed, "health is asked with GET");
    session_.refuse(connection, pending, problem, allowed_methods(head.path));
  } else {
    handle_health(connection, pending, target);
  }
}

void EventLoop::handle_prediction(Connection& connection, Pending& pending, const Request& request,
                                  const RouteTarget& target) {
  const RequestHead& head = request.head;
  Problem problem;
  if (head.method != Method::kPost) {
    problem.set(ProblemCode::kMethodNotAllowed, "%.*s takes POST",
                static_cast<int>(std::min<std::size_t>(head.path.size(), 80)), head.path.data());
    session_.refuse(connection, pending, problem, allowed_methods(head.path));
  } else if (!head.has_content_length && !head.chunked) {
    problem.set(ProblemCode::kLengthRequired, "a body with Content-Length or Transfer-Encoding: chunked is needed");
    session_.refuse(connection, pending, problem);
  } else if (!connection.internal && !loop_.keys->admits_predict(head, problem)) {
    session_.refuse(connection, pending, problem);
  } else if (connection.reserved) {
    refuse_reserved(connection, pending);
  } else if (target.route == Route::kPredict) {
    if (is_for_control(connection, request)) [[unlikely]] {
      handle_by_control(connection, pending, request);
    } else {
      predict_.start(connection, pending, request);
    }
  } else if (target.route == Route::kPredictRows) {
    if (loop_.table->takes_images() && is_for_control(connection, request)) [[unlikely]] {
      handle_by_control(connection, pending, request);
      return;
    }
    predict_.start_batch(connection, pending, request);
  } else {
    predict_.start_infer(connection, pending, request, {target.model, target.version});
  }
}

bool EventLoop::is_for_control(const Connection& connection, const Request& request) const noexcept {
  if (!is_file(request.head) &&
      !(loop_.table->takes_images() && holds_images(request.head, request.body, loop_.table->pictures())))
    return false;
  return !connection.internal && !loop_.engine.options.control_socket.empty();
}

// Predictions in a form that the control plane reads: for whom it may do that is decided as for the others.
void EventLoop::handle_by_control(Connection& connection, Pending& pending, const Request& request) {
  Principal principal;
  Problem problem;
  if (!loop_.keys->admits_predict(request.head, principal, problem)) {
    session_.refuse(connection, pending, problem);
  } else if (connection.reserved) {
    refuse_reserved(connection, pending);
  } else {
    control_.start(connection, pending, request, principal);
  }
}

void EventLoop::refuse_reserved(Connection& connection, Pending& pending) {
  Problem problem;
  problem.set(ProblemCode::kConnectionsExhausted,
              "all connections for predictions are in use; this one is kept for administration");
  pending.keep_alive = false;
  connection.closing = true;
  session_.refuse(connection, pending, problem);
}

void EventLoop::handle_health(Connection& connection, Pending& pending, const RouteTarget& target) {
  const auto answer = [&](std::string_view body) {
    session_.reply(connection, pending, 200, "application/json", body);
  };
  Problem problem;
  const bool draining = loop_.engine.draining.load(std::memory_order_relaxed);
  switch (target.route) {
    case Route::kLive:
      return answer("{\"status\":\"live\"}");
    case Route::kInferLive:
      return answer("{\"live\":true}");
    case Route::kModelReady:
      if (draining) {
        problem.set(ProblemCode::kDraining, "the server is shutting down");
      } else if (loop_.table->find(target.model, target.version, problem) != nullptr) {
        return answer("{\"ready\":true}");
      }
      break;
    default:
      if (loop_.engine.ready.load(std::memory_order_relaxed) && !draining)
        return answer(target.route == Route::kReady ? "{\"status\":\"ready\"}" : "{\"ready\":true}");
      problem.set(draining ? ProblemCode::kDraining : ProblemCode::kModelUnavailable,
                  draining ? "the server is shutting down"
                           : "a model is loading, restarting or has failed: GET /models says which");
  }
  session_.refuse(connection, pending, problem);
}

void EventLoop::abandon(Connection& connection, Pending& pending) {
  if (pending.state == Pending::State::kControl || pending.state == Pending::State::kStream) {
    control_.abandon(connection, pending);
  } else {
    predict_.abandon(pending);
  }
}

}  // namespace penstock::dataplane
