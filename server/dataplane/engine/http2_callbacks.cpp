#include "engine/http2_callbacks.hpp"

namespace penstock::dataplane {
namespace {

// nghttp2's own bound is newer than some systems' release of it.
constexpr std::uint32_t kContinuationsMax = 8;

Http2Session& self_of(void* user) noexcept { return *static_cast<Http2Session*>(user); }

// Of a stream that is reset since its client broke the rules, which it can do as often as it can take requests back.
bool is_fault(std::uint32_t error) noexcept {
  return error != NGHTTP2_NO_ERROR && error != NGHTTP2_REFUSED_STREAM && error != NGHTTP2_CANCEL &&
         error != NGHTTP2_INTERNAL_ERROR;
}

std::string_view text_of(const std::uint8_t* data, std::size_t bytes) noexcept {
  return {reinterpret_cast<const char*>(data), bytes};
}

}  // namespace

nghttp2_session* Http2Session::Callbacks::make(Http2Session& self) {
  // The same for all: they name no session.
  static const auto callbacks = [] {
    nghttp2_session_callbacks* made = nullptr;
    if (nghttp2_session_callbacks_new(&made) != 0) return made;
    nghttp2_session_callbacks_set_on_begin_frame_callback(made, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, on_close);
    return made;
  }();
  static const auto options = [] {
    nghttp2_option* made = nullptr;
    if (nghttp2_option_new(&made) == 0) nghttp2_option_set_no_auto_window_update(made, 1);
    return made;
  }();
  nghttp2_session* session = nullptr;
  if (callbacks == nullptr || options == nullptr ||
      nghttp2_session_server_new2(&session, callbacks, &self, options) != 0) {
    return nullptr;
  }
  return session;
}

nghttp2_data_source_read_callback Http2Session::Callbacks::reader() noexcept { return on_read; }

int Http2Session::Callbacks::on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user) {
  Http2Session& self = self_of(user);
  self.continuations_ = head->type == NGHTTP2_CONTINUATION ? self.continuations_ + 1 : 0;
  return self.continuations_ > kContinuationsMax ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

int Http2Session::Callbacks::on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  Http2Session& self = self_of(user);
  if (self.open_stream(frame->hd.stream_id)) return 0;
  // Nothing of it was looked at, and so its client is told: it may send the same again (RFC 9113 8.7).
  nghttp2_submit_rst_stream(self.nghttp2_, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_REFUSED_STREAM);
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

int Http2Session::Callbacks::on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                                       std::size_t name_bytes, const std::uint8_t* value, std::size_t value_bytes,
                                       std::uint8_t, void* user) {
  Http2Session& self = self_of(user);
  Http2Stream* const stream = self.find(frame->hd.stream_id);
  if (stream == nullptr || stream->has_head) return 0;  // trailers say nothing to us
  self.add_field(*stream, text_of(name, name_bytes), text_of(value, value_bytes));
  return self.broken_ ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

int Http2Session::Callbacks::on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  Http2Session& self = self_of(user);
  if (frame->hd.type == NGHTTP2_RST_STREAM) return self.takes_reset() ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  Http2Stream* const stream = self.find(frame->hd.stream_id);
  if (stream == nullptr) return 0;
  const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (!stream->has_head) self.on_head(*stream, ends);
  if (ends) stream->ended = true;
  if (!ends || stream->refused || stream->waits_memory) return 0;
  if (stream->source != nullptr) {
    self.end_streamed(*stream);
  } else {
    self.dispatch(*stream);
  }
  return 0;
}

int Http2Session::Callbacks::on_data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                                     std::size_t bytes, void* user) {
  Http2Session& self = self_of(user);
  Http2Stream* const stream = self.find(id);
  nghttp2_session_consume_connection(self.nghttp2_, bytes);  // a stream's own window is what it is held by
  if (stream == nullptr) return 0;
  stream->ungranted += bytes;
  if (stream->refused) {
    self.grant(*stream, bytes);
  } else if (stream->source != nullptr) {
    self.add_streamed(*stream, text_of(data, bytes));
  } else {
    self.add_body(*stream, text_of(data, bytes));
  }
  return 0;
}

int Http2Session::Callbacks::on_frame_sent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type == NGHTTP2_RST_STREAM) {
    // A reset that the client makes us send frees its place as its own does (CVE-2025-8671).
    Http2Session& self = self_of(user);
    if (is_fault(frame->rst_stream.error_code) && !self.takes_reset()) self.give_up();
    return 0;
  }
  const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
                    (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA);
  if (!ends || nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) != 0) return 0;
  Http2Session& self = self_of(user);
  if (Http2Stream* const stream = self.find(frame->hd.stream_id)) self.linger(*stream);
  return 0;
}

int Http2Session::Callbacks::on_close(nghttp2_session*, std::int32_t id, std::uint32_t, void* user) {
  Http2Session& self = self_of(user);
  if (Http2Stream* const stream = self.find(id)) self.close_stream(*stream);
  return 0;
}

ssize_t Http2Session::Callbacks::on_read(nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t room,
                                         std::uint32_t* flags, nghttp2_data_source* source, void* user) {
  return self_of(user).read_reply(*static_cast<Http2Stream*>(source->ptr), reinterpret_cast<char*>(out), room, flags);
}

}  // namespace penstock::dataplane
