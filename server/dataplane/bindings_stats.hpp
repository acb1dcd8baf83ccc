// What the engine has counted, for Python.
#pragma once

#include <nanobind/nanobind.h>

#include "engine/engine.hpp"

namespace penstock::dataplane {

nanobind::dict stats(const Engine& engine);

}  // namespace penstock::dataplane
