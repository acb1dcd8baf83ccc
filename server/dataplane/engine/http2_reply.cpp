// Answers: HTTP/1.1, as it was written by whoever answered, becomes HEADERS and DATA, or gRPC's message and trailers.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "codec/codec_utf8.hpp"
#include "engine/http2_callbacks.hpp"
#include "http/ascii.hpp"
#include "http/problem_reader.hpp"

namespace penstock::dataplane {
namespace {

// What a client must take of each answer within write_timeout_ms, or all that is left: otherwise windows that are
// opened byte by byte would hold answers for good.
constexpr std::size_t kTakenBytesMin = 64 * 1024;

constexpr std::string_view kGrpcType = "application/grpc";

nghttp2_nv nv_of(std::string_view name, std::string_view value, std::uint8_t flags) noexcept {
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), flags};
}

constexpr std::uint8_t kStatic = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;

// Fields that HTTP/2 does not have (RFC 9113 8.2.2).
bool is_of_connection(std::string_view name) noexcept {
  return name == "connection" || name == "keep-alive" || name == "transfer-encoding" || name == "upgrade";
}

}  // namespace

Http2Stream& Http2Session::stream_of(const Pending& pending) noexcept {
  return *streams_[static_cast<std::size_t>(&pending - connection_.pending.get())];
}

char* Http2Session::begin_reply(Pending& pending, std::size_t bytes_max) {
  if (!pending.reply) pending.reply = loop_.engine.pool.acquire_owed(bytes_max);
  return pending.reply.data();
}

void Http2Session::end_reply(Pending& pending) {
  Http2Stream& stream = stream_of(pending);
  stream.reply = std::move(pending.reply);
  char* const begin = stream.reply.data() + pending.reply_begin;
  const std::string_view text(begin, pending.reply_end - pending.reply_begin);
  const std::size_t head_bytes = text.find("\r\n\r\n") + 4;  // it is ours: it has one
  const std::string_view status = text.substr(9, 3);
  stream.sent = pending.reply_begin + head_bytes;
  stream.end = pending.reply_end;
  if (!stream.is_grpc) {
    submit_http(stream, pending, status, begin + text.find("\r\n") + 2, begin + head_bytes - 2);
  } else if (status == "200") {
    submit_message(stream);
  } else {
    unsigned number = 0;
    std::from_chars(status.data(), status.data() + status.size(), number);
    char detail[Problem::kDetailBytes];
    const ReadProblem problem = read_problem(text.substr(head_bytes), detail);
    submit_status(stream, pending,
                  problem.code == ProblemCode::kNone ? grpc_status_of(number) : grpc_status_of(problem.code),
                  problem.detail, number == 503 || number == 429 ? 1 : 0);
  }
  connection_.owed_bytes -= pending.owed_bytes;
  pending.state = Pending::State::kFree;
}

bool Http2Session::refuse(Pending& pending, const Problem& problem) {
  Http2Stream& stream = stream_of(pending);
  if (!stream.is_grpc) return false;
  const bool comes_back = info_of(problem.code()).status == 503 || info_of(problem.code()).status == 429;
  submit_status(stream, pending, grpc_status_of(problem.code()), problem.detail(),
                comes_back ? std::max(problem.retry_after_s(), 1U) : 0);
  pending.reply.reset();
  connection_.owed_bytes -= pending.owed_bytes;
  pending.state = Pending::State::kFree;
  return true;
}

void Http2Session::add_nv(std::string_view name, std::string_view value) { nvs_.push_back(nv_of(name, value, 0)); }

// `fields` to `end`: lines of HTTP/1.1, whose names are made lower case where they are.
void Http2Session::submit_http(Http2Stream& stream, const Pending& pending, std::string_view status, char* fields,
                               char* end) {
  constexpr std::string_view kLineEnd = "\r\n";
  nvs_.clear();
  add_nv(":status", status);
  while (fields < end) {
    char* const line_end = std::search(fields, end, kLineEnd.begin(), kLineEnd.end());
    char* const colon = std::find(fields, line_end, ':');
    if (colon != line_end) {
      std::transform(fields, colon, fields, to_lower);
      const std::string_view name(fields, static_cast<std::size_t>(colon - fields));
      const std::string_view value(colon + 1, static_cast<std::size_t>(line_end - colon - 1));
      if (!is_of_connection(name)) add_nv(name, trim_blanks(value));
    }
    fields = line_end == end ? end : line_end + 2;
  }
  submit(stream, stream.streams || (!pending.head_only && stream.sent < stream.end));
}

// The body of the answer is gRPC's message. Nothing here is copied by nghttp2, and no field is new to the client after
// the first answer.
void Http2Session::submit_message(Http2Stream& stream) {
  write_grpc_prefix(stream.prefix, static_cast<std::uint32_t>(stream.end - stream.sent));
  stream.prefix_sent = 0;
  submit_message_fields(stream);
}

void Http2Session::submit_message_fields(Http2Stream& stream) {
  nvs_.clear();
  nvs_.push_back(nv_of(":status", "200", kStatic));
  nvs_.push_back(nv_of("content-type", kGrpcType, kStatic));
  submit(stream, true);
}

// No message: the status alone. Of a call that has sent some: the status behind them.
void Http2Session::submit_status(Http2Stream& stream, const Pending& pending, GrpcStatus status, std::string_view text,
                                 std::uint32_t retry_after_s) {
  char code[4];
  char pushback[16];
  char message[3 * Problem::kDetailBytes];
  const auto code_end = std::to_chars(code, code + sizeof code, static_cast<unsigned>(status)).ptr;
  std::string memory;
  const std::size_t message_bytes =
      write_grpc_message(message, utf8_begin(utf8_of(text, memory), Problem::kDetailBytes));
  nvs_.clear();
  if (!stream.sends_messages) {
    nvs_.push_back(nv_of(":status", "200", kStatic));
    nvs_.push_back(nv_of("content-type", kGrpcType, kStatic));
  }
  add_nv("grpc-status", {code, code_end});
  add_nv("grpc-message", {message, message_bytes});
  if (retry_after_s != 0) {
    const auto end = std::to_chars(pushback, pushback + sizeof pushback, std::uint64_t{retry_after_s} * 1000).ptr;
    add_nv("grpc-retry-pushback-ms", {pushback, end});
  }
  add_nv("x-request-id", pending.request_id());
  if (stream.sends_messages) {
    nghttp2_submit_trailer(nghttp2_, stream.id, nvs_.data(), nvs_.size());
    return;
  }
  stream.reply.reset();
  submit(stream, false);
}

void Http2Session::submit(Http2Stream& stream, bool has_body) {
  stream.answered = true;
  held_bytes_ += held_bytes(stream) - std::exchange(stream.asked, 0);
  nghttp2_data_provider provider{.source = {.ptr = &stream}, .read_callback = Callbacks::reader()};
  if (nghttp2_submit_response(nghttp2_, stream.id, nvs_.data(), nvs_.size(), has_body ? &provider : nullptr) != 0)
    nghttp2_submit_rst_stream(nghttp2_, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_INTERNAL_ERROR);
  if (has_body) {
    offer(stream);
  } else {
    drop_reply(stream);
  }
}

// From now on it is the client that is waited for.
void Http2Session::offer(Http2Stream& stream) {
  if (stream.take_by_ns != 0) return;
  if (offered_++ == 0) taken_ns_ = loop_.now_ns;
  stream.taken = 0;
  stream.take_by_ns = loop_.now_ns + loop_.engine.options.write_timeout_ms * kMillisecondNs;
  loop_.timers.arm(connection_.timer, stream.take_by_ns);
}

void Http2Session::note_taken(Http2Stream& stream, std::size_t bytes) noexcept {
  if (bytes > 0) taken_ns_ = loop_.now_ns;
  stream.taken += bytes;
  if (stream.taken < kTakenBytesMin) return;
  stream.taken = 0;
  stream.take_by_ns = loop_.now_ns + loop_.engine.options.write_timeout_ms * kMillisecondNs;
}

void Http2Session::drop_reply(Http2Stream& stream) noexcept {
  held_bytes_ -= stream.answered ? held_bytes(stream) : std::exchange(stream.asked, 0);
  stream.reply.reset();
  stream.sent = stream.end = 0;
  settle(stream);
}

void Http2Session::settle(Http2Stream& stream) noexcept {
  if (stream.take_by_ns != 0) --offered_;
  stream.take_by_ns = 0;
}

// A large one counts no more than in HTTP/1.1: it is the body pool that bounds those.
std::size_t Http2Session::held_bytes(const Http2Stream& stream) noexcept {
  return std::min(stream.reply.bytes(), kOwedBytesMax);
}

ssize_t Http2Session::read_reply(Http2Stream& stream, char* out, std::size_t room, std::uint32_t* flags) {
  static const nghttp2_nv kOk = nv_of("grpc-status", "0", kStatic);
  if (stream.streams) return read_streamed(stream, out, room, flags);
  if (stream.messages != nullptr) return read_messages(stream, out, room, flags);
  const std::size_t prefix_bytes = std::min(room, kGrpcPrefixBytes - stream.prefix_sent);
  std::memcpy(out, stream.prefix + stream.prefix_sent, prefix_bytes);
  stream.prefix_sent += prefix_bytes;
  const std::size_t bytes = std::min(room - prefix_bytes, stream.end - stream.sent);
  if (bytes > 0) std::memcpy(out + prefix_bytes, stream.reply.data() + stream.sent, bytes);
  stream.sent += bytes;
  note_taken(stream, prefix_bytes + bytes);
  if (stream.sent == stream.end && stream.prefix_sent == kGrpcPrefixBytes) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    taken_ns_ = loop_.now_ns;
    drop_reply(stream);
    if (stream.is_grpc) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      nghttp2_submit_trailer(nghttp2_, stream.id, &kOk, 1);
    }
  }
  return static_cast<ssize_t>(prefix_bytes + bytes);
}

}  // namespace penstock::dataplane
