// The server's side of HTTP/1.1 on a connection: framing of requests, replies in order, back-pressure, timeouts.
//
// Runs on one I/O loop's thread. It knows nothing of routes: complete requests go to a RequestHandler, which answers
// now or later through begin_reply()/end_reply().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/body_stream.hpp"
#include "engine/compressing.hpp"
#include "engine/connection.hpp"
#include "engine/job_pool.hpp"
#include "engine/loop_context.hpp"
#include "engine/message_stream.hpp"
#include "http/http_parser.hpp"

namespace penstock::dataplane {

// A complete request. Views end with the call, unless `block` is kept: then they live in it.
struct Request {
  const RequestHead& head;
  std::string_view body;
  Block& block;           // holds head and body of a large request; empty for one that fitted the connection's buffer
  bool streamed = false;  // the body comes later: to Connection::stream, which handle() must set or refuse the request
};

inline constexpr std::string_view kVaryEncoding = "Vary: Accept-Encoding\r\n";

class RequestHandler {
 public:
  // Must lead to exactly one end_reply() (or refuse()) for `pending`, at once or later.
  virtual void handle(Connection& connection, Pending& pending, const Request& request) = 0;
  // Called when a request with a body has shown its head. False: `problem` is set and the body will not be read.
  virtual bool admits(const Connection& connection, const RequestHead& head, std::uint64_t& body_bytes_max,
                      Problem& problem) = 0;
  // The same for requests of gRPC, whose path names a method; without a handler of their own they are as any other.
  virtual void handle_grpc(Connection& connection, Pending& pending, const Request& request) {
    handle(connection, pending, request);
  }
  virtual bool admits_grpc(const Connection& connection, const RequestHead& head, std::uint64_t& body_bytes_max,
                           Problem& problem) {
    return admits(connection, head, body_bytes_max, problem);
  }
  // Who answers a call of gRPC whose messages come and go one by one. Null: it is another one, unless `problem` is set.
  virtual MessageStream* open_messages(Connection&, Pending&, const RequestHead&, Problem&) { return nullptr; }
  // The client is gone, or its deadline has passed: nobody waits for `pending` any more.
  virtual void abandon(Connection& connection, Pending& pending) = 0;

 protected:
  ~RequestHandler() = default;
};

class HttpSession {
 public:
  HttpSession(LoopContext& loop, RequestHandler& handler) : loop_(loop), handler_(handler) {}

  // Where large bodies are compressed and decompressed; before the first connection.
  void use_jobs(JobPool& jobs, JobInbox& inbox) noexcept {
    jobs_ = &jobs;
    inbox_ = &inbox;
  }
  void on_job(Job& job);  // one of them is back

  // Takes over a connected non-blocking socket.
  void open(int fd, bool reserved, bool internal = false);
  void on_event(Connection& connection, std::uint32_t events);
  void on_timer(Connection& connection);
  // Ends connections that owe nothing; the others end when their replies are out.
  void drain();

  // --- replies
  // --------------------------------------------------------------------------------------------------------

  // Memory for a whole reply of at most `bytes_max` bytes. Valid until end_reply(), which must follow before anything
  // else.
  [[nodiscard]] char* begin_reply(Connection& connection, Pending& pending, std::size_t bytes_max);
  // `bytes` were written from `begin` bytes behind what begin_reply() returned.
  void end_reply(Connection& connection, Pending& pending, std::size_t bytes, std::size_t begin = 0);
  void refuse(Connection& connection, Pending& pending, const Problem& problem, std::string_view allow = {});
  void reply(Connection& connection, Pending& pending, unsigned status, std::string_view content_type,
             std::string_view body);
  void reply_without_body(Connection& connection, Pending& pending, unsigned status, const ResponseOptions& options);
  [[nodiscard]] ResponseOptions response_options(const Pending& pending) const noexcept;

  // --- a request that is streamed, see body_stream.hpp
  // ----------------------------------------------------------------

  // Who takes the body and gives the answer, until it is detached.
  void attach(Connection& connection, Pending& pending, BodyStream& stream) noexcept;
  void detach(Connection& connection, Pending& pending, const BodyStream& stream) noexcept;
  // The head of its reply: false when it is too long. The rest is written into the connection's buffer by pull().
  [[nodiscard]] bool begin_streamed_reply(Connection& connection, Pending& pending, std::string_view head);
  // All of the reply is in the connection's buffer.
  void end_streamed_reply(Connection& connection, Pending& pending);
  // Bytes were moved either way: the request has its full time again.
  void note_progress(Pending& pending) noexcept;
  void resume_body(Connection& connection, Pending& pending);
  void resume_answer(Connection& connection, Pending& pending);
  // The rest of the body is not wanted: the connection ends with the reply.
  void stop_body(Connection& connection, Pending& pending) noexcept;
  // Ends a connection of HTTP/1.1 whose reply cannot be completed, so that the client cannot take it for whole.
  void cut(Connection& connection);
  // Before anything of the body is taken.
  [[nodiscard]] bool admits_stream(Connection& connection, const RequestHead& head, Problem& problem);
  // --- for a connection of streams
  // --------------------------------------------------------------------------------------------

  // Makes `pending` a request that was read just now.
  void open_pending(Connection& connection, Pending& pending, std::uint32_t id);
  void mark_dirty(Connection& connection);
  // Memory for a body, for whoever comes when nobody waits for it.
  [[nodiscard]] Block acquire_in_turn(std::size_t bytes);
  void wait_for_memory(Connection& connection, std::int32_t stream);
  void leave_memory_queue(Connection& connection, std::int32_t stream) noexcept;

  // --- content codings and web pages (http_session_coding.cpp)
  // ---------------------------------------------------------------------------------------------------

  // What the reply will carry beside what its maker says: of a server that was told of origins, or to compress.
  void note_manners(Connection& connection, Pending& pending, const RequestHead& head);
  // Has a request handled whose body comes in a coding. `head` is its head as HTTP/1.1 writes it.
  void dispatch_compressed(Connection& connection, Pending& pending, const Request& request, std::string_view head);

  // --- once per pass
  // ---------------------------------------------------------------------------------------------------

  void flush_dirty();
  void resume_memory_waiters();
  // Reads what TLS has taken from sockets and nobody has read.
  void resume_unread();
  [[nodiscard]] bool has_unread() const noexcept { return !unread_.empty(); }
  void recycle_closed();
  [[nodiscard]] bool has_memory_waiters() const noexcept { return !memory_waiters_.empty(); }
  [[nodiscard]] bool has_dirty() const noexcept { return !dirty_.empty(); }

 private:
  struct MemoryWaiter {
    Connection* connection;
    std::int32_t stream;  // of HTTP/2; 0: it is the connection that waits

    bool operator==(const MemoryWaiter&) const = default;
  };
  struct Destination {
    char* data;
    std::size_t bytes;
  };

  [[nodiscard]] static bool takes_coding(const RequestHead& head, Problem& problem);
  void submit_inflate(Connection& connection, Pending& pending, const Request& request, std::string_view head,
                      std::uint64_t body_bytes_max);
  void handle_inflated(Connection& connection, Pending& pending, Inflated& inflated, std::size_t head_bytes);
  [[nodiscard]] bool hand_to_compressor(Connection& connection, Pending& pending, std::size_t& bytes,
                                        std::size_t begin);
  [[nodiscard]] CodingTools& tools();

  void read(Connection& connection);
  [[nodiscard]] Destination read_destination(Connection& connection) noexcept;
  void accept_bytes(Connection& connection, std::size_t bytes);
  void process(Connection& connection);
  [[nodiscard]] bool process_head(Connection& connection);
  [[nodiscard]] bool begin_body(Connection& connection, const RequestHead& head);
  [[nodiscard]] bool begin_block(Connection& connection, const RequestHead& head);
  [[nodiscard]] bool process_chunks(Connection& connection);
  [[nodiscard]] bool grow_block(Connection& connection, std::size_t bytes);
  [[nodiscard]] bool begin_stream(Connection& connection, const RequestHead& head);
  [[nodiscard]] bool process_stream(Connection& connection);
  void refuse_stream(Connection& connection, const Problem& problem);
  void leave_memory_queue(Connection& connection);
  [[nodiscard]] bool resume_memory_waiter(Connection& connection, std::int32_t stream);
  void dispatch_block(Connection& connection);
  void dispatch(Connection& connection, const RequestHead& head, std::string_view body, Block& block);
  Pending& open_pending(Connection& connection, const RequestHead& head);
  Pending& open_pending(Connection& connection);
  void refuse_connection(Connection& connection, const Problem& problem);

  void drain_ready(Connection& connection);
  void pop(Connection& connection, Pending& pending);
  void flush(Connection& connection);
  // Bytes sent; nothing when the socket is full (`writable` is cleared) or broken (the connection is closed).
  [[nodiscard]] std::size_t send_bytes(Connection& connection, const char* data, std::size_t bytes);
  void after_flush(Connection& connection);
  // (http_session_http2.cpp)
  [[nodiscard]] bool begins_http2(Connection& connection);
  void process_http2(Connection& connection);
  void flush_http2(Connection& connection);
  void after_flush_http2(Connection& connection);
  void end_http2_reply(Connection& connection, Pending& pending);
  void on_http2_timer(Connection& connection);

  // (http_session_tls.cpp)
  void begin_tls(Connection& connection);
  void end_tls(Connection& connection);
  void on_handshake_timer(Connection& connection);
  void note_unread(Connection& connection);

  void linger(Connection& connection);
  void close(Connection& connection);
  void update_interest(Connection& connection);
  void expect_by(Connection& connection, std::uint64_t& deadline, std::uint64_t when_ns);
  void expect_request(Connection& connection);

  LoopContext& loop_;
  RequestHandler& handler_;
  JobPool* jobs_ = nullptr;
  JobInbox* inbox_ = nullptr;
  std::unique_ptr<CodingTools> tools_;  // made for the first body that needs them
  std::unique_ptr<char[]> coding_scratch_;
  std::vector<Connection*> dirty_;
  std::vector<Connection*> postponed_;  // to the next time that those are flushed
  std::vector<MemoryWaiter> memory_waiters_;
  std::vector<Connection*> unread_;  // no event tells that they have something
  std::vector<Connection*> closed_;  // this pass: an event of the same pass may still name them
  std::vector<Connection*> free_;
};

}  // namespace penstock::dataplane
