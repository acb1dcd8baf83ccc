// penstock.native._dataplane: the engine for Python. Checks, converts, calls.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings_record.hpp"
#include "engine/engine.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::dataplane {

void bind_coding(nb::module_& module);  // bindings_coding.cpp
void bind_lines(nb::module_& module);   // bindings_lines.cpp
void bind_traces(nb::module_& module);  // bindings_traces.cpp
void bind_record(nb::module_& module);  // bindings_record.cpp
nb::dict stats(const Engine& engine);   // bindings_stats.cpp

namespace {

// Name, dtype, extents of a row; a first one that is nothing varies from row to row.
using Tensor = std::tuple<std::string, std::string, std::vector<std::optional<std::uint32_t>>>;
// Model, version or alias, ring, latest, available, lazy.
using Route = std::tuple<std::string, std::string, std::optional<std::uint32_t>, bool, bool, bool>;

// Room for the strings of a tensor, by its name.
using Rooms = std::vector<std::pair<std::string, std::uint32_t>>;

TensorSpec tensor_spec(const Tensor& tensor, const std::vector<std::uint32_t>& lengths, std::uint32_t string_bytes) {
  const auto& [name, dtype_name, extents] = tensor;
  const std::optional<DType> dtype = dtype_from_name(dtype_name);
  if (!dtype.has_value())
    throw std::invalid_argument("tensor '" + name + "' has the unknown dtype '" + dtype_name + "'");
  TensorSpec spec{name, *dtype, {}};
  for (const std::optional<std::uint32_t>& extent : extents) {
    const bool varies = !extent.has_value();
    if (varies && (!spec.shape.empty() || lengths.empty()))
      throw std::invalid_argument("tensor '" + name + "': only the first extent may vary, and only with lengths");
    spec.varies = spec.varies || varies;
    spec.shape.push_back(varies ? lengths.back() : *extent);
  }
  if (spec.dtype == DType::kBytes) spec.heap_bytes = heap_bytes_of(spec.elements(), string_bytes);
  return spec;
}

RowLayout layout_of(const std::vector<Tensor>& tensors, const std::vector<std::uint32_t>& lengths,
                    std::uint32_t string_bytes, const Rooms& rooms = {}) {
  std::vector<TensorSpec> specs;
  for (const Tensor& tensor : tensors) {
    const auto room = std::ranges::find(rooms, std::get<0>(tensor), &std::pair<std::string, std::uint32_t>::first);
    specs.push_back(tensor_spec(tensor, lengths, room == rooms.end() ? string_bytes : room->second));
  }
  return RowLayout(std::move(specs));
}

constexpr double kNsPerSecond = 1e9;
constexpr double kSecondsMax = 24.0 * 3600;  // of a batch

std::uint32_t add_ring(Engine& engine, const std::string& model, const std::string& version,
                       const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs,
                       std::uint32_t max_batch_size, std::uint32_t max_queue_delay_us, std::uint64_t queue_bytes,
                       bool rerun_on_worker_death, double slo_ms, std::uint32_t weight,
                       std::vector<std::uint32_t> batch_sizes, std::uint32_t reproducible_batch_size,
                       const std::string& group, std::vector<std::uint32_t> lengths, std::uint32_t max_batch_tokens,
                       std::uint32_t string_bytes_max, std::uint32_t cache_ttl_s, const nb::bytes& cache_fingerprint,
                       const std::optional<RecordTuple>& record, const Rooms& input_rooms) {
  constexpr double kNsPerMs = 1e6;
  constexpr double kSloMsMax = 24.0 * 3600 * 1000;
  if (!(slo_ms >= 0 && slo_ms <= kSloMsMax)) throw std::invalid_argument("slo_ms must be 0, for none, to a day");
  batcher::RingConfig config;
  config.schema = {layout_of(inputs, lengths, string_bytes_max, input_rooms),
                   layout_of(outputs, lengths, string_bytes_max)};
  config.max_batch_size = max_batch_size;
  config.max_queue_delay_us = max_queue_delay_us;
  config.queue_bytes = queue_bytes;
  config.rerun_on_worker_death = rerun_on_worker_death;
  config.slo_ns = static_cast<std::uint64_t>(slo_ms * kNsPerMs);
  config.weight = weight;
  config.batch_sizes = std::move(batch_sizes);
  config.reproducible_batch_size = reproducible_batch_size;
  config.lengths = std::move(lengths);
  config.max_batch_tokens = max_batch_tokens;
  std::shared_ptr<const RecordPlan> plan = record_plan_of(record, config.schema);
  return engine.add_ring(model, version, std::move(config), group, cache_ttl_s,
                         {cache_fingerprint.c_str(), cache_fingerprint.size()}, std::move(plan));
}

std::uint32_t checked_bucket(const ModelEntry& entry, std::uint32_t bucket) {
  if (bucket >= std::max<std::size_t>(1, entry.ring.lengths().size())) throw nb::index_error("no such length bucket");
  return bucket;
}

void seed_cost(Engine& engine, std::uint32_t ring, const std::vector<std::pair<std::uint32_t, double>>& samples,
               std::uint32_t bucket) {
  std::vector<batcher::CostSample> in_ns;
  in_ns.reserve(samples.size());
  for (const auto& [rows, seconds] : samples) {
    if (!(seconds > 0 && seconds < kSecondsMax)) throw std::invalid_argument("a sample's seconds must be above 0");
    in_ns.push_back({rows, static_cast<std::uint64_t>(seconds * kNsPerSecond)});
  }
  const std::shared_ptr<ModelEntry> entry = engine.entry(ring);
  entry->costs.seed(checked_bucket(*entry, bucket), in_ns);
}

// The curve at 1, 2, 4, ... rows, as far as the ring's batches go.
nb::dict cost(const Engine& engine, std::uint32_t ring, std::uint32_t bucket) {
  const std::shared_ptr<ModelEntry> entry = engine.entry(ring);
  const batcher::CostLearner learner = entry->costs.look(checked_bucket(*entry, bucket));
  const batcher::CostModel model = learner.publish();
  const std::uint32_t lane = entry->ring.lane_of(batcher::RowClass::kNormal, bucket);
  const std::uint32_t rows_max = entry->ring.settings(lane).batch_rows_max;
  nb::list rows;
  nb::list mean_seconds;
  nb::list p99_seconds;
  for (std::uint32_t size = 1;; size = std::min(size * 2, rows_max)) {
    rows.append(size);
    mean_seconds.append(static_cast<double>(model.mean_ns(size)) / kNsPerSecond);
    p99_seconds.append(static_cast<double>(model.p99_ns(size)) / kNsPerSecond);
    if (size >= rows_max) break;
  }
  nb::dict result;
  result["rows"] = rows;
  result["mean_seconds"] = mean_seconds;
  result["p99_seconds"] = p99_seconds;
  result["fixed_seconds"] = learner.affine().fixed_ns / kNsPerSecond;
  result["per_row_seconds"] = learner.affine().row_ns / kNsPerSecond;
  result["samples"] = learner.batches();
  result["error_p95"] = learner.error().p95();
  result["off_share"] = learner.error().off_share;
  result["alarm"] = learner.is_alarmed();
  return result;
}

nb::dict recover(Engine& engine, std::uint32_t ring, std::uint32_t worker) {
  const batcher::Recovery recovery = engine.recover(ring, worker);
  nb::dict result;
  result["batches_requeued"] = recovery.blocks_requeued;
  result["blocks_quarantined"] = recovery.blocks_quarantined;
  result["batches_failed"] = recovery.blocks_failed;
  result["rows_failed"] = recovery.rows_failed;
  result["corrupt"] = recovery.corrupt;
  return result;
}

nb::dict mirror(const Engine& engine, std::uint32_t ring) {
  const MirrorCounts counts = engine.mirror(ring);
  nb::dict result;
  result["mirrored"] = counts.mirrored;
  result["compared"] = counts.compared;
  result["differing"] = counts.differing;
  result["dropped"] = counts.dropped;
  result["failed"] = counts.failed;
  result["max_abs_difference"] = counts.max_abs_difference;
  return result;
}

void publish(Engine& engine, const std::vector<Route>& routes) {
  std::vector<RouteSpec> specs;
  specs.reserve(routes.size());
  for (const auto& [model, version, ring, latest, available, lazy] : routes)
    specs.push_back({model, version, ring.value_or(kNoRing), latest, available, lazy});
  engine.publish(std::move(specs));
}

Role role_from_name(std::string_view name) {
  for (const Role role : {Role::kPredict, Role::kOperator, Role::kAdmin}) {
    if (name_of(role) == name) return role;
  }
  throw std::invalid_argument("a role is predict, operator or admin");
}

void set_keys(Engine& engine, const std::vector<std::tuple<std::string, nb::bytes, std::string>>& keys,
              bool require_key, bool development) {
  std::vector<Key> table;
  table.reserve(keys.size());
  for (const auto& [id, hash, role] : keys) {
    Key key{id, {}, role_from_name(role)};
    if (hash.size() != key.hash.size()) throw std::invalid_argument("a key's hash has 32 bytes");
    std::copy_n(reinterpret_cast<const std::uint8_t*>(hash.c_str()), hash.size(), key.hash.begin());
    table.push_back(std::move(key));
  }
  engine.set_keys(std::move(table), {require_key, development});
}

std::tuple<nb::bytes, std::size_t, nb::bytes> drain_tap(Engine& engine) {
  TapDrain drained;
  {
    const nb::gil_scoped_release released;
    drained = engine.drain_tap();
  }
  return {nb::bytes(drained.lines.data(), drained.lines.size()), drained.lines_count,
          nb::bytes(drained.records.data(), drained.records.size())};
}

std::vector<int> loop_event_fds(const Engine& engine) {
  std::vector<int> fds;
  for (const auto& loop : engine.loops()) fds.push_back(loop->event_fd());
  return fds;
}

// OSError with its errno, so that Python can tell a busy port from a missing right.
void translate_system_error(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const std::system_error& failure) {
    errno = failure.code().value();
    const std::string what = failure.what();
    PyErr_SetObject(PyExc_OSError, nb::make_tuple(failure.code().value(), what).ptr());
  }
}

}  // namespace

NB_MODULE(_dataplane, module) {
  module.doc() = "The data plane: public sockets, I/O loops, rings.";
  nb::register_exception_translator(translate_system_error);
  penstock::dataplane::bind_coding(module);
  penstock::dataplane::bind_lines(module);
  penstock::dataplane::bind_traces(module);
  penstock::dataplane::bind_record(module);
  module.def("has_http2", &has_http2, "Whether HTTP/2, and gRPC with it, were built.");
  module.def("has_tls", &has_tls, "Whether TLS was built.");
  module.def("codings_taken", &codings_taken, "Content codings that were built, as Accept-Encoding lists them.");
  nb::class_<Engine>(module, "Engine",
                     "The data plane: public sockets, I/O loops, rings. Its threads never take the GIL.")
      .def(
          "__init__",
          [](Engine* self, std::uint32_t io_threads, std::uint32_t decode_threads, std::uint32_t max_connections,
             std::uint32_t reserved_connections, std::size_t head_bytes_max, std::uint64_t control_body_bytes_max,
             std::uint64_t body_pool_bytes, std::uint64_t idle_timeout_ms, std::uint64_t head_timeout_ms,
             std::uint64_t body_timeout_ms, std::uint64_t write_timeout_ms, std::uint64_t request_timeout_ms,
             std::uint64_t cache_bytes, std::string control_socket, std::vector<std::string> cors_origins,
             bool compress, std::size_t compress_min_bytes, std::optional<double> trace_sample,
             std::optional<double> access_log_sample, std::uint64_t second_level_timeout_ms) {
            new (self) Engine(EngineOptions{io_threads, decode_threads, max_connections, reserved_connections,
                                            head_bytes_max, control_body_bytes_max, body_pool_bytes, idle_timeout_ms,
                                            head_timeout_ms, body_timeout_ms, write_timeout_ms, request_timeout_ms,
                                            cache_bytes, std::move(control_socket), std::move(cors_origins), compress,
                                            compress_min_bytes, TapOptions{trace_sample, access_log_sample},
                                            SecondLevelOptions{second_level_timeout_ms}});
          },
          nb::kw_only(), "io_threads"_a = 1, "decode_threads"_a = 1, "max_connections"_a = 4096,
          "reserved_connections"_a = 32, "head_bytes_max"_a = 8192, "control_body_bytes_max"_a = 16u << 20,
          "body_pool_bytes"_a = 128u << 20, "idle_timeout_ms"_a = 75'000, "head_timeout_ms"_a = 10'000,
          "body_timeout_ms"_a = 30'000, "write_timeout_ms"_a = 30'000, "request_timeout_ms"_a = 60'000,
          "cache_bytes"_a = 64u << 20, "control_socket"_a = "", "cors_origins"_a = std::vector<std::string>{},
          "compress"_a = false, "compress_min_bytes"_a = 1024, "trace_sample"_a = nb::none(),
          "access_log_sample"_a = nb::none(), "second_level_timeout_ms"_a = 0)
      .def("listen_tcp", &Engine::listen_tcp, "host"_a, "port"_a,
           "Bind and listen; the port that was bound. OSError when it is taken. Before start().")
      .def("listen_unix", &Engine::listen_unix, "path"_a,
           "Bind and listen on a Unix socket. OSError when somebody listens there.")
      .def("listen_private", &Engine::listen_private, "path"_a,
           "Likewise, for predictions of the control plane: whoever can connect needs no key. Once.")
      .def("start", &Engine::start, nb::call_guard<nb::gil_scoped_release>(), "Start the I/O loops.")
      .def("add_ring", &add_ring, "model"_a, "version"_a, "inputs"_a, "outputs"_a, nb::kw_only(),
           "max_batch_size"_a = 64, "max_queue_delay_us"_a = 0, "queue_bytes"_a = 64u << 20,
           "rerun_on_worker_death"_a = false, "slo_ms"_a = 0.0, "weight"_a = 100,
           "batch_sizes"_a = std::vector<std::uint32_t>{}, "reproducible_batch_size"_a = 1, "group"_a = "",
           "lengths"_a = std::vector<std::uint32_t>{}, "max_batch_tokens"_a = 0, "string_bytes_max"_a = 0,
           "cache_ttl_s"_a = 0, "cache_fingerprint"_a = nb::bytes(""), "record"_a = nb::none(),
           "input_rooms"_a = Rooms{},
           "Make the ring of a model version; its id. `record`, as penstock.processing.described has it, is what "
           "clients send instead of the inputs. ValueError for a schema that no ring can hold. Any thread.")
      .def(
          "ring_fd", [](const Engine& engine, std::uint32_t ring) { return engine.entry(ring)->ring.fd(); }, "ring"_a,
          "The ring's memfd, owned by the engine: send it to a worker, do not close it.")
      .def(
          "ring_max_batch_size",
          [](const Engine& engine, std::uint32_t ring) { return engine.entry(ring)->ring.max_batch_size(); }, "ring"_a,
          "What max_batch_size became after queue_bytes was honoured.")
      .def("seed_cost", &seed_cost, "ring"_a, "samples"_a, "bucket"_a = 0,
           "Tell what batches of a length bucket cost in warm-up: (rows, seconds) each.")
      .def("cost", &cost, "ring"_a, "bucket"_a = 0, "What batches of a length bucket cost, as far as it is known.")
      .def(
          "set_workers",
          [](const Engine& engine, std::uint32_t ring, std::uint32_t count) {
            engine.entry(ring)->workers.store(count, std::memory_order_relaxed);
          },
          "ring"_a, "count"_a, "Tell admission how many workers take from the ring.")
      .def(
          "quarantined",
          [](const Engine& engine, std::uint32_t ring) { return engine.entry(ring)->ring.quarantined(); }, "ring"_a,
          "How many blocks wait for a worker in quarantine, or are with one.")
      .def("loop_event_fds", &loop_event_fds, "Descriptors that wake the I/O loops, owned by the engine.")
      .def("recover", &recover, "ring"_a, "worker"_a, "A worker is dead: run its batches again, or fail them.")
      .def("fail_quarantined", &Engine::fail_quarantined, "ring"_a,
           "Rows that wait for a worker in quarantine get an error: there will be none.")
      .def("close_ring", &Engine::close_ring, "ring"_a,
           "The ring's workers have ended and there will be no others: rows that are out get an error.")
      .def(
          "set_mirror",
          [](Engine& engine, std::uint32_t ring, std::uint32_t shadow_ring, double share, double rtol, double atol) {
            engine.set_mirror(ring, shadow_ring, {.share = share, .rtol = rtol, .atol = atol});
          },
          "ring"_a, "shadow_ring"_a, nb::kw_only(), "share"_a, "rtol"_a, "atol"_a,
          "Have a share of a ring's rows run by another ring, too, and compare the outputs.")
      .def("mirror", &mirror, "ring"_a, "What came out of set_mirror() so far.")
      .def("clear_mirror", &Engine::clear_mirror, "ring"_a, "Mirror the ring's rows no more.")
      .def("publish", &publish, "routes"_a,
           "Swap the whole route table: (model, version, ring, latest, available, lazy) each. Any thread.")
      .def("ring_idle", &Engine::ring_idle, "ring"_a, "Whether nothing gets to the ring any more and nothing is out.")
      .def("remove_ring", &Engine::remove_ring, "ring"_a, nb::call_guard<nb::gil_scoped_release>(),
           "Give an idle ring's memory back; whether that has happened, else ask again.")
      .def(
          "miss_fd", [](Engine& engine) { return engine.misses().fd(); },
          "An eventfd that is readable when take_misses() has something.")
      .def(
          "take_misses", [](Engine& engine) { return engine.misses().take(); },
          "The lazy routes that were asked for since the last call: (model, version) each.")
      .def("set_keys", &set_keys, "keys"_a, nb::kw_only(), "require_key"_a = false, "development"_a = false,
           "The keys from now on: (id, SHA-256 of the key, role) each.")
      .def("set_tls", &Engine::set_tls, "certificate"_a, "key"_a,
           "Encrypt connections over TCP with the certificate and key of these PEM files from now on. ValueError says "
           "what is wrong with them. Any thread.")
      .def("attach_second_level", &Engine::attach_second_level, "fd"_a,
           "Use the process behind this socket, which is the engine's from here on. Needs second_level_timeout_ms.")
      .def("set_ready", &Engine::set_ready, "ready"_a, "What /health/ready says.")
      .def(
          "drain_tap", &drain_tap,
          "What sampled requests left behind since the last call: lines of the access log, how many, and TapRecords of "
          "what is traced. One thread at a time.")
      .def("await_tap", &Engine::await_tap, "patience_ms"_a, nb::call_guard<nb::gil_scoped_release>(),
           "Wait until drain_tap() would take many, at most so long.")
      .def("drain", &Engine::drain, "Refuse new connections, say not ready, answer what was accepted.")
      .def("drained", &Engine::drained, "Whether everything accepted has been answered since drain().")
      .def("stop", &Engine::stop, nb::call_guard<nb::gil_scoped_release>(),
           "End the I/O loops; what is in flight is dropped.")
      .def("stats", &stats, "Counters and histograms since the start.");
}

}  // namespace penstock::dataplane
