// gRPC's methods: inference and how we are are answered here, the others by the control plane.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/control_proxy.hpp"
#include "engine/http_session.hpp"
#include "engine/loop_context.hpp"
#include "engine/predict_path.hpp"

namespace penstock::dataplane {

// Where the control plane has them. Over HTTP nobody gets there.
inline constexpr std::string_view kGrpcRoutes = "/grpc/";

class GrpcPath {
 public:
  GrpcPath(LoopContext& loop, HttpSession& session, PredictPath& predict, ControlProxy& control)
      : loop_(loop), session_(session), predict_(predict), control_(control) {}

  // As RequestHandler::handle_grpc() and admits_grpc().
  void start(Connection& connection, Pending& pending, const Request& request);
  [[nodiscard]] bool admits(const RequestHead& head, std::uint64_t& body_bytes_max, Problem& problem) const;

 private:
  [[nodiscard]] bool is_ready() const noexcept;
  [[nodiscard]] bool answer_health(std::string_view method, std::string_view message, char (&reply)[2],
                                   Problem& problem) const;
  void start_infer(Connection& connection, Pending& pending, const Request& request);
  void relay(Connection& connection, Pending& pending, const Request& request);

  LoopContext& loop_;
  HttpSession& session_;
  PredictPath& predict_;
  ControlProxy& control_;
};

}  // namespace penstock::dataplane
