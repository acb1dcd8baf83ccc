#include "engine/key_table.hpp"

#include <algorithm>
#include <utility>

#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::string_view kPrefix = "psk_";
constexpr std::string_view kScheme = "bearer ";
constexpr std::size_t kKeyBytesMax = 256;  // what is longer is not hashed

// The time it takes says nothing about where the two differ.
bool equal_in_constant_time(const Sha256& left, const Sha256& right) noexcept {
  std::uint8_t difference = 0;
  for (std::size_t i = 0; i < left.size(); ++i)
    difference = static_cast<std::uint8_t>(difference | (left[i] ^ right[i]));
  return difference == 0;
}

// The credential of a request: a bearer token, or the key in its own field. Empty: there is none that could be a key.
std::string_view credential_of(const RequestHead& head, bool& contradicts) noexcept {
  std::string_view bearer = head.authorization;
  const bool is_bearer =
      bearer.size() > kScheme.size() && equals_ignoring_case(bearer.substr(0, kScheme.size()), kScheme);
  bearer = is_bearer ? trim_blanks(bearer.substr(kScheme.size())) : std::string_view();
  contradicts = !bearer.empty() && !head.api_key.empty() && bearer != head.api_key;
  return bearer.empty() ? head.api_key : bearer;
}

}  // namespace

std::string_view name_of(Role role) noexcept {
  switch (role) {
    case Role::kPredict:
      return "predict";
    case Role::kOperator:
      return "operator";
    case Role::kAdmin:
      return "admin";
    case Role::kNone:
      break;
  }
  return {};
}

KeyTable::KeyTable(std::vector<Key> keys, KeyRules rules) : keys_(std::move(keys)), rules_(rules), enforced_(true) {
  std::ranges::sort(keys_, {}, &Key::id);
}

const Key* KeyTable::find(std::string_view key) const noexcept {
  if (!key.starts_with(kPrefix) || key.size() > kKeyBytesMax) return nullptr;
  const std::string_view rest = key.substr(kPrefix.size());
  const std::string_view id = rest.substr(0, rest.find('_'));
  const auto found = std::ranges::lower_bound(keys_, id, {}, [](const Key& each) { return std::string_view(each.id); });
  const Sha256 hash = sha256(key);  // also for an id that nobody has: an answer is not a way to look for ids
  if (found == keys_.end() || found->id != id || !equal_in_constant_time(found->hash, hash)) return nullptr;
  return &*found;
}

bool KeyTable::identifies(const RequestHead& head, bool needed, Principal& principal, Problem& problem) const noexcept {
  if (!enforced_) return true;
  bool contradicts = false;
  const std::string_view credential = credential_of(head, contradicts);
  if (contradicts) {
    problem.set(ProblemCode::kUnauthorized, "Authorization and X-Api-Key hold different keys: send one of them");
    return false;
  }
  // Something else than a key of ours may be meant for whoever stands before this server.
  if (credential.starts_with(kPrefix)) {
    const Key* const key = find(credential);
    if (key != nullptr) {
      principal = {key->id, key->role};
      return true;
    }
    problem.set(ProblemCode::kUnauthorized, "the key is not known here, or it was revoked");
    return false;
  }
  if (!needed) return true;
  problem.set(ProblemCode::kUnauthorized,
              "this needs a key: send 'Authorization: Bearer psk_...'; 'penstock keys create' makes one");
  return false;
}

bool KeyTable::admits_control(const RequestHead& head, Principal& principal, Problem& problem) const noexcept {
  const bool only_reads =
      head.method == Method::kGet || head.method == Method::kHead || head.method == Method::kOptions;
  const bool needed = !rules_.development && (rules_.required || !only_reads);
  if (!identifies(head, needed, principal, problem)) return false;
  if (enforced_ && rules_.development && principal.role == Role::kNone) principal = {"development", Role::kAdmin};
  return true;
}

}  // namespace penstock::dataplane
