// Replies are read alike however their bytes arrive: by length, in chunks, until the end, pipelined, after interim
// ones.
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "reply_reader.hpp"

namespace {

using penstock::loadgen::Reply;
using penstock::loadgen::ReplyReader;
using Result = ReplyReader::Result;

struct Expected {
  int status;
  bool keep_alive;
  std::string body;
  int retry_after = 0;
  bool operator==(const Expected&) const = default;
};

struct Case {
  std::string_view bytes;
  std::vector<Expected> replies;
};

std::vector<Case> cases() {
  return {
      {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", {{200, true, "hello"}}},
      {"HTTP/1.1 204 No Content\r\n\r\n", {{204, true, ""}}},
      {"HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", {{503, false, "no"}}},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nA: "
       "b\r\n\r\n",
       {{200, true, "abc0123456789abcdef"}}},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", {{200, true, "x"}}},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nbc",
       {{200, true, "a"}, {404, true, ""}, {200, true, "bc"}}},
      {"HTTP/1.1 503 Busy\r\nretry-after: 2\r\nContent-Length: 0\r\n\r\n"
       "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
       "HTTP/1.1 503 Busy\r\nRetry-After: 99999\r\nContent-Length: 0\r\n\r\n"
       "HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"
       "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
       {{503, true, "", 3}, {503, true, "", 1}, {503, true, "", 255}, {503, true, "", 0}, {200, true, "", 0}}},
  };
}

void feed(ReplyReader& reader, std::string_view piece, std::vector<Expected>& replies) {
  Reply reply;
  while (!piece.empty()) {
    const Result result = reader.read(piece, reply);
    CHECK(result != Result::kNotHttp);
    if (result == Result::kNeedMore) return;
    replies.push_back({reply.status, reply.keep_alive, std::string(reply.body), reply.retry_after});
  }
}

void check_split_at_every_byte(const Case& given) {
  for (std::size_t first = 0; first <= given.bytes.size(); ++first) {
    for (std::size_t second = first; second <= given.bytes.size(); ++second) {
      ReplyReader reader;
      std::vector<Expected> replies;
      feed(reader, given.bytes.substr(0, first), replies);
      feed(reader, given.bytes.substr(first, second - first), replies);
      feed(reader, given.bytes.substr(second), replies);
      CHECK(replies == given.replies);
      CHECK(!reader.is_inside());
    }
  }
}

void check_byte_by_byte(const Case& given) {
  ReplyReader reader;
  std::vector<Expected> replies;
  for (std::size_t at = 0; at < given.bytes.size(); ++at) feed(reader, given.bytes.substr(at, 1), replies);
  CHECK(replies == given.replies);
}

void check_end_of_stream() {
  ReplyReader reader;
  Reply reply;
  CHECK(reader.read_end(reply) == Result::kNeedMore);  // nothing had begun
  std::string_view until_end = "HTTP/1.1 200 OK\r\n\r\nhalf a";
  CHECK(reader.read(until_end, reply) == Result::kNeedMore);
  CHECK(reader.is_inside());
  CHECK(reader.read_end(reply) == Result::kReply);
  CHECK(reply.body == "half a");
  CHECK(!reply.keep_alive);

  reader.reset();
  std::string_view cut = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
  CHECK(reader.read(cut, reply) == Result::kNeedMore);
  CHECK(reader.read_end(reply) == Result::kNotHttp);
}

void check_other_protocols() {
  for (const std::string_view bytes :
       {"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    ReplyReader reader;
    Reply reply;
    std::string_view left = bytes;
    CHECK(reader.read(left, reply) == Result::kNotHttp);
  }
}

}  // namespace

int main() {
  for (const Case& given : cases()) {
    check_split_at_every_byte(given);
    check_byte_by_byte(given);
  }
  check_end_of_stream();
  check_other_protocols();
  return 0;
}
