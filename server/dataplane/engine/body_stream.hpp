// A request whose body is handed on while it comes, and whose answer is sent while it is made: what the session and
// whoever answers know of each other. Nothing of either is held but a window.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/http_parser.hpp"

namespace penstock::dataplane {

// Takes the body of one request and gives its answer. The session calls it, on the loop's thread.
class BodyStream {
 public:
  // Bytes of the body that it takes at the moment. 0: it calls HttpSession::resume_body() when that has changed.
  [[nodiscard]] virtual std::size_t room() const noexcept = 0;
  virtual void take(std::string_view bytes) = 0;  // at most room(), and over HTTP/2 a stream's window more
  virtual void end() = 0;                         // that was all of the body
  // The connection's buffer is empty: puts what there is of the answer into it. False: there is nothing now; it calls
  // HttpSession::resume_answer() when there is. May end the reply, or the connection.
  [[nodiscard]] virtual bool pull() = 0;

  // kMore: there may be more at once. kNothing: there is none now; it calls HttpSession::resume_answer(). kEnded: that
  // was all. kBroken: there will be no more, and that was not all.
  enum class Progress : std::uint8_t { kMore, kNothing, kEnded, kBroken };
  struct Piece {
    std::size_t bytes;
    Progress progress;
  };
  // The same for a stream of HTTP/2: the next bytes of the answer, as far as there is room.
  [[nodiscard]] virtual Piece read(char* out, std::size_t room) = 0;

 protected:
  ~BodyStream() = default;
};

inline constexpr std::string_view kStreamedPath = "/predict/batch";
[[nodiscard]] bool names_streamed_type(const RequestHead& head) noexcept;

// Whether a request is one of many rows that are streamed: POST /predict/batch in a format of lines or record batches.
[[nodiscard]] inline bool is_streamed(const RequestHead& head) noexcept {
  return head.path.size() == kStreamedPath.size() && names_streamed_type(head);
}

// Whether the body of a prediction is a file or a form, which the control plane makes a row of: text/plain, image/*,
// multipart/form-data.
[[nodiscard]] bool names_file_type(const RequestHead& head) noexcept;
[[nodiscard]] inline bool is_file(const RequestHead& head) noexcept {
  const char first = head.content_type.empty() ? 'a' : head.content_type.front();
  return first != 'a' && names_file_type(head);  // what the fast path reads is application/...
}

}  // namespace penstock::dataplane
