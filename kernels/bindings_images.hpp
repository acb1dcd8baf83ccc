// Images for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock {

void bind_images(nanobind::module_& module);

}  // namespace penstock
