// The routes that spans are named by. Names have few values: what is a name in a path is left out of them.
#pragma once

#include <string_view>

namespace penstock::dataplane {

// "/models/{model}" for "/models/digits"; empty for a path that is none of ours. A test compares with the OpenAPI
// document.
[[nodiscard]] std::string_view route_of(std::string_view path) noexcept;
// "package.Service/Method" of a call of gRPC; empty for one that we do not have. A test compares with the contract.
[[nodiscard]] std::string_view call_of(std::string_view path) noexcept;

}  // namespace penstock::dataplane
