// Programs of feature steps for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock {

void bind_steps(nanobind::module_& module);

}  // namespace penstock
