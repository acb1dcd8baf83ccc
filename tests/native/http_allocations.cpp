// The protocol's part of the promise that a request allocates nothing: heads, bodies, queries and replies, good and bad
// ones.
#include <cstdlib>
#include <new>
#include <string>

#include "check.hpp"
#include "http/http_parser.hpp"
#include "http/media_type.hpp"
#include "http/query.hpp"
#include "http/response.hpp"
#include "http_cases.hpp"

namespace {
std::size_t allocations = 0;
}

void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace penstock::dataplane;

void parse(std::string_view bytes) {
  RequestHead head;
  Problem problem;
  std::size_t scanned = 0;
  if (parse_head(bytes, scanned, HeadLimits{}, head, problem) == ParseStatus::kComplete) {
    static_cast<void>(negotiate(head));
    static_cast<void>(parse_content_type(head.content_type));
  } else {
    char out[kProblemBytesMax];
    static_cast<void>(write_problem(out, problem, {.request_id = "r"}));
  }
}

void decode_and_reply() {
  char body[] = "4;a=b\r\nabcd\r\n0\r\nA: b\r\n\r\n";
  ChunkedDecoder decoder;
  Problem problem;
  CHECK(decoder.decode(body, sizeof(body) - 1, problem).status == ParseStatus::kComplete);
  QueryParams params;
  char scratch[64];
  CHECK(parse_query("model=a%20b&version=1", scratch, params, problem));
  CHECK(!parse_query("model=a&modal=b", scratch, params, problem));
  DateCache date;
  date.refresh_date(1);
  RequestIdSource ids;
  char id[RequestIdSource::kBytes];
  char out[kHeadBytesMax];
  static_cast<void>(
      write_head(out, 200, "application/json", 4, {.request_id = {id, ids.write(id)}, .date = date.view()}));
}

}  // namespace

int main() {
  const std::size_t before = allocations;
  CHECK(std::string(100, 'x').size() == 100);
  CHECK(allocations == before + 1);

  const std::size_t start = allocations;
  for (const std::string_view bytes : penstock::test::kAcceptedHeads) parse(bytes);
  for (const penstock::test::HeadCase& refused : penstock::test::kRefusedHeads) parse(refused.bytes);
  decode_and_reply();
  CHECK(allocations == start);
  return 0;
}
