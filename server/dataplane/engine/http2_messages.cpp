// Calls of gRPC whose messages come and go one by one: between their streams and whoever answers them.
#include <algorithm>

#include "engine/http2_callbacks.hpp"

namespace penstock::dataplane {
namespace {

// Of messages that cannot be taken yet. More would make long ones faster over long ways, and hold more.
constexpr std::int32_t kWindowBytes = 256 * 1024;

}  // namespace

// True: its messages go to whoever answers them, or it was refused.
bool Http2Session::open_messages(Http2Stream& stream, const RequestHead& head) {
  Problem problem;
  stream.messages = handler_.open_messages(connection_, pending_of(stream), head, problem);
  if (problem) refuse_stream(stream, problem);
  if (stream.messages != nullptr) {
    give_back_fields(stream);
    nghttp2_session_set_local_window_size(nghttp2_, NGHTTP2_FLAG_NONE, stream.id, kWindowBytes);
    if (drained_) stream.messages->drain();  // it was begun before, and its fields ended after
  }
  return stream.messages != nullptr || problem;
}

void Http2Session::messages_taken(Pending& call, std::size_t bytes) { grant(stream_of(call), bytes); }

void Http2Session::messages_ready(Pending& call) {
  Http2Stream& stream = stream_of(call);
  session_.mark_dirty(connection_);
  if (stream.sends_messages) {
    nghttp2_session_resume_data(nghttp2_, stream.id);
    offer(stream);
    return;
  }
  if (const MessageStream::Ending* const ending = stream.messages->ending()) {
    submit_status(stream, call, ending->status, ending->text, ending->retry_after_s);
  } else {
    submit_message_fields(stream);
    stream.sends_messages = true;
  }
}

void Http2Session::messages_broken(Pending& call) {
  Http2Stream& stream = stream_of(call);
  settle(stream);
  reset_stream(stream, NGHTTP2_CANCEL);
}

ssize_t Http2Session::read_messages(Http2Stream& stream, char* out, std::size_t room, std::uint32_t* flags) {
  const std::size_t bytes = stream.messages->read(out, room);
  note_taken(stream, bytes);
  const MessageStream::Ending* const ending = stream.messages->ending();
  if (ending == nullptr && bytes > 0 && stream.messages->has_more()) return static_cast<ssize_t>(bytes);
  // It is not the client that is waited for: it has all there is, even if its window has no room to ask for more.
  taken_ns_ = loop_.now_ns;
  settle(stream);
  if (ending == nullptr && bytes == 0) return NGHTTP2_ERR_DEFERRED;
  if (ending == nullptr) return static_cast<ssize_t>(bytes);
  *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
  submit_status(stream, pending_of(stream), ending->status, ending->text, ending->retry_after_s);
  return static_cast<ssize_t>(bytes);
}

}  // namespace penstock::dataplane
