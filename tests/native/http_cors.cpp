// Which origins get which fields, and what is no origin.
#include <stdexcept>
#include <string>

#include "check.hpp"
#include "http/cors.hpp"
#include "http/response.hpp"

namespace {

using namespace penstock::dataplane;

bool is_refused(const std::string& origin) {
  try {
    const CorsTable table({origin});
    return false;
  } catch (const std::invalid_argument&) {
    return true;
  }
}

void test_nobody() {
  const CorsTable table;
  CHECK(!table.enabled());
  CHECK(table.find("https://a.example") == nullptr && table.find("") == nullptr);
}

void test_list() {
  const CorsTable table({"https://a.example", "http://localhost:3000"});
  CHECK(table.enabled());
  const CorsGrant* const granted = table.find("http://localhost:3000");
  CHECK(CorsTable::allows(*granted));
  CHECK(granted->fields ==
        "Access-Control-Allow-Origin: http://localhost:3000\r\nAccess-Control-Expose-Headers: *\r\n"
        "Timing-Allow-Origin: http://localhost:3000\r\nVary: Origin\r\n");
  CHECK(granted->preflight.starts_with(granted->fields));
  // Equal bytes or nothing: no prefix, no suffix, no other port, scheme or case.
  for (const char* other :
       {"", "null", "https://a.example.evil", "https://evil.a.example", "https://a.exampl", "https://A.example",
        "http://a.example", "https://a.example:443", "*", "http://localhost"}) {
    const CorsGrant* const refused = table.find(other);
    CHECK(refused != nullptr && !CorsTable::allows(*refused));
    CHECK(refused->fields == "Vary: Origin\r\n");
  }
}

void test_everybody() {
  const CorsTable table({"https://a.example", "*"});
  for (const char* origin : {"", "null", "https://a.example", "https://b.example"}) {
    const CorsGrant* const granted = table.find(origin);
    CHECK(CorsTable::allows(*granted));
    CHECK(granted->fields.starts_with("Access-Control-Allow-Origin: *\r\n"));
    CHECK(granted->fields.find("Vary") == std::string::npos);
    // With it a page could use what the browser of its visitor has.
    CHECK(granted->preflight.find("Credentials") == std::string::npos);
  }
}

void test_what_is_no_origin() {
  for (const char* text : {"", "a.example", "https://", "://a", "https://a/", "https://a/b", "https://a?b", "https://A",
                           "https://a b", "https://a\r\nX: 1", "https://u@a", "null", "**"}) {
    CHECK(is_refused(text));
  }
  CHECK(is_refused("https://" + std::string(kOriginBytesMax, 'a')));
  CHECK(!is_refused("https://[::1]:8443"));
  CHECK(!is_refused("moz-extension://0a1b-2c"));
}

// Whatever is written beside them, heads stay within their bound.
void test_bound() {
  const CorsTable table({"https://" + std::string(kOriginBytesMax - 8, 'a')});
  const CorsGrant* const grant = table.find("https://" + std::string(kOriginBytesMax - 8, 'a'));
  CHECK(grant->preflight.size() <= kCorsBytesMax);
  const std::string longest(1000, 'x');
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  constexpr std::uint32_t kMost = ~std::uint32_t{0};
  const Receipt receipt{kAll, kAll, kAll, kMost, kMost, kMost, longest, std::string_view(longest).substr(0, 128)};
  char head[kHeadBytesMax];
  const std::size_t bytes = write_head(head, 503, longest, kAll,
                                       {.request_id = longest,
                                        .date = longest,
                                        .keep_alive = false,
                                        .retry_after_s = kMost,
                                        .allow = longest,
                                        .receipt = &receipt,
                                        .cors = grant->fields});
  CHECK(bytes <= kHeadBytesMax - 128);  // the room that Content-Encoding and Vary need
  CHECK(std::string_view(head, bytes).ends_with("Vary: Origin\r\n\r\n"));
  const std::size_t without_body = write_head(head, 204, {}, 0, {.allow = "GET", .cors = grant->preflight});
  CHECK(without_body <= kHeadBytesMax);
  CHECK(std::string_view(head, without_body).find("Content-Length") == std::string_view::npos);
}

}  // namespace

int main() {
  test_nobody();
  test_list();
  test_everybody();
  test_what_is_no_origin();
  test_bound();
}
