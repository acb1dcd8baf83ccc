// A call of gRPC whose messages come and go one by one: what its stream of HTTP/2 knows of whoever answers it. The
// other way it is told by Http2Port::messages_taken() and messages_ready().
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/grpc_status.hpp"

namespace penstock::dataplane {

// On the loop's thread. Belongs to its loop; from close() on it serves another call.
class MessageStream {
 public:
  struct Ending {
    GrpcStatus status = GrpcStatus::kOk;
    std::uint32_t retry_after_s = 0;  // 0: nothing is known of when another try is worth it
    std::string_view text;
  };

  // DATA, in whatever pieces. Until it says that it has taken them they count in the stream's window.
  virtual void take(std::string_view bytes) = 0;
  virtual void end() = 0;  // that was all
  // Answers, as far as they fit. 0: there is nothing at the moment.
  [[nodiscard]] virtual std::size_t read(char* out, std::size_t room) = 0;
  [[nodiscard]] virtual bool has_more() const noexcept = 0;  // that read() would give
  // Null: more answers may come, or there are some to read.
  [[nodiscard]] virtual const Ending* ending() = 0;
  // The server stops: no further messages are taken, and it ends with those that are under way.
  virtual void drain() = 0;
  // The stream is gone: nobody waits for what is under way.
  virtual void close() = 0;

 protected:
  ~MessageStream() = default;
};

}  // namespace penstock::dataplane
