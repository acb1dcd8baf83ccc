// A request that is streamed through the control plane: its body goes there while it comes, in chunks, and an answer in
// chunks is sent on while it comes. What neither side takes at the moment waits where it is: in the sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/body_stream.hpp"
#include "http/http_parser.hpp"

namespace penstock::dataplane {

struct Connection;
struct ControlCall;
class ControlProxy;
struct Pending;

class ControlStream final : public BodyStream {
 public:
  ControlStream(ControlProxy& proxy, ControlCall& call) noexcept : proxy_(proxy), call_(call) {}
  ControlStream(const ControlStream&) = delete;
  ControlStream& operator=(const ControlStream&) = delete;

  [[nodiscard]] std::size_t room() const noexcept override;
  void take(std::string_view bytes) override;
  void end() override;
  [[nodiscard]] bool pull() override;
  [[nodiscard]] Piece read(char* out, std::size_t room) override;

  // The call's socket is connected and watched for `interest`.
  void connected(std::uint32_t interest) noexcept { interest_ = interest; }
  void on_event(std::uint32_t events);

 private:
  // kHead: what it is is not known yet. kWhole: it is collected and relayed as that of any other route.
  enum class Answer : std::uint8_t { kHead, kWhole, kPieces };

  void send();
  void receive_head();
  [[nodiscard]] bool relay_head(Connection& connection, Pending& pending, std::size_t head_end);
  // A piece of the answer into `data`, as it came.
  [[nodiscard]] Piece read_piece(char* data, std::size_t bytes_max);
  void finish(Connection& connection, Pending& pending);
  void watch(std::uint32_t interest);

  ControlProxy& proxy_;
  ControlCall& call_;
  ChunkedDecoder chunks_;
  Answer answer_ = Answer::kHead;
  bool body_ended_ = false;
  bool refuses_body_ = false;   // it reads no more
  std::uint32_t interest_ = 0;  // epoll events registered; 0: the socket is not in the set
  std::uint64_t pass_ns_ = 0;
  std::size_t pulled_ = 0;  // in this pass
};

}  // namespace penstock::dataplane
