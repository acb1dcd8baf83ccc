// What a connection whose requests are streams of HTTP/2 (RFC 9113) does in the session's place. Where nghttp2 was not
// found when Penstock was built, nothing does, and such connections are refused as HTTP/1.1 refuses them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "http/problem.hpp"

namespace penstock::dataplane {

struct Buffer;
struct Connection;
struct Pending;
struct LoopContext;
class BodyStream;
class HttpSession;
class RequestHandler;

// With which a client that knows that we speak HTTP/2 begins.
inline constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

inline constexpr std::size_t kHttp2StreamsMax = 128;  // of one connection at a time; a power of two

// Of one connection, on its loop's thread. Stream k's request is the connection's Pending k, so that rows and calls
// find it as they find any other.
class Http2Port {
 public:
  virtual ~Http2Port() = default;

  // Bytes that arrived. False: the connection is of no more use, but for what flush() still writes.
  [[nodiscard]] virtual bool receive(std::string_view bytes) = 0;
  // Writes what is ready behind what `out` holds, as far as it fits.
  virtual void fill(Buffer& out) = 0;
  // Nothing is owed, and the peer or we have said that nothing more will come.
  [[nodiscard]] virtual bool is_finished() const noexcept = 0;
  // Requests that are being read or answered.
  [[nodiscard]] virtual bool has_streams() const noexcept = 0;
  // True once when the last of them has ended: the time without requests begins. Nothing else that a client sends
  // renews it.
  [[nodiscard]] virtual bool comes_to_rest() noexcept = 0;

  // As of HttpSession.
  [[nodiscard]] virtual char* begin_reply(Pending& pending, std::size_t bytes_max) = 0;
  virtual void end_reply(Pending& pending) = 0;
  // True: answered; false: a problem document it is.
  [[nodiscard]] virtual bool refuse(Pending& pending, const Problem& problem) = 0;

  // Whether there is memory now for a body that waits for it, or nobody who does.
  [[nodiscard]] virtual bool resume_waiter(std::int32_t stream) = 0;

  // Of a request that is streamed, as of HttpSession.
  [[nodiscard]] virtual BodyStream*& streamed(Pending& pending) noexcept = 0;
  virtual void begin_streamed_reply(Pending& pending, std::string_view head) = 0;
  virtual void resume_body(Pending& pending) = 0;
  virtual void resume_answer(Pending& pending) = 0;
  virtual void stop_body(Pending& pending) noexcept = 0;

  // Of the call that is answered by a MessageStream: so many bytes of those it was given are out of its hands; it has
  // something to read or has ended; it ends with half an answer, which nothing can be said behind.
  virtual void messages_taken(Pending& call, std::size_t bytes) = 0;
  virtual void messages_ready(Pending& call) = 0;
  virtual void messages_broken(Pending& call) = 0;

  // Refuses what is late, and returns when the next is; 0: the client takes nothing, so the connection is to be closed.
  [[nodiscard]] virtual std::uint64_t check_deadlines() = 0;
  // No further streams are taken. False: that was so before.
  virtual bool drain() = 0;
  // The connection has been closed: nobody waits for what is under way.
  virtual void abandon_all() = 0;
};

// Null where there is no HTTP/2.
[[nodiscard]] std::unique_ptr<Http2Port> make_http2(LoopContext& loop, HttpSession& session, RequestHandler& handler,
                                                    Connection& connection);
[[nodiscard]] bool has_http2() noexcept;

}  // namespace penstock::dataplane
