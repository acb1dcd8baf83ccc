// The producer's side of a ring for Python tests.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock::batcher {

void bind_ring(nanobind::module_& module);

}  // namespace penstock::batcher
