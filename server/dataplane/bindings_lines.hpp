// Lines of rows for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock::dataplane {

void bind_lines(nanobind::module_& module);

}  // namespace penstock::dataplane
