// The least that a native gRPC server can be: one thread, epoll, nghttp2, a ModelInferRequest read by hand, one answer.
//
//     g++ -O2 -std=c++20 -o build/grpc_native bench/spikes/grpc/native.cpp -lnghttp2 && build/grpc_native 9001
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

struct Stream {
  std::string body;
  std::string answer;
  std::size_t sent = 0;
};

struct Client {
  int fd = -1;
  nghttp2_session* session = nullptr;
};

std::uint64_t varint(const unsigned char*& at, const unsigned char* end) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
    const unsigned char byte = *at++;
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if ((byte & 0x80U) == 0) return value;
  }
  at = end;
  return value;
}

// The last raw_input_contents (field 7) of the message: what a server would copy into a batch.
std::string_view raw_input(std::string_view message) {
  const auto* at = reinterpret_cast<const unsigned char*>(message.data());
  const auto* const end = at + message.size();
  std::string_view found;
  while (at < end) {
    const std::uint64_t tag = varint(at, end);
    if ((tag & 7U) == 0) {
      varint(at, end);
      continue;
    }
    if ((tag & 7U) != 2) return found;
    const std::uint64_t bytes = varint(at, end);
    if (bytes > static_cast<std::uint64_t>(end - at)) return found;
    if (tag >> 3U == 7) found = {reinterpret_cast<const char*>(at), bytes};
    at += bytes;
  }
  return found;
}

nghttp2_nv field(std::string_view name, std::string_view value) {
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

ssize_t read_answer(nghttp2_session* session, std::int32_t id, std::uint8_t* out, std::size_t room,
                    std::uint32_t* flags, nghttp2_data_source* source, void*) {
  auto& stream = *static_cast<Stream*>(source->ptr);
  const std::size_t bytes = std::min(room, stream.answer.size() - stream.sent);
  std::memcpy(out, stream.answer.data() + stream.sent, bytes);
  stream.sent += bytes;
  if (stream.sent == stream.answer.size()) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const nghttp2_nv trailer = field("grpc-status", "0");
    nghttp2_submit_trailer(session, id, &trailer, 1);
  }
  return static_cast<ssize_t>(bytes);
}

// A message with one output of the input's bytes: field 6 of a ModelInferResponse.
void answer(nghttp2_session* session, std::int32_t id, Stream& stream) {
  const std::string_view input =
      raw_input(std::string_view(stream.body).substr(std::min<std::size_t>(5, stream.body.size())));
  std::string message =
      "\x0a\x06"
      "digits"
      "\x12\x01"
      "1";
  message.push_back('\x32');
  for (std::size_t rest = input.size();; rest >>= 7U) {
    message.push_back(static_cast<char>(rest < 128 ? rest : (rest & 0x7FU) | 0x80U));
    if (rest < 128) break;
  }
  message.append(input);
  const auto bytes = static_cast<std::uint32_t>(message.size());
  const char prefix[5] = {0, static_cast<char>(bytes >> 24U), static_cast<char>(bytes >> 16U),
                          static_cast<char>(bytes >> 8U), static_cast<char>(bytes)};
  stream.answer.assign(prefix, 5).append(message);
  const nghttp2_nv head[] = {field(":status", "200"), field("content-type", "application/grpc")};
  nghttp2_data_provider provider{.source = {.ptr = &stream}, .read_callback = read_answer};
  nghttp2_submit_response(session, id, head, 2, &provider);
}

int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void*) {
  if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, new Stream);
  const bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (ends && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
    auto* const stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
    if (stream != nullptr) answer(session, frame->hd.stream_id, *stream);
  }
  return 0;
}

int on_data(nghttp2_session* session, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t bytes,
            void*) {
  if (auto* const stream = static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id)))
    stream->body.append(reinterpret_cast<const char*>(data), bytes);
  return 0;
}

int on_close(nghttp2_session* session, std::int32_t id, std::uint32_t, void*) {
  delete static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
  return 0;
}

void open(Client& client) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  nghttp2_session_server_new(&client.session, callbacks, nullptr);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_submit_settings(client.session, NGHTTP2_FLAG_NONE, nullptr, 0);
}

bool serve(Client& client) {
  std::uint8_t in[16384];
  const ssize_t received = ::recv(client.fd, in, sizeof in, 0);
  if (received <= 0 || nghttp2_session_mem_recv(client.session, in, static_cast<std::size_t>(received)) < 0)
    return false;
  std::string out;
  const std::uint8_t* data = nullptr;
  for (ssize_t bytes = 0; (bytes = nghttp2_session_mem_send(client.session, &data)) > 0;)
    out.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(bytes));
  return out.empty() || ::send(client.fd, out.data(), out.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(out.size());
}

}  // namespace

int main(int, char** argv) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(argv[1])));
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(listener, 128) != 0)
    return 1;
  const int poll = ::epoll_create1(0);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  ::epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    epoll_event events[64];
    const int count = ::epoll_wait(poll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      auto* client = static_cast<Client*>(events[i].data.ptr);
      if (client == nullptr) {
        client = new Client{.fd = ::accept(listener, nullptr, nullptr)};
        ::setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        open(*client);
        epoll_event readable{.events = EPOLLIN, .data = {.ptr = client}};
        ::epoll_ctl(poll, EPOLL_CTL_ADD, client->fd, &readable);
      } else if (!serve(*client)) {
        nghttp2_session_del(client->session);
        ::close(client->fd);
        delete client;
      }
    }
  }
}
