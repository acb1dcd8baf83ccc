// One stream of HTTP/2: a request that is being read, then its answer that is being sent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/body_pool.hpp"
#include "engine/message_stream.hpp"
#include "http/grpc_status.hpp"
#include "http/http_parser.hpp"

namespace penstock::dataplane {

class BodyStream;

// Of a body that the client may send before it hears from us: before there is memory for it, or while whoever takes it
// as it comes does not.
inline constexpr std::uint32_t kFirstWindowBytes = 64 * 1024;

struct Http2Stream {
  std::int32_t id = 0;      // 0: the place is free
  std::uint32_t place = 0;  // in the session's list; for good
  bool is_grpc = false;
  bool has_head = false;      // all fields are there
  bool refused = false;       // answered before its body was read: what comes of it is dropped
  bool answered = false;      // handed to nghttp2
  bool too_large = false;     // its fields are
  bool ended = false;         // nothing more of its body comes
  bool streams = false;       // its answer is sent as it is made
  bool waits_memory = false;  // for its body; what has come of it is in a block that holds its first window
  bool waits_turn = false;    // complete, and its client has answers to take first

  // --- the request
  std::string method;
  std::string path;
  std::string authority;
  std::string fields;  // regular ones, as lines of HTTP/1.1
  std::string head;    // all of it, as HTTP/1.1 has it: what parse_head() reads
  std::size_t field_bytes = 0;
  std::string timeout;                // grpc-timeout
  std::array<char, 24> timeout_ms{};  // the same in milliseconds
  std::uint64_t body_limit = 0;
  std::uint64_t expected = 0;  // bytes of the body, as far as somebody said so
  Block body;
  std::size_t body_bytes = 0;
  std::size_t wanted = 0;  // bytes that it waits for
  std::size_t asked = 0;   // of it, that count until it is answered
  std::uint64_t read_deadline_ns = 0;
  std::size_t ungranted = 0;     // bytes of it that came and whose room in the window the client has not back
  BodyStream* source = nullptr;  // of a request that is streamed

  // --- the answer: DATA of `prefix`, then of `reply`; then trailers, when it is gRPC's
  Block reply;
  std::size_t sent = 0;
  std::size_t end = 0;
  std::size_t prefix_sent = kGrpcPrefixBytes;  // all of it: there is none
  char prefix[kGrpcPrefixBytes] = {};
  std::size_t taken = 0;         // of it since it last had its full time
  std::uint64_t take_by_ns = 0;  // when the client must have taken the next part; 0: there is nothing to take

  // --- of a call whose messages come and go one by one
  MessageStream* messages = nullptr;  // who answers it
  bool sends_messages = false;        // the fields before them are with nghttp2

  // Free again; the texts keep what memory they have, unless it is much.
  void reset() {
    id = 0;
    is_grpc = has_head = refused = answered = too_large = waits_turn = waits_memory = ended = streams = false;
    messages = nullptr;
    sends_messages = false;
    for (std::string* text : {&method, &path, &authority, &fields, &head, &timeout}) {
      if (text->capacity() > kTextBytesKept) std::string().swap(*text);
      text->clear();
    }
    body_limit = expected = read_deadline_ns = field_bytes = 0;
    body.reset();
    reply.reset();
    body_bytes = wanted = asked = sent = end = taken = ungranted = 0;
    source = nullptr;
    take_by_ns = 0;
    prefix_sent = kGrpcPrefixBytes;
  }

 private:
  static constexpr std::size_t kTextBytesKept = 1024;
};

}  // namespace penstock::dataplane
