// A client of gRPC for calls whose messages come and go one by one, on nghttp2's client side.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine_fixture.hpp"

namespace penstock::test {

inline std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}

inline std::string field(unsigned number, std::string_view bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

inline std::string floats(std::uint32_t count, float first) {
  std::string bytes;
  for (std::uint32_t i = 0; i < count; ++i) {
    const float value = first + static_cast<float>(i % 1000);
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

inline std::string input(std::uint32_t rows, std::uint32_t elements, const std::string& contents = {}) {
  std::string tensor = field(1, "x") + field(2, "FP32") + field(3, varint(rows) + varint(elements));
  if (!contents.empty()) tensor += field(5, field(6, contents));
  return field(5, tensor);
}

// A ModelInferRequest of an affine model.
inline std::string message(const std::string& model, std::uint32_t rows, std::uint32_t elements, float first,
                           std::string_view id = "an id") {
  return field(1, model) + field(3, id) + input(rows, elements) + field(7, floats(rows * elements, first));
}

// A message behind its prefix.
inline std::string prefixed(std::string_view message) {
  std::string out(5, '\0');
  for (unsigned i = 0; i < 4; ++i) out[1 + i] = static_cast<char>(message.size() >> (24 - 8 * i));
  return out.append(message);
}

struct Call {
  std::string unsent;
  bool closing = false;  // after that
  std::string received;
  std::vector<std::string> messages;
  std::map<std::string, std::string> fields;
  bool ended = false;

  [[nodiscard]] int status() const {
    const auto found = fields.find("grpc-status");
    return found == fields.end() ? -1 : std::stoi(found->second);
  }
};

class GrpcCalls {
 public:
  // `reads`: answers are taken as they come; else the client opens no window beyond the first.
  explicit GrpcCalls(std::uint16_t port, bool reads = true) : client_(port) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_option* options = nullptr;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&options) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    if (!reads) nghttp2_option_set_no_auto_window_update(options, 1);
    CHECK(nghttp2_session_client_new2(&session_, callbacks, this, options) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(options);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~GrpcCalls() { nghttp2_session_del(session_); }
  GrpcCalls(const GrpcCalls&) = delete;
  GrpcCalls& operator=(const GrpcCalls&) = delete;

  std::int32_t open(std::string path, const std::vector<std::pair<std::string, std::string>>& more = {}) {
    std::vector<std::pair<std::string, std::string>> all{
        {":method", "POST"}, {":path", std::move(path)},           {":scheme", "http"},
        {":authority", "a"}, {"content-type", "application/grpc"}, {"te", "trailers"}};
    all.insert(all.end(), more.begin(), more.end());
    std::vector<nghttp2_nv> nvs;
    for (auto& [name, value] : all) {
      nvs.push_back({reinterpret_cast<std::uint8_t*>(name.data()), reinterpret_cast<std::uint8_t*>(value.data()),
                     name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    nghttp2_data_provider provider{.source = {.ptr = this}, .read_callback = on_read};
    const std::int32_t id = nghttp2_submit_request(session_, nullptr, nvs.data(), nvs.size(), &provider, nullptr);
    CHECK(id > 0);
    calls_[id];
    return id;
  }
  void send_bytes(std::int32_t id, std::string_view bytes) {
    calls_[id].unsent.append(bytes);
    nghttp2_session_resume_data(session_, id);
    flush();
  }
  void send(std::int32_t id, std::string_view message) { send_bytes(id, prefixed(message)); }
  void finish(std::int32_t id) {
    calls_[id].closing = true;
    nghttp2_session_resume_data(session_, id);
    flush();
  }
  void reset(std::int32_t id) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    flush();
  }

  // Reads once. False: the server has closed the connection.
  [[nodiscard]] bool read() {
    flush();
    std::uint8_t bytes[65536];
    const ssize_t received = ::recv(client_.fd(), bytes, sizeof bytes, 0);
    if (received <= 0) return false;
    CHECK(nghttp2_session_mem_recv(session_, bytes, static_cast<std::size_t>(received)) == received);
    flush();
    return true;
  }
  // The message with this number, of those that came.
  const std::string& wait(std::int32_t id, std::size_t number) {
    Call& call = calls_[id];
    while (call.messages.size() <= number) {
      CHECK(!call.ended);
      CHECK(read());
    }
    return call.messages[number];
  }
  const Call& wait_end(std::int32_t id) {
    while (!calls_[id].ended) CHECK(read());
    return calls_[id];
  }
  [[nodiscard]] Call& call(std::int32_t id) { return calls_[id]; }
  [[nodiscard]] Client& socket() noexcept { return client_; }
  void flush() {
    const std::uint8_t* data = nullptr;
    for (ssize_t bytes = 0; (bytes = nghttp2_session_mem_send(session_, &data)) > 0;)
      client_.send({reinterpret_cast<const char*>(data), static_cast<std::size_t>(bytes)});
  }

 private:
  static GrpcCalls& self(void* user) { return *static_cast<GrpcCalls*>(user); }
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_bytes,
                       const std::uint8_t* value, std::size_t value_bytes, std::uint8_t, void* user) {
    self(user).calls_[frame->hd.stream_id].fields[std::string(reinterpret_cast<const char*>(name), name_bytes)] =
        std::string(reinterpret_cast<const char*>(value), value_bytes);
    return 0;
  }
  static int on_data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t bytes,
                     void* user) {
    Call& call = self(user).calls_[id];
    call.received.append(reinterpret_cast<const char*>(data), bytes);
    for (;;) {
      if (call.received.size() < 5) return 0;
      CHECK(call.received[0] == 0);
      std::size_t length = 0;
      for (std::size_t i = 1; i < 5; ++i) length = length << 8 | static_cast<unsigned char>(call.received[i]);
      if (call.received.size() < 5 + length) return 0;
      call.messages.push_back(call.received.substr(5, length));
      call.received.erase(0, 5 + length);
    }
  }
  // The server has said all: what the client still had to say is of no use.
  static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    if ((frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
      return 0;
    }
    Call& call = self(user).calls_[frame->hd.stream_id];
    call.ended = call.closing = true;
    nghttp2_session_resume_data(session, frame->hd.stream_id);
    return 0;
  }
  static int on_close(nghttp2_session*, std::int32_t id, std::uint32_t, void* user) {
    self(user).calls_[id].ended = true;
    return 0;
  }
  static ssize_t on_read(nghttp2_session*, std::int32_t id, std::uint8_t* out, std::size_t room, std::uint32_t* flags,
                         nghttp2_data_source* source, void*) {
    Call& call = static_cast<GrpcCalls*>(source->ptr)->calls_[id];
    const std::size_t bytes = std::min(room, call.unsent.size());
    if (bytes == 0 && !call.closing) return NGHTTP2_ERR_DEFERRED;
    std::memcpy(out, call.unsent.data(), bytes);
    call.unsent.erase(0, bytes);
    if (call.unsent.empty() && call.closing) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(bytes);
  }

  Client client_;
  nghttp2_session* session_ = nullptr;
  std::map<std::int32_t, Call> calls_;
};

}  // namespace penstock::test
