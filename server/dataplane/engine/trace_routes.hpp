// The routes that spans are named by. Names have few values: what is a name in a path is left out of them.
#pragma once

#include <string_view>

namespace penstock::dataplane {

// "/models/{model}" for "/models/digits"; empty for a path that is none of ours. A test compares with the OpenAPI
// document.
[[nodiscard]] std::string_view route_of(std::string_view path) noexcept;

}  // namespace penstock::dataplane
