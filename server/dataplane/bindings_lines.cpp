// Lines of rows for Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <tuple>

#include "codec/codec_lines.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::dataplane {
namespace {

// The rows, where each ends (uint32, in memory order), bytes consumed, and for each fault its row and why.
using Rows = std::tuple<nb::bytes, nb::bytes, std::size_t, std::vector<std::pair<std::uint32_t, std::string>>>;
// Row, code, status, detail.
using Fault = std::tuple<std::uint32_t, std::string, unsigned, std::string>;

std::string_view view_of(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

nb::bytes bytes_of(std::string_view text) { return nb::bytes(text.data(), text.size()); }

Rows to_python(LineRows rows) {
  std::vector<std::pair<std::uint32_t, std::string>> faults;
  for (LineFault& fault : rows.faults) faults.emplace_back(fault.row, std::move(fault.detail));
  return {bytes_of(rows.rows), nb::bytes(rows.ends.data(), rows.ends.size() * sizeof(std::uint32_t)), rows.consumed,
          std::move(faults)};
}

std::vector<AnswerFault> faults_of(const std::vector<Fault>& faults) {
  std::vector<AnswerFault> read;
  for (const auto& [row, code, status, detail] : faults) read.push_back({row, code, status, detail});
  return read;
}

nb::bytes to_python(const std::optional<std::string>& lines) {
  if (!lines.has_value()) throw std::invalid_argument("not the reply to so many rows");
  return bytes_of(*lines);
}

Rows json_rows(const nb::bytes& text, bool last, std::uint32_t rows_max) {
  const std::string_view view = view_of(text);
  LineRows rows;
  {
    const nb::gil_scoped_release others_run;
    rows = read_json_lines(view, last, rows_max);
  }
  return to_python(std::move(rows));
}

CsvKind kind_from_name(const std::string& name) {
  if (name == "number") return CsvKind::kNumber;
  if (name == "text") return CsvKind::kText;
  if (name == "bool") return CsvKind::kBool;
  throw std::invalid_argument("a field is a number, text or a bool");
}

CsvBlank blank_from_name(const std::string& name) {
  if (name == "kept") return CsvBlank::kKept;
  if (name == "null") return CsvBlank::kNull;
  if (name == "absent") return CsvBlank::kAbsent;
  throw std::invalid_argument("an empty field is kept, null or absent");
}

Rows csv_rows(const nb::bytes& text, bool last, std::uint32_t rows_max, std::vector<std::string> prefixes,
              std::string suffix, const std::vector<std::string>& kinds, const std::vector<std::string>& blanks) {
  CsvForm form{std::move(prefixes), std::move(suffix), {}, {}};
  for (const std::string& kind : kinds) form.kinds.push_back(kind_from_name(kind));
  for (const std::string& blank : blanks) form.blanks.push_back(blank_from_name(blank));
  if (form.kinds.size() != form.prefixes.size() || form.kinds.size() != blanks.size())
    throw std::invalid_argument("as many prefixes as columns are needed");
  const std::string_view view = view_of(text);
  LineRows rows;
  {
    const nb::gil_scoped_release others_run;
    rows = read_csv_rows(view, last, rows_max, form);
  }
  return to_python(std::move(rows));
}

std::optional<std::pair<std::vector<std::string>, std::size_t>> csv_record(const nb::bytes& text, bool last) {
  auto record = read_csv_record(view_of(text), last);
  if (!record.has_value()) return std::nullopt;
  return std::pair(std::move(record->fields), record->bytes);
}

nb::bytes json_answers(const nb::bytes& reply, std::uint32_t rows, std::uint64_t first,
                       const std::vector<Fault>& faults) {
  const std::string_view view = view_of(reply);
  const std::vector<AnswerFault> own = faults_of(faults);
  std::optional<std::string> lines;
  {
    const nb::gil_scoped_release others_run;
    lines = write_json_answers(view, rows, first, own);
  }
  return to_python(lines);
}

nb::bytes csv_answers(const nb::bytes& reply, std::uint32_t rows, std::uint64_t first, const std::vector<Fault>& faults,
                      const std::vector<std::pair<std::string, std::uint32_t>>& outputs) {
  const std::string_view view = view_of(reply);
  const std::vector<AnswerFault> own = faults_of(faults);
  std::vector<CsvOutput> columns;
  for (const auto& [name, width] : outputs) columns.push_back({name, width});
  std::optional<std::string> lines;
  {
    const nb::gil_scoped_release others_run;
    lines = write_csv_answers(view, rows, first, own, columns);
  }
  return to_python(lines);
}

}  // namespace

void bind_lines(nb::module_& module);  // for bindings.cpp

void bind_lines(nb::module_& module) {
  module.def(
      "json_rows", &json_rows, "text"_a, "last"_a, "rows_max"_a,
      "Rows of NDJSON as the inside of a JSON list, where each ends (uint32), bytes consumed, and the lines that "
      "are no rows: null in the list, and why.");
  module.def("csv_rows", &csv_rows, "text"_a, "last"_a, "rows_max"_a, "prefixes"_a, "suffix"_a, "kinds"_a, "blanks"_a,
             "Likewise the records of CSV: what stands before each field, behind the last, whether it is a \"number\", "
             "\"text\" "
             "or a \"bool\", and what those are that are empty: \"kept\", \"null\", or \"absent\", which leaves the "
             "member out.");
  module.def("csv_record", &csv_record, "text"_a, "last"_a,
             "The fields of the first record and its bytes; None while it is not complete.");
  module.def("json_answers", &json_answers, "reply"_a, "rows"_a, "first"_a, "faults"_a,
             "The JSON reply to so many rows, as lines. Faults (row, code, status, detail) stand in place of what it "
             "says of their rows. ValueError when it is no such reply.");
  module.def("csv_answers", &csv_answers, "reply"_a, "rows"_a, "first"_a, "faults"_a, "outputs"_a,
             "Likewise as CSV: names of outputs with the number of columns of each, 0 for one column of JSON.");
}

}  // namespace penstock::dataplane
