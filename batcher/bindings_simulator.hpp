// The simulator for `penstock simulate` and the tests of the policy.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock::batcher {

void bind_simulator(nanobind::module_& module);

}  // namespace penstock::batcher
