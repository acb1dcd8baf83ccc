// gRPC's methods: inference and how we are are answered here, the others by the control plane.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/control_proxy.hpp"
#include "engine/grpc_stream.hpp"
#include "engine/http_session.hpp"
#include "engine/loop_context.hpp"
#include "engine/predict_path.hpp"

namespace penstock::dataplane {

// Where the control plane has them. Over HTTP nobody gets there.
inline constexpr std::string_view kGrpcRoutes = "/grpc/";

inline constexpr std::uint64_t kGrpcNamesBytesMax = 64 * 1024;  // a message of names alone

// A message of one text in its first field, such as the name of a service. False: `problem` is set.
[[nodiscard]] bool read_grpc_name(std::string_view message, std::string_view& name, Problem& problem) noexcept;

class GrpcPath {
 public:
  GrpcPath(LoopContext& loop, HttpSession& session, RequestHandler& handler, PredictPath& predict,
           ControlProxy& control)
      : loop_(loop), session_(session), handler_(handler), predict_(predict), control_(control) {}

  // As RequestHandler::handle_grpc(), admits_grpc() and open_messages().
  void start(Connection& connection, Pending& pending, const Request& request);
  [[nodiscard]] bool admits(const RequestHead& head, std::uint64_t& body_bytes_max, Problem& problem) const;
  [[nodiscard]] MessageStream* open_messages(Connection& connection, Pending& pending, const RequestHead& head,
                                             Problem& problem);
  // Once per pass: tells those who watch what has changed.
  void tell_watchers() {
    if (!watchers_.empty()) [[unlikely]]
      tell_changes();
  }

  // --- for a stream: its messages, one by one

  void start_infer(Connection& connection, Pending& pending, const Request& request);
  void relay(Connection& connection, Pending& pending, const Request& request);
  [[nodiscard]] std::uint64_t infer_bytes_max() const;
  // Of the server, its service, MODEL or MODEL/VERSION: 1 serving, 2 not serving, 3 not known.
  [[nodiscard]] std::uint8_t serving(std::string_view service) const;
  void recycle(GrpcStream& stream);

 private:
  void tell_changes();
  [[nodiscard]] GrpcStream* take_stream(Problem& problem);
  [[nodiscard]] bool is_ready() const noexcept;
  [[nodiscard]] std::string list_health() const;
  [[nodiscard]] bool answer_health(std::string_view method, std::string_view message, char (&reply)[2],
                                   Problem& problem) const;

  LoopContext& loop_;
  HttpSession& session_;
  RequestHandler& handler_;
  PredictPath& predict_;
  ControlProxy& control_;
  std::vector<std::unique_ptr<GrpcStream>> streams_;
  std::vector<GrpcStream*> free_;
  std::vector<GrpcStream*> watchers_;
  std::uint64_t told_version_ = 0;  // of the tables
  bool told_ready_ = false;
};

}  // namespace penstock::dataplane
