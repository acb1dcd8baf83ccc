// Work of the CUDA lane for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock {

void bind_device(nanobind::module_& module);

}  // namespace penstock
