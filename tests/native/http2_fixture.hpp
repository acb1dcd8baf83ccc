// A client of HTTP/2 for the tests, with nghttp2's client side; and raw frames, for what no client would send.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine_fixture.hpp"

namespace penstock::test {

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Http2Answer {
  std::map<std::string, std::string> fields;  // trailers, too
  std::string body;
  std::uint32_t error = 0;  // of the RST_STREAM that ended it
  bool ended = false;

  [[nodiscard]] std::string field(const std::string& name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? "" : found->second;
  }
  [[nodiscard]] int status() const { return field(":status").empty() ? 0 : std::stoi(field(":status")); }
  [[nodiscard]] int grpc_status() const { return field("grpc-status").empty() ? -1 : std::stoi(field("grpc-status")); }
};

class Http2Client {
 public:
  // `window`: of each answer, until it is opened.
  explicit Http2Client(std::uint16_t port, std::uint32_t window = 65'535) : client_(port) {
    nghttp2_session_callbacks* callbacks = nullptr;
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    CHECK(nghttp2_session_client_new(&session_, callbacks, this) == 0);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry first{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window};
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &first, 1);
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, 1 << 30);
  }
  ~Http2Client() { nghttp2_session_del(session_); }
  Http2Client(const Http2Client&) = delete;
  Http2Client& operator=(const Http2Client&) = delete;

  // A new stream, not sent yet; `body` empty: none.
  std::int32_t request(const std::string& method, const std::string& path, const Fields& fields = {},
                       std::string body = {}) {
    Fields all{{":method", method}, {":path", path}, {":scheme", "http"}, {":authority", "a"}};
    all.insert(all.end(), fields.begin(), fields.end());
    std::vector<nghttp2_nv> nvs;
    for (auto& [name, value] : all) {
      nvs.push_back({reinterpret_cast<std::uint8_t*>(name.data()), reinterpret_cast<std::uint8_t*>(value.data()),
                     name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    auto* const source = new Body{std::move(body), 0};
    bodies_.emplace_back(source);
    nghttp2_data_provider provider{.source = {.ptr = source}, .read_callback = on_read};
    const std::int32_t id = nghttp2_submit_request(session_, nullptr, nvs.data(), nvs.size(),
                                                   source->text.empty() ? nullptr : &provider, nullptr);
    CHECK(id > 0);
    return id;
  }
  std::int32_t grpc(std::string_view path, const std::string& message, const Fields& fields = {}) {
    Fields all{{"content-type", "application/grpc"}, {"te", "trailers"}};
    all.insert(all.end(), fields.begin(), fields.end());
    std::string body(5, '\0');
    for (unsigned i = 0; i < 4; ++i) body[1 + i] = static_cast<char>(message.size() >> (24 - 8 * i));
    return request("POST", std::string(path), all, body + message);
  }
  void open_window(std::int32_t id, std::int32_t bytes) {
    nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, id, bytes);
  }
  void reset(std::int32_t id) { nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL); }

  void flush() {
    const std::uint8_t* data = nullptr;
    for (ssize_t bytes = 0; (bytes = nghttp2_session_mem_send(session_, &data)) > 0;)
      client_.send({reinterpret_cast<const char*>(data), static_cast<std::size_t>(bytes)});
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
  const Http2Answer& wait(std::int32_t id) {
    while (!answers_[id].ended) CHECK(read());
    return answers_[id];
  }
  const Http2Answer& ask(const std::string& method, const std::string& path, const Fields& fields = {},
                         std::string body = {}) {
    return wait(request(method, path, fields, std::move(body)));
  }
  const Http2Answer& call(std::string_view path, const std::string& message, const Fields& fields = {}) {
    return wait(grpc(path, message, fields));
  }
  [[nodiscard]] const Http2Answer& answer(std::int32_t id) { return answers_[id]; }
  [[nodiscard]] bool was_told_to_go() const noexcept { return goaway_; }
  [[nodiscard]] Client& socket() noexcept { return client_; }

 private:
  struct Body {
    std::string text;
    std::size_t sent;
  };

  static Http2Client& self(void* user) { return *static_cast<Http2Client*>(user); }
  static int on_header(nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_bytes,
                       const std::uint8_t* value, std::size_t value_bytes, std::uint8_t, void* user) {
    self(user).answers_[frame->hd.stream_id].fields[std::string(reinterpret_cast<const char*>(name), name_bytes)] =
        std::string(reinterpret_cast<const char*>(value), value_bytes);
    return 0;
  }
  static int on_data(nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t bytes,
                     void* user) {
    self(user).answers_[id].body.append(reinterpret_cast<const char*>(data), bytes);
    return 0;
  }
  static int on_close(nghttp2_session*, std::int32_t id, std::uint32_t error, void* user) {
    self(user).answers_[id].error = error;
    self(user).answers_[id].ended = true;
    return 0;
  }
  static int on_frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type == NGHTTP2_GOAWAY) self(user).goaway_ = true;
    return 0;
  }
  static ssize_t on_read(nghttp2_session*, std::int32_t, std::uint8_t* out, std::size_t room, std::uint32_t* flags,
                         nghttp2_data_source* source, void*) {
    auto& body = *static_cast<Body*>(source->ptr);
    const std::size_t bytes = std::min(room, body.text.size() - body.sent);
    std::memcpy(out, body.text.data() + body.sent, bytes);
    body.sent += bytes;
    if (body.sent == body.text.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(bytes);
  }

  Client client_;
  nghttp2_session* session_ = nullptr;
  std::map<std::int32_t, Http2Answer> answers_;
  std::vector<std::unique_ptr<Body>> bodies_;
  bool goaway_ = false;
};

// One frame, as RFC 9113 4.1 has it.
inline std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, std::string_view payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out.push_back(static_cast<char>(payload.size() >> shift));
  out.push_back(static_cast<char>(type));
  out.push_back(static_cast<char>(flags));
  for (const int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(stream >> shift));
  return out.append(payload);
}

inline std::string number(std::uint32_t value) {
  std::string out;
  for (const int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(value >> shift));
  return out;
}

// A field as RFC 7541 6.2.2 has it: new, named in full, and not to be remembered. Both are shorter than 127 bytes.
inline std::string field(std::string_view name, std::string_view value) {
  std::string out("\0", 1);
  for (const std::string_view text : {name, value}) out.append(1, static_cast<char>(text.size())).append(text);
  return out;
}

// The fields of a request, compressed no further.
inline std::string head(std::string_view method, std::string_view path, const Fields& fields = {}) {
  std::string out =
      field(":method", method) + field(":path", path) + field(":scheme", "http") + field(":authority", "a");
  for (const auto& [name, value] : fields) out += field(name, value);
  return out;
}

struct Frame {
  std::uint8_t type = 0;
  std::uint8_t flags = 0;
  std::uint32_t stream = 0;
  std::string payload;

  [[nodiscard]] std::uint32_t number_at(std::size_t offset) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(payload.at(offset + i));
    return value;
  }
};

// A client that sends what it is told to, and sees the frames that come back.
class RawHttp2 {
 public:
  explicit RawHttp2(std::uint16_t port, std::string_view settings = "") : client_(port) {
    send(std::string(dataplane::kHttp2Preface) + frame(NGHTTP2_SETTINGS, 0, 0, settings));
  }

  [[nodiscard]] Client& socket() noexcept { return client_; }
  void send(std::string_view bytes) const { client_.send(bytes); }
  // A whole request without a body, on its stream.
  void request(std::uint32_t stream, std::string_view block, std::uint8_t flags = NGHTTP2_FLAG_END_STREAM) const {
    send(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | flags, stream, block));
  }
  // The next frame. False: the server has ended the connection.
  [[nodiscard]] bool next(Frame& frame) {
    char head[9];
    if (!read(head, sizeof head)) return false;
    const auto at = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(head[i])); };
    frame.payload.assign(at(0) << 16 | at(1) << 8 | at(2), '\0');
    frame.type = static_cast<std::uint8_t>(head[3]);
    frame.flags = static_cast<std::uint8_t>(head[4]);
    frame.stream = (at(5) << 24 | at(6) << 16 | at(7) << 8 | at(8)) & 0x7fffffff;
    return read(frame.payload.data(), frame.payload.size());
  }
  // The next frame of a kind, on that stream.
  [[nodiscard]] Frame await(std::uint8_t type, std::uint32_t stream) {
    Frame frame;
    do {
      CHECK(next(frame));
    } while (frame.type != type || frame.stream != stream);
    return frame;
  }
  // With which error the server ends the connection; none: it just closes it.
  [[nodiscard]] std::uint32_t awaited_end() {
    std::uint32_t error = 0;
    for (Frame frame; next(frame);) {
      if (frame.type == NGHTTP2_GOAWAY) error = frame.number_at(4);
    }
    return error;
  }

 private:
  [[nodiscard]] bool read(char* data, std::size_t bytes) {
    while (bytes > 0) {
      const ssize_t received = ::recv(client_.fd(), data, bytes, 0);
      if (received <= 0) return false;
      data += received;
      bytes -= static_cast<std::size_t>(received);
    }
    return true;
  }

  Client client_;
};

}  // namespace penstock::test
