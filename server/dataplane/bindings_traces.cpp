// Spans for Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "engine/span_encoder.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::dataplane {

void bind_traces(nb::module_& module);  // for bindings.cpp

void bind_traces(nb::module_& module) {
  module.attr("TAP_RECORD_BYTES") = sizeof(TapRecord);
  nb::class_<SpanEncoder>(module, "SpanEncoder", "Makes OTLP of what drain_tap() takes. One thread.")
      .def(
          "__init__",
          [](SpanEncoder* self, const SpanEncoder::Attributes& resource, const std::string& version) {
            new (self) SpanEncoder(resource, version);
          },
          "resource"_a, "version"_a)
      .def(
          "encode",
          [](SpanEncoder& self, const nb::bytes& records) {
            const std::string_view view(records.c_str(), records.size());
            std::string request;
            {
              const nb::gil_scoped_release others_run;
              request = self.encode(view);
            }
            return nb::bytes(request.data(), request.size());
          },
          "records"_a, "An ExportTraceServiceRequest with the spans of the records. ValueError for half of one.");
}

}  // namespace penstock::dataplane
