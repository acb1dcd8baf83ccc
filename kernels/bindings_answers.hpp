// Answers for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock {

void bind_answers(nanobind::module_& module);

}  // namespace penstock
