// Who gets in: keys, roles and rules, as the data plane checks them before anything else is done.
#include "engine/key_table.hpp"
#include "engine_fixture.hpp"

namespace {

using penstock::dataplane::Key;
using penstock::dataplane::KeyTable;
using penstock::dataplane::Method;
using penstock::dataplane::Principal;
using penstock::dataplane::Problem;
using penstock::dataplane::ProblemCode;
using penstock::dataplane::RequestHead;
using penstock::dataplane::Role;
using penstock::dataplane::sha256;
using penstock::test::Client;
using penstock::test::Server;

constexpr std::string_view kAdminKey = "psk_b1_secret-of-an-admin";
constexpr std::string_view kPredictKey = "psk_a2_secret-of-a-client";

std::string bearer(std::string_view key) { return "Bearer " + std::string(key); }

std::vector<Key> keys() {
  return {{"b1", sha256(kAdminKey), Role::kAdmin}, {"a2", sha256(kPredictKey), Role::kPredict}};
}

RequestHead head(Method method, std::string_view authorization, std::string_view api_key = {}) {
  RequestHead made;
  made.method = method;
  made.authorization = authorization;
  made.api_key = api_key;
  return made;
}

// The role that gets to the control plane; nothing when the request is refused.
std::optional<Role> admitted(const KeyTable& table, const RequestHead& request) {
  Principal principal;
  Problem problem;
  if (table.admits_control(request, principal, problem)) return principal.role;
  CHECK(problem.code() == ProblemCode::kUnauthorized);
  return std::nullopt;
}

bool predicts(const KeyTable& table, const RequestHead& request) {
  Problem problem;
  return table.admits_predict(request, problem);
}

void before_there_are_rules() {
  const KeyTable table;
  CHECK(admitted(table, head(Method::kPost, {})) == Role::kNone);
  CHECK(admitted(table, head(Method::kPost, "Bearer psk_x_y")) == Role::kNone);
  CHECK(predicts(table, head(Method::kPost, "Bearer psk_x_y")));
}

void changes_need_a_key() {
  const KeyTable table(keys(), {});
  CHECK(admitted(table, head(Method::kGet, {})) == Role::kNone);
  CHECK(admitted(table, head(Method::kOptions, {})) == Role::kNone);
  for (const Method method : {Method::kPost, Method::kPut, Method::kPatch, Method::kDelete, Method::kOther})
    CHECK(!admitted(table, head(method, {})));
  CHECK(admitted(table, head(Method::kPost, bearer(kAdminKey))) == Role::kAdmin);
  CHECK(admitted(table, head(Method::kPost, "bEARER   " + std::string(kAdminKey))) == Role::kAdmin);
  CHECK(admitted(table, head(Method::kPost, {}, kPredictKey)) == Role::kPredict);
  CHECK(admitted(table, head(Method::kPost, bearer(kAdminKey), kAdminKey)) == Role::kAdmin);
  CHECK(predicts(table, head(Method::kPost, {})));
}

void wrong_keys() {
  const KeyTable table(keys(), {});
  for (const std::string& wrong :
       {std::string(kAdminKey) + "x", std::string(kAdminKey.substr(0, kAdminKey.size() - 1)), std::string("psk_b1_"),
        std::string("psk_"), std::string("psk_b1"), std::string("psk_zz_secret"),
        std::string("psk_a2_secret-of-an-admin"), "psk_b1_" + std::string(4096, 'x')}) {
    CHECK(!admitted(table, head(Method::kPost, bearer(wrong))));
    CHECK(!admitted(table, head(Method::kGet, {}, wrong)));  // it is refused wherever it is sent
    CHECK(!predicts(table, head(Method::kPost, {}, wrong)));
  }
  CHECK(!admitted(table, head(Method::kGet, bearer(kAdminKey), kPredictKey)));
}

// What is meant for somebody else is no reason to refuse what needs no key.
void other_credentials() {
  const KeyTable table(keys(), {});
  for (const std::string_view other : {"Basic dXNlcjpwYXNz", "Bearer eyJhbGciOiJIUzI1NiJ9", "Bearer", "nonsense"}) {
    CHECK(predicts(table, head(Method::kPost, other)));
    CHECK(admitted(table, head(Method::kGet, other)) == Role::kNone);
    CHECK(!admitted(table, head(Method::kPost, other)));
  }
}

void a_key_for_everything() {
  const KeyTable table(keys(), {.required = true});
  CHECK(!predicts(table, head(Method::kPost, {})));
  CHECK(!predicts(table, head(Method::kPost, "Basic dXNlcjpwYXNz")));
  CHECK(predicts(table, head(Method::kPost, {}, kPredictKey)));
  CHECK(!admitted(table, head(Method::kGet, {})));
  CHECK(admitted(table, head(Method::kGet, {}, kPredictKey)) == Role::kPredict);
}

void development() {
  const KeyTable table(keys(), {.development = true});
  CHECK(admitted(table, head(Method::kPost, {})) == Role::kAdmin);
  CHECK(admitted(table, head(Method::kPost, {}, kPredictKey)) == Role::kPredict);
  CHECK(!admitted(table, head(Method::kPost, {}, "psk_b1_wrong")));
}

std::string predict(std::string_view fields) {
  return "POST /predict?model=small HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n" +
         std::string(fields) + "Content-Length: 16\r\n\r\n" + std::string(16, '\0');
}

void over_http() {
  Server server;
  Client client(server.port());
  std::string body;
  client.send(predict({}));
  CHECK(client.receive_reply(body) == 200);
  server.engine().set_keys(keys(), {.required = true});
  client.send(predict({}));
  const std::string refused = client.receive_head();
  CHECK(refused.starts_with("HTTP/1.1 401") && refused.find("WWW-Authenticate: Bearer\r\n") != std::string::npos);
  client.send(predict("Authorization: " + bearer(kPredictKey) + "\r\n"));
  CHECK(client.receive_reply(body) == 200);
  client.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(client.receive_reply(body) == 200);
  server.engine().set_keys({}, {.required = true});  // revoked
  client.send(predict("X-Api-Key: " + std::string(kPredictKey) + "\r\n"));
  CHECK(client.receive_reply(body) == 401);
  // Refused before its body is read: nobody without a key takes up memory.
  Client stranger(server.port());
  stranger.send("POST /models HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
  CHECK(stranger.receive_reply(body) == 401);
}

}  // namespace

int main() {
  before_there_are_rules();
  changes_need_a_key();
  wrong_keys();
  other_credentials();
  a_key_for_everything();
  development();
  over_http();
}
