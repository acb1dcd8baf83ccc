// gRPC's methods: health here, the others by the control plane.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/control_proxy.hpp"
#include "engine/http_session.hpp"
#include "engine/loop_context.hpp"

namespace penstock::dataplane {

class GrpcPath {
 public:
  GrpcPath(LoopContext& loop, HttpSession& session, ControlProxy& control)
      : loop_(loop), session_(session), control_(control) {}

  // As RequestHandler::handle_grpc() and admits_grpc().
  void start(Connection& connection, Pending& pending, const Request& request);
  [[nodiscard]] bool admits(const RequestHead& head, std::uint64_t& body_bytes_max, Problem& problem) const;

 private:
  [[nodiscard]] bool is_ready() const noexcept;
  [[nodiscard]] bool answer_health(std::string_view method, std::string_view message, char (&reply)[2],
                                   Problem& problem) const;
  void relay(Connection& connection, Pending& pending, const Request& request, const Principal& principal);

  LoopContext& loop_;
  HttpSession& session_;
  ControlProxy& control_;
};

}  // namespace penstock::dataplane
