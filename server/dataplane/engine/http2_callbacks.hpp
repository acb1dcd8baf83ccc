// What nghttp2 calls, made into calls of a session.
#pragma once

#include <nghttp2/nghttp2.h>

#include "engine/http2_session.hpp"

namespace penstock::dataplane {

struct Http2Session::Callbacks {
  // A session that calls back `self`; null when there is no memory.
  [[nodiscard]] static nghttp2_session* make(Http2Session& self);
  [[nodiscard]] static nghttp2_data_source_read_callback reader() noexcept;

 private:
  static int on_begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user);
  static int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user);
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_bytes,
                       const std::uint8_t* value, std::size_t value_bytes, std::uint8_t flags, void* user);
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user);
  static int on_data(nghttp2_session*, std::uint8_t flags, std::int32_t id, const std::uint8_t* data, std::size_t bytes,
                     void* user);
  static int on_frame_sent(nghttp2_session*, const nghttp2_frame* frame, void* user);
  static int on_close(nghttp2_session*, std::int32_t id, std::uint32_t error, void* user);
  static ssize_t on_read(nghttp2_session*, std::int32_t id, std::uint8_t* out, std::size_t room, std::uint32_t* flags,
                         nghttp2_data_source* source, void* user);
};

}  // namespace penstock::dataplane
