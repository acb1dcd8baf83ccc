#include "reply_reader.hpp"

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <charconv>
#include <optional>

namespace penstock::loadgen {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;
using BeastView = boost::beast::string_view;

constexpr std::uint32_t kHeadBytesMax = 64 * 1024;
// A reply that says it is larger is taken for nonsense.
constexpr std::uint64_t kBodyBytesMax = 1 << 30;

// Retry-After in seconds; a date says no number, and counts as none.
std::uint8_t retry_after_of(BeastView text) {
  std::uint32_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) return 0;
  return static_cast<std::uint8_t>(1 + std::min(seconds, 254U));
}

// Keeps the status, Retry-After and the body; other fields only matter to Beast, which frames the message by them.
class Message final : public http::basic_parser<false> {
 public:
  explicit Message(std::string& body) : body_(body) {
    header_limit(kHeadBytesMax);
    body_limit(kBodyBytesMax);
    eager(true);
  }
  [[nodiscard]] std::uint16_t status_code() const noexcept { return status_; }
  [[nodiscard]] std::uint8_t retry_after() const noexcept { return retry_after_; }

 private:
  void on_request_impl(http::verb, BeastView, BeastView, int, ErrorCode&) override {}
  void on_response_impl(int code, BeastView, int, ErrorCode&) override { status_ = static_cast<std::uint16_t>(code); }
  void on_field_impl(http::field name, BeastView, BeastView value, ErrorCode&) override {
    if (name == http::field::retry_after) retry_after_ = retry_after_of(value);
  }
  void on_trailer_field_impl(http::field, BeastView, BeastView, ErrorCode&) override {}
  void on_header_impl(ErrorCode&) override {}
  // Memory follows the bytes that arrive, not the length that a server claims.
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
  std::size_t on_body_impl(BeastView piece, ErrorCode&) override {
    body_.append(piece.data(), piece.size());
    return piece.size();
  }
  void on_chunk_header_impl(std::uint64_t, BeastView, ErrorCode&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, BeastView piece, ErrorCode&) override {
    body_.append(piece.data(), piece.size());
    return piece.size();
  }
  void on_finish_impl(ErrorCode&) override {}

  std::string& body_;
  std::uint16_t status_ = 0;
  std::uint8_t retry_after_ = 0;
};

}  // namespace

class ReplyReader::Parser {
 public:
  Result read(std::string_view& bytes, Reply& reply) {
    for (;;) {
      Message& message = current();
      if (!pending_.empty()) pending_.append(bytes);
      const std::string_view fed = pending_.empty() ? bytes : std::string_view(pending_);
      ErrorCode error;
      const std::size_t taken = message.put(boost::asio::const_buffer(fed.data(), fed.size()), error);
      if (error && error != http::error::need_more) return Result::kNotHttp;
      if (!message.is_done()) {
        // Beast takes a head only whole: what there is of it waits here.
        pending_ = std::string(fed.substr(taken));
        bytes = {};
        return Result::kNeedMore;
      }
      // What is left is the tail of `bytes`, whichever buffer it was parsed from.
      bytes.remove_prefix(bytes.size() - (fed.size() - taken));
      pending_.clear();
      if (finish(message, reply)) return Result::kReply;
    }
  }

  Result read_end(Reply& reply) {
    if (!is_inside()) return Result::kNeedMore;
    ErrorCode error;
    Message& message = current();
    message.put_eof(error);
    if (error || !message.is_done()) return Result::kNotHttp;
    return finish(message, reply) ? Result::kReply : Result::kNotHttp;
  }

  [[nodiscard]] bool is_inside() const noexcept {
    return !pending_.empty() || (message_.has_value() && message_->got_some());
  }

  void reset() {
    pending_.clear();
    message_.reset();
  }

 private:
  Message& current() {
    if (message_.has_value()) return *message_;
    body_.clear();
    return message_.emplace(body_);
  }
  bool finish(const Message& message, Reply& reply) {
    reply = {message.status_code(), message.keep_alive(), message.retry_after(), body_};
    message_.reset();
    return reply.status >= 200;
  }

  std::string body_;
  std::string pending_;
  std::optional<Message> message_;
};

ReplyReader::ReplyReader() : parser_(std::make_unique<Parser>()) {}
ReplyReader::~ReplyReader() = default;
ReplyReader::ReplyReader(ReplyReader&&) noexcept = default;
ReplyReader& ReplyReader::operator=(ReplyReader&&) noexcept = default;

ReplyReader::Result ReplyReader::read(std::string_view& bytes, Reply& reply) { return parser_->read(bytes, reply); }
ReplyReader::Result ReplyReader::read_end(Reply& reply) { return parser_->read_end(reply); }
bool ReplyReader::is_inside() const noexcept { return parser_->is_inside(); }
void ReplyReader::reset() { parser_->reset(); }

}  // namespace penstock::loadgen
