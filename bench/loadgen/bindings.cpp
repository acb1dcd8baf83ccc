// penstock.native._loadgen: an open- or closed-loop HTTP load generator.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "generator.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::loadgen {
namespace {

template <typename Element>
using Array = nb::ndarray<const Element, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename Element>
std::span<const Element> span_of(const Array<Element>& array) {
  return {array.data(), array.size()};
}

// A byte has no other signed type of its own everywhere: a plain char is unsigned on some machines.
using Bytes = Array<std::int8_t>;

// A generator together with the arrays that its plan points into.
struct Run {
  Bytes requests;
  Array<std::uint64_t> offsets;
  Array<std::uint32_t> picks;
  std::optional<Array<std::int64_t>> due_ns;
  Generator generator;
};

std::vector<Endpoint> endpoints_of(const std::string& host, std::uint16_t port) {
  if (port == 0) return {resolve_unix(host)};
  const nb::gil_scoped_release released;
  return resolve_tcp(host, port);
}

nb::object records(const Run& run) {
  using Rows = nb::ndarray<std::uint8_t, nb::numpy, nb::ndim<2>, nb::c_contig>;
  std::size_t count = 0;
  for (const auto& sender : run.generator.senders()) count += sender->records().size();
  auto all = std::make_unique<Record[]>(count);
  Record* next = all.get();
  for (const auto& sender : run.generator.senders()) next = std::ranges::copy(sender->records(), next).out;
  nb::capsule owner(all.get(), [](void* pointer) noexcept { delete[] static_cast<Record*>(pointer); });
  auto* bytes = reinterpret_cast<std::uint8_t*>(all.release());
  return nb::cast(Rows(bytes, {count, sizeof(Record)}, owner));
}

nb::list answers(const Run& run) {
  nb::list result;
  for (const auto& sender : run.generator.senders()) {
    for (const Answer& answer : sender->answers().answers()) {
      result.append(
          nb::make_tuple(answer.pick, answer.status, answer.count, nb::bytes(answer.body.data(), answer.body.size())));
    }
  }
  return result;
}

nb::tuple totals(const Run& run) {
  const Totals totals = run.generator.totals();
  return nb::make_tuple(totals.sent, totals.answered, totals.failed, totals.reconnects);
}

std::uint64_t unkept_answers(const Run& run) {
  std::uint64_t unkept = 0;
  for (const auto& sender : run.generator.senders()) unkept += sender->answers().unkept();
  return unkept;
}

std::int64_t cpu_ns(const Run& run) {
  std::int64_t sum = 0;
  for (const auto& sender : run.generator.senders()) sum += sender->cpu_ns();
  return sum;
}

}  // namespace

NB_MODULE(_loadgen, module) {
  module.doc() = "An HTTP load generator: sends at planned times, whatever the replies do, and records every request.";

  nb::class_<Run>(module, "Generator", "One run. Arrays are taken without a copy and must not change before it ends.")
      .def(
          "__init__",
          [](Run* self, const std::string& host, std::uint16_t port, Bytes requests, Array<std::uint64_t> offsets,
             Array<std::uint32_t> picks, std::optional<Array<std::int64_t>> due_ns, std::uint32_t connections,
             std::uint32_t depth, std::uint32_t threads, std::int64_t duration_ns, std::int64_t timeout_ns,
             std::int64_t spin_ns) {
            Plan plan;
            plan.endpoints = endpoints_of(host, port);
            plan.requests = {reinterpret_cast<const char*>(requests.data()), requests.size()};
            plan.offsets = span_of(offsets);
            plan.picks = span_of(picks);
            if (due_ns.has_value()) plan.due_ns = span_of(*due_ns);
            plan.connections = connections;
            plan.depth = depth;
            plan.threads = threads;
            plan.duration_ns = duration_ns;
            plan.timeout_ns = timeout_ns;
            plan.connect_ns = timeout_ns;
            plan.spin_ns = spin_ns;
            new (self)
                Run{std::move(requests), std::move(offsets), std::move(picks), std::move(due_ns), Generator(plan)};
          },
          nb::kw_only(), "host"_a, "port"_a, "requests"_a, "offsets"_a, "picks"_a, "due_ns"_a = nb::none(),
          "connections"_a = 1, "depth"_a = 1, "threads"_a = 1, "duration_ns"_a = 0, "timeout_ns"_a = 10'000'000'000,
          "spin_ns"_a = 0,
          "Port 0 means that `host` is the path of a Unix socket. `requests` are whole HTTP requests one after the "
          "other; "
          "`offsets` where each begins and the last one ends; `picks` which of them each arrival sends. With `due_ns`, "
          "ascending times since the start, the loop is open; without it each connection sends again as soon as it has "
          "its replies, for `duration_ns`. ValueError for a plan that makes no sense.")
      .def(
          "start", [](Run& run, std::int64_t lead_ns) { return run.generator.start(lead_ns); }, "lead_ns"_a,
          nb::call_guard<nb::gil_scoped_release>(),
          "Open every connection, then start the schedule `lead_ns` later; the monotonic time of that in nanoseconds. "
          "RuntimeError when not every connection could be made, or at the second call.")
      .def(
          "stop", [](Run& run) { run.generator.stop(); }, "End the run soon.")
      .def(
          "is_done", [](const Run& run) { return run.generator.is_done(); }, "Whether every thread has ended.")
      .def(
          "join",
          [](Run& run) {
            run.generator.join();
            run.generator.rethrow();
          },
          nb::call_guard<nb::gil_scoped_release>(),
          "Wait for the end of the run; RuntimeError or MemoryError when a thread of it failed.")
      .def("totals", &totals, "Requests sent, answered and failed, and connections made anew, so far.")
      .def("records", &records,
           "After join(): one row of 40 bytes a request; penstock.load.recording gives it its dtype.")
      .def("answers", &answers, "After join(): each distinct (pick, status, count, body).")
      .def("unkept_answers", &unkept_answers, "Answers that were counted and not kept, for want of memory.")
      .def("cpu_ns", &cpu_ns, "CPU time of the generator's threads during the run.");
}

}  // namespace penstock::loadgen
