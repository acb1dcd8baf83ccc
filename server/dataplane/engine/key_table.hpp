// Who may do what: an immutable snapshot of the keys, and the check of a request against it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "http/http_parser.hpp"
#include "http/problem.hpp"
#include "http/sha256.hpp"

namespace penstock::dataplane {

// Each role may do what those before it may.
enum class Role : std::uint8_t { kNone, kPredict, kOperator, kAdmin };

[[nodiscard]] std::string_view name_of(Role role) noexcept;  // "predict"; empty for none

struct Key {
  std::string id;
  Sha256 hash;  // of the whole key, "psk_ID_SECRET"
  Role role = Role::kNone;
};

// Who asks. The id is the table's own.
struct Principal {
  std::string_view id;
  Role role = Role::kNone;
};

struct KeyRules {
  bool required = false;     // also to predict and to read
  bool development = false;  // nobody needs one, and who has none is an admin
};

class KeyTable {
 public:
  // Nothing needs a key: before there are rules.
  KeyTable() = default;
  KeyTable(std::vector<Key> keys, KeyRules rules);

  // Whether the request may go on; `problem` says why not. A key that is none of ours is refused wherever it is sent,
  // any other credential only where a key is needed.
  [[nodiscard]] bool admits_predict(const RequestHead& head, Problem& problem) const noexcept {
    const bool is_open = !rules_.required && head.authorization.empty() && head.api_key.empty();
    Principal principal;
    return is_open || identifies(head, rules_.required, principal, problem);
  }
  // Likewise; sets who asks, if the request says so.
  [[nodiscard]] bool admits_predict(const RequestHead& head, Principal& principal, Problem& problem) const noexcept {
    return identifies(head, rules_.required, principal, problem);
  }
  // A request that the control plane answers; sets who asks.
  [[nodiscard]] bool admits_control(const RequestHead& head, Principal& principal, Problem& problem) const noexcept;

 private:
  [[nodiscard]] bool identifies(const RequestHead& head, bool needed, Principal& principal,
                                Problem& problem) const noexcept;
  [[nodiscard]] const Key* find(std::string_view key) const noexcept;

  std::vector<Key> keys_;
  KeyRules rules_;
  bool enforced_ = false;
};

}  // namespace penstock::dataplane
