// Reads HTTP/1.1 replies from a stream: by length, in chunks, or until the server closes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace penstock::loadgen {

struct Reply {
  std::uint16_t status = 0;
  bool keep_alive = true;
  std::uint8_t retry_after = 0;  // as Record has it
  std::string_view body;         // valid until the next call
};

class ReplyReader {
 public:
  enum class Result : std::uint8_t { kReply, kNeedMore, kNotHttp };

  ReplyReader();
  ~ReplyReader();
  ReplyReader(ReplyReader&&) noexcept;
  ReplyReader& operator=(ReplyReader&&) noexcept;

  // Takes a reply's bytes off the front of `bytes`; interim replies (1xx) are passed over.
  [[nodiscard]] Result read(std::string_view& bytes, Reply& reply);
  // The server has closed: a body without a length ends here.
  [[nodiscard]] Result read_end(Reply& reply);
  // A part of a reply has been read.
  [[nodiscard]] bool is_inside() const noexcept;
  void reset();

 private:
  class Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace penstock::loadgen
