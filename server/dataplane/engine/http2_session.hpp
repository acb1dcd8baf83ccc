// The server's side of HTTP/2 on a connection, with nghttp2 for frames and header compression (RFC 9113, RFC 7541).
//
// A stream's request is written as HTTP/1.1 and read by the same strict parser; its answer comes as HTTP/1.1 and leaves
// as HEADERS and DATA, or as gRPC's message and trailers. So routes, keys and the control plane know nothing of it.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/http2_port.hpp"
#include "engine/http2_stream.hpp"
#include "engine/http_session.hpp"

namespace penstock::dataplane {

class Http2Session final : public Http2Port {
 public:
  Http2Session(LoopContext& loop, HttpSession& session, RequestHandler& handler, Connection& connection);
  ~Http2Session() override;
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  bool receive(std::string_view bytes) override;
  void fill(Buffer& out) override;
  bool is_finished() const noexcept override;
  bool has_streams() const noexcept override { return open_ > 0; }
  bool comes_to_rest() noexcept override;
  char* begin_reply(Pending& pending, std::size_t bytes_max) override;
  void end_reply(Pending& pending) override;
  bool refuse(Pending& pending, const Problem& problem) override;
  bool resume_waiter(std::int32_t stream) override;
  BodyStream*& streamed(Pending& pending) noexcept override { return stream_of(pending).source; }
  void begin_streamed_reply(Pending& pending, std::string_view head) override;
  void resume_body(Pending& pending) override;
  void resume_answer(Pending& pending) override;
  void stop_body(Pending& pending) noexcept override;
  void messages_taken(Pending& call, std::size_t bytes) override;
  void messages_ready(Pending& call) override;
  void messages_broken(Pending& call) override;
  std::uint64_t check_deadlines() override;
  bool drain() override;
  void abandon_all() override;

 private:
  struct Callbacks;  // of nghttp2; see http2_callbacks.cpp
  friend struct Callbacks;

  // --- requests (http2_request.cpp)
  [[nodiscard]] Http2Stream* find(std::int32_t id) noexcept;
  [[nodiscard]] Pending& pending_of(const Http2Stream& stream) noexcept;
  [[nodiscard]] bool open_stream(std::int32_t id);
  void add_field(Http2Stream& stream, std::string_view name, std::string_view value);
  void on_head(Http2Stream& stream, bool ends);
  [[nodiscard]] bool read_head(Http2Stream& stream, RequestHead& head, Problem& problem);
  [[nodiscard]] bool read_timeout(Http2Stream& stream, RequestHead& head, Problem& problem);
  void expect_body(Http2Stream& stream) noexcept;
  void add_body(Http2Stream& stream, std::string_view bytes);
  [[nodiscard]] bool find_room(Http2Stream& stream, std::size_t bytes, Problem& problem);
  void move_body(Http2Stream& stream, Block larger);
  void leave_memory_queue(Http2Stream& stream) noexcept;
  void dispatch(Http2Stream& stream);
  void note_timeout(Http2Stream& stream);
  void answer(Http2Stream& stream);
  void answer_waiting();
  void give_back_fields(Http2Stream& stream) noexcept;
  void leave_line(Http2Stream& stream) noexcept;
  [[nodiscard]] bool may_answer() const noexcept;
  void refuse_stream(Http2Stream& stream, const Problem& problem);
  void linger(Http2Stream& stream);
  void end_late(Http2Stream& stream);
  void reset_stream(Http2Stream& stream, std::uint32_t error);
  void refuse_late(Pending& pending);
  void close_stream(Http2Stream& stream);
  [[nodiscard]] bool takes_reset() noexcept;
  void give_up() noexcept;

  // --- requests that are streamed (http2_streamed.cpp)
  void begin_streamed(Http2Stream& stream, const RequestHead& head, bool ends);
  void add_streamed(Http2Stream& stream, std::string_view bytes);
  void end_streamed(Http2Stream& stream);
  void grant(Http2Stream& stream, std::size_t bytes) noexcept;
  [[nodiscard]] ssize_t read_streamed(Http2Stream& stream, char* out, std::size_t room, std::uint32_t* flags);

  // --- answers (http2_reply.cpp)
  [[nodiscard]] Http2Stream& stream_of(const Pending& pending) noexcept;
  void submit_message(Http2Stream& stream);
  void submit_http(Http2Stream& stream, const Pending& pending, std::string_view status, char* fields, char* end);
  void submit_status(Http2Stream& stream, const Pending& pending, GrpcStatus status, std::string_view text,
                     std::uint32_t retry_after_s);
  void submit_message_fields(Http2Stream& stream);
  void submit(Http2Stream& stream, bool has_body);
  void add_nv(std::string_view name, std::string_view value);
  void offer(Http2Stream& stream);
  void note_taken(Http2Stream& stream, std::size_t bytes) noexcept;
  void settle(Http2Stream& stream) noexcept;
  void drop_reply(Http2Stream& stream) noexcept;
  [[nodiscard]] static std::size_t held_bytes(const Http2Stream& stream) noexcept;
  [[nodiscard]] ssize_t read_reply(Http2Stream& stream, char* out, std::size_t room, std::uint32_t* flags);

  // --- calls whose messages come and go one by one (http2_messages.cpp)
  [[nodiscard]] bool open_messages(Http2Stream& stream, const RequestHead& head);
  [[nodiscard]] ssize_t read_messages(Http2Stream& stream, char* out, std::size_t room, std::uint32_t* flags);

  LoopContext& loop_;
  HttpSession& session_;
  RequestHandler& handler_;
  Connection& connection_;
  nghttp2_session* nghttp2_ = nullptr;
  std::vector<std::unique_ptr<Http2Stream>> streams_;  // by place; grows to kHttp2StreamsMax
  std::vector<std::uint32_t> free_;                    // places
  std::uint32_t open_ = 0;
  std::size_t field_bytes_ = 0;  // of requests that are being read
  std::string_view unsent_;      // of a frame that nghttp2 has written
  std::uint32_t waiting_ = 0;    // streams, for memory
  std::uint32_t continuations_ = 0;
  std::uint32_t resets_ = 0;
  std::uint64_t resets_since_ns_ = 0;
  std::vector<nghttp2_nv> nvs_;      // of the answer that is being submitted
  std::vector<std::int32_t> turns_;  // streams that wait for theirs
  std::uint32_t offered_ = 0;        // answers that the client has yet to take
  std::size_t held_bytes_ = 0;  // of requests that are answered, then of answers that nghttp2 has and that are not sent
  std::uint64_t taken_ns_ = 0;  // when the client last took a part of any
  bool rested_ = false;         // the last request was answered just now
  bool drained_ = false;
  bool broken_ = false;
};

}  // namespace penstock::dataplane
