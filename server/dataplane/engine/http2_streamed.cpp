// Requests that are streamed: a body that is handed on as it comes, an answer that is sent as it is made. Windows hold
// what either side does not take.
#include <algorithm>
#include <string>

#include "engine/http2_session.hpp"
#include "engine/tap_record.hpp"

namespace penstock::dataplane {

void Http2Session::begin_streamed(Http2Stream& stream, const RequestHead& head, bool ends) {
  Pending& pending = pending_of(stream);
  Problem problem;
  if (!session_.admits_stream(connection_, head, problem)) {
    refuse_stream(stream, problem);
    return;
  }
  if (loop_.tap.is_on()) loop_.tap.open(connection_, pending, head, head.content_length, *loop_.keys);
  Block none;
  handler_.handle(connection_, pending, Request{head, {}, none, true});
  if (stream.source == nullptr) {
    stream.refused = true;
  } else if (!ends) {
    resume_body(pending);
  }
}

void Http2Session::add_streamed(Http2Stream& stream, std::string_view bytes) {
  session_.note_progress(pending_of(stream));
  stream.source->take(bytes);
  if (stream.source != nullptr) resume_body(pending_of(stream));
}

void Http2Session::end_streamed(Http2Stream& stream) {
  stream.read_deadline_ns = 0;
  stream.source->end();
}

// The client has back what room there is. Nothing is late while it is not the client that is waited for.
void Http2Session::resume_body(Pending& pending) {
  Http2Stream& stream = stream_of(pending);
  if (stream.source == nullptr || stream.ended) return;
  grant(stream, std::min(stream.ungranted, stream.source->room()));
  stream.read_deadline_ns = 0;
  if (stream.ungranted > 0) return;
  stream.read_deadline_ns = loop_.now_ns + loop_.engine.options.body_timeout_ms * kMillisecondNs;
  loop_.timers.arm(connection_.timer, stream.read_deadline_ns);
}

void Http2Session::grant(Http2Stream& stream, std::size_t bytes) noexcept {
  if (bytes == 0) return;
  stream.ungranted -= bytes;
  nghttp2_session_consume_stream(nghttp2_, stream.id, bytes);
  session_.mark_dirty(connection_);
}

void Http2Session::stop_body(Pending& pending) noexcept {
  Http2Stream& stream = stream_of(pending);
  if (stream.source == nullptr) return;
  stream.refused = true;
  stream.read_deadline_ns = 0;
  grant(stream, stream.ungranted);
}

void Http2Session::begin_streamed_reply(Pending& pending, std::string_view head) {
  Http2Stream& stream = stream_of(pending);
  std::string text(head);
  stream.streams = true;
  const std::size_t fields = text.find("\r\n") + 2;
  submit_http(stream, pending, std::string_view(text).substr(9, 3), text.data() + fields,
              text.data() + text.size() - 2);
}

void Http2Session::resume_answer(Pending& pending) {
  Http2Stream& stream = stream_of(pending);
  if (!stream.streams || stream.source == nullptr) return;
  nghttp2_session_resume_data(nghttp2_, stream.id);
  offer(stream);
}

ssize_t Http2Session::read_streamed(Http2Stream& stream, char* out, std::size_t room, std::uint32_t* flags) {
  if (stream.source == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const BodyStream::Piece piece = stream.source->read(out, room);
  switch (piece.progress) {
    case BodyStream::Progress::kMore:
      note_taken(stream, piece.bytes);
      break;
    case BodyStream::Progress::kNothing:
      taken_ns_ = loop_.now_ns;
      settle(stream);
      return NGHTTP2_ERR_DEFERRED;
    case BodyStream::Progress::kBroken:
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // it is reset, so that nobody takes half an answer for all of it
    case BodyStream::Progress::kEnded: {
      *flags |= NGHTTP2_DATA_FLAG_EOF;
      taken_ns_ = loop_.now_ns;
      settle(stream);
      Pending& pending = pending_of(stream);
      if (pending.tap != nullptr) loop_.tap.close(connection_, pending, {});
      handler_.abandon(connection_, pending);  // whoever made it has no more to do
      pending.state = Pending::State::kFree;
      stream.streams = false;
      break;
    }
  }
  return static_cast<ssize_t>(piece.bytes);
}

}  // namespace penstock::dataplane
