#include "codec/codec_record_raw.hpp"

#include <cmath>
#include <cstring>
#include <limits>

namespace penstock::dataplane {
namespace {

constexpr double kHashMax = std::numeric_limits<std::uint32_t>::max();

// The keyword that a slot breaks; empty: it is stored.
std::string_view take_slot(RecordRow& row, const RecordElement& element, double value) noexcept {
  const bool is_whole = value == std::trunc(value);
  switch (element.kind) {
    case RecordKind::kNumber:
    case RecordKind::kInteger:
      return std::isfinite(value) ? row.take_number(element, value) : std::string_view("type");
    case RecordKind::kBoolean:
      if (value != 0 && value != 1) return "type";
      break;
    case RecordKind::kCategory:
      if (!is_whole || value >= element.places || value < (element.open ? -1 : 0)) return "enum";
      break;
    case RecordKind::kHash:
      if (!is_whole || value < 0 || value > kHashMax) return "type";
      break;
    default:
      if (!std::isfinite(value)) return "format";
  }
  row.store(element, value);
  return {};
}

[[gnu::cold]] bool refuse(std::string_view bytes, const RecordPlan& plan, Problem& problem) noexcept {
  if (!plan.is_slots()) {
    problem.set(ProblemCode::kInvalidInput,
                "raw slots are for records of numbers, categories and dates alone; send this one as application/json "
                "or application/msgpack");
  } else {
    problem.set(ProblemCode::kInvalidInput,
                "inputs: expected rows of %zu bytes, a float64 for each of %zu fields, got %zu",
                plan.slots() * sizeof(double), plan.slots(), bytes.size());
  }
  return false;
}

}  // namespace

bool read_raw_record(std::string_view bytes, const RecordPlan& plan, const RecordPlace& place,
                     Problem& problem) noexcept {
  if (!plan.is_slots() || bytes.size() != plan.slots() * sizeof(double)) return refuse(bytes, plan, problem);
  RecordRow row(plan, place);
  for (std::size_t slot = 0; slot < plan.slots(); ++slot) {
    double value = 0;
    std::memcpy(&value, bytes.data() + slot * sizeof value, sizeof value);
    const std::uint32_t at = plan.element_of_slot(slot);
    if (std::isnan(value)) {
      row.store_missing(at);
      continue;
    }
    static_cast<void>(row.mark(at));
    row.mark_above(at);
    const RecordElement& element = row.element(at);
    const std::string_view rule = take_slot(row, element, value);
    if (rule.empty()) continue;
    NumberText got;
    row.fault_slot(element, rule, write_number(value, got));
  }
  return row.finish(problem);
}

bool read_raw_records(std::string_view bytes, const RecordPlan& plan, const RowLayout& layout, RowsSink& rows,
                      Problem& problem) {
  const std::size_t row_bytes = plan.slots() * sizeof(double);
  const bool fits = plan.is_slots() && !bytes.empty() && bytes.size() % row_bytes == 0;
  if (!fits || bytes.size() / row_bytes > UINT32_MAX) return refuse(bytes, plan, problem);
  const auto count = static_cast<std::uint32_t>(bytes.size() / row_bytes);
  if (!rows.begin(count, problem) || !rows.allocate(0, problem)) return false;
  for (std::uint32_t index = 0; index < count; ++index) {
    const std::string_view row = bytes.substr(index * row_bytes, row_bytes);
    if (read_raw_record(row, plan, {&layout, nullptr, &rows, index, &rows}, problem)) continue;
    rows.refuse_row(index, problem);
    problem.clear();
  }
  return true;
}

}  // namespace penstock::dataplane
