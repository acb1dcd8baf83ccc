// Words of texts for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace penstock {

void bind_words(nanobind::module_& module);

}  // namespace penstock
