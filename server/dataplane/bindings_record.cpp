#include "bindings_record.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "codec/codec.hpp"
#include "http/field_faults.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::dataplane {

void bind_record(nb::module_& module);  // for bindings.cpp

namespace {

constexpr std::array kKinds = std::to_array<std::pair<std::string_view, RecordKind>>({
    {"number", RecordKind::kNumber},
    {"integer", RecordKind::kInteger},
    {"boolean", RecordKind::kBoolean},
    {"category", RecordKind::kCategory},
    {"date", RecordKind::kDate},
    {"hash", RecordKind::kHash},
    {"text", RecordKind::kText},
    {"image", RecordKind::kImage},
    {"tensor", RecordKind::kTensor},
    {"pixels", RecordKind::kTensor},
});

RecordKind kind_from_name(std::string_view name) {
  for (const auto& [known, kind] : kKinds) {
    if (known == name) return kind;
  }
  throw std::invalid_argument("a field is of no known kind");
}

RecordFieldSpec field_of(const RecordFieldTuple& tuple) {
  RecordFieldSpec field;
  std::string kind;
  std::tie(field.path, kind, field.required, field.nullable, field.coerce, field.open, field.minimum,
           field.exclusive_minimum, field.maximum, field.exclusive_maximum, field.categories, field.absent) = tuple;
  field.kind = kind_from_name(kind);
  field.picture = kind == "pixels";
  return field;
}

// Every name is the one record's.
class OneRecord final : public RowResolver {
 public:
  OneRecord(const ModelSchema& schema, const RecordPlan& plan, std::byte* row) noexcept : schema_(schema), row_(row) {
    set_record(&plan);
  }
  RowTarget resolve(std::string_view, std::string_view, Problem&) override { return {&schema_, row_}; }

 private:
  const ModelSchema& schema_;
  std::byte* row_;
};

using Faults = std::vector<std::tuple<std::string, std::string, std::string>>;

// Reads records as the data plane does.
class RecordReader {
 public:
  explicit RecordReader(const RecordTuple& record) {
    std::vector<TensorSpec> tensors;
    std::uint32_t slots = 0;
    for (const RecordFieldTuple& field : std::get<0>(record))
      slots += has_slot(kind_from_name(std::get<1>(field))) ? 1 : 0;
    if (slots != std::get<0>(record).size())
      throw std::invalid_argument("only records of numbers, categories and dates are read here");
    tensors.push_back({"$record", DType::kFloat64, {slots}});
    schema_ = {RowLayout(std::move(tensors)), RowLayout()};
    plan_ = record_plan_of(record, schema_);
    row_.resize(schema_.inputs.bytes());
  }

  // The slots, or what is wrong.
  std::tuple<std::optional<std::vector<double>>, std::string, Faults> read(const nb::bytes& body, bool is_msgpack) {
    OneRecord resolver(schema_, *plan_, row_.data());
    Problem problem;
    const std::string_view view(body.c_str(), body.size());
    const bool taken =
        is_msgpack ? decode_msgpack(view, {}, resolver, problem) : decode_json(view, {}, resolver, problem);
    if (taken) {
      std::vector<double> slots(plan_->slots());
      std::memcpy(slots.data(), row_.data(), slots.size() * sizeof(double));
      return {std::move(slots), "", {}};
    }
    Faults faults;
    for (std::size_t i = 0; problem.fields() != nullptr && i < problem.fields()->size(); ++i) {
      const FieldFaults::Fault fault = (*problem.fields())[i];
      faults.emplace_back(fault.field, fault.rule, fault.detail);
    }
    return {std::nullopt, std::string(info_of(problem.code()).code), std::move(faults)};
  }

 private:
  ModelSchema schema_;
  std::shared_ptr<const RecordPlan> plan_;
  std::vector<std::byte> row_;
};

}  // namespace

void bind_record(nb::module_& module) {
  nb::class_<RecordReader>(
      module, "RecordReader",
      "Reads records as the data plane does: of those that have slots and nothing else. One thread.")
      .def(nb::init<const RecordTuple&>(), "record"_a)
      .def("read", &RecordReader::read, "body"_a, "is_msgpack"_a = false,
           "The slots of a request body's record, or None, the code of the problem, and what is wrong with each field "
           "(field, rule, detail).");
}

std::shared_ptr<const RecordPlan> record_plan_of(const std::optional<RecordTuple>& record, const ModelSchema& schema) {
  if (!record.has_value()) return nullptr;
  std::vector<RecordFieldSpec> fields;
  for (const RecordFieldTuple& field : std::get<0>(*record)) fields.push_back(field_of(field));
  std::vector<RecordObjectSpec> objects;
  for (const auto& [path, required, closed] : std::get<1>(*record)) objects.push_back({path, required, closed});
  return std::make_shared<const RecordPlan>(fields, objects, schema);
}

}  // namespace penstock::dataplane
