// The connection without a socket that carries the requests of one call of gRPC: what comes of them goes to its stream.
#pragma once

#include <string_view>

#include "engine/grpc_stream.hpp"
#include "engine/http2_port.hpp"

namespace penstock::dataplane {

class GrpcPort final : public Http2Port {
 public:
  GrpcPort(LoopContext& loop, GrpcStream& stream) noexcept : loop_(loop), stream_(stream) {}

  char* begin_reply(Pending& pending, std::size_t bytes_max) override {
    if (!pending.reply) pending.reply = loop_.engine.pool.acquire_owed(bytes_max);
    return pending.reply.data();
  }
  void end_reply(Pending& pending) override { stream_.on_reply(pending); }
  bool refuse(Pending& pending, const Problem& problem) override {
    stream_.on_refusal(pending, problem);
    return true;
  }
  std::uint64_t check_deadlines() override { return stream_.check_deadlines(); }

  // --- of a connection with a socket
  bool receive(std::string_view) override { return true; }
  void fill(Buffer&) override {}
  bool is_finished() const noexcept override { return false; }
  bool has_streams() const noexcept override { return true; }
  bool comes_to_rest() noexcept override { return false; }
  bool drain() override { return false; }
  void abandon_all() override {}
  bool resume_waiter(std::int32_t) override { return true; }
  BodyStream*& streamed(Pending&) noexcept override { return no_body_; }
  void begin_streamed_reply(Pending&, std::string_view) override {}
  void resume_body(Pending&) override {}
  void resume_answer(Pending&) override {}
  void stop_body(Pending&) noexcept override {}
  void messages_taken(Pending&, std::size_t) override {}
  void messages_ready(Pending&) override {}
  void messages_broken(Pending&) override {}

 private:
  LoopContext& loop_;
  GrpcStream& stream_;
  BodyStream* no_body_ = nullptr;
};

}  // namespace penstock::dataplane
