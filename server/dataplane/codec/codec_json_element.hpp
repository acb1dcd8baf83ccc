// One element of a tensor as JSON.
#pragma once

#include <string_view>
#include <type_traits>

#include "codec/codec_number.hpp"
#include "penstock/kernels/half.hpp"

namespace penstock::dataplane {

// The fast path of one element: behind it, or nullptr for anything that is not a value of T.
template <typename T>
[[nodiscard]] inline const char* read_element(const char* p, const char* end, T& value) noexcept {
  if constexpr (std::is_same_v<T, bool>) {
    const std::string_view rest(p, static_cast<std::size_t>(end - p));
    value = rest.starts_with("true");
    if (value) return p + 4;
    return rest.starts_with("false") ? p + 5 : nullptr;
  } else if constexpr (FloatElement<T>) {
    if (p != end && *p == '"') [[unlikely]] {
      double special = 0;
      const char* const next = read_special(p, end, special);
      if constexpr (std::is_same_v<T, Half>) {
        value = to_half(special);
      } else {
        value = static_cast<T>(special);
      }
      return next;
    }
    return read_number(p, end, value);
  } else {
    return read_number(p, end, value);
  }
}

}  // namespace penstock::dataplane
