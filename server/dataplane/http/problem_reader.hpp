// Problem documents that came from the control plane, for clients who are told in another form.
#pragma once

#include <span>
#include <string_view>

#include "http/problem.hpp"

namespace penstock::dataplane {

struct ReadProblem {
  ProblemCode code = ProblemCode::kNone;  // kNone: the body has none of the catalogue
  std::string_view detail;                // in the memory that was given
};

// The code and the detail of a body that is one of our own problem documents; of anything else what it has of them.
// `memory` takes the detail, which is cut where it does not fit. Escapes beyond ASCII become '?'.
[[nodiscard]] ReadProblem read_problem(std::string_view body, std::span<char> memory) noexcept;

}  // namespace penstock::dataplane
