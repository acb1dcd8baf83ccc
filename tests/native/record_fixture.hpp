// A record of twenty fields of all kinds, for tests of its readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "codec/codec_rows.hpp"
#include "codec/record_plan.hpp"
#include "codec_fixture.hpp"
#include "http/field_faults.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::test {

// id, age, fare, tall, sex, city, born, agent, address.zip, address.floor, comment, point
inline std::vector<dataplane::RecordFieldSpec> record_fields() {
  using dataplane::RecordKind;
  std::vector<dataplane::RecordFieldSpec> fields(12);
  fields[0] = {.path = {"id"}, .kind = RecordKind::kInteger};
  fields[1] = {.path = {"age"}, .nullable = true, .minimum = 0, .maximum = 120};
  fields[2] = {.path = {"fare"}, .required = false, .exclusive_minimum = true, .minimum = 0, .absent = 7.5};
  fields[3] = {.path = {"tall"}, .kind = RecordKind::kBoolean, .required = false, .coerce = true};
  fields[4] = {.path = {"sex"}, .kind = RecordKind::kCategory, .categories = {"female", "male"}};
  fields[5] = {.path = {"city"},
               .kind = RecordKind::kCategory,
               .required = false,
               .coerce = true,
               .open = true,
               .categories = {"Ulm", 7.0, true}};
  fields[6] = {.path = {"born"}, .kind = RecordKind::kDate, .required = false};
  fields[7] = {.path = {"agent"}, .kind = RecordKind::kHash, .required = false, .maximum = 5000};
  fields[8] = {.path = {"address", "zip"}, .kind = RecordKind::kInteger, .coerce = true};
  fields[9] = {.path = {"address", "floor"}, .kind = RecordKind::kNumber, .required = false};
  fields[10] = {.path = {"comment"}, .kind = RecordKind::kText, .required = false, .maximum = 20, .absent = "none"};
  fields[11] = {.path = {"point"}, .kind = RecordKind::kTensor};
  return fields;
}

inline std::vector<dataplane::RecordObjectSpec> record_objects(bool closed) {
  return {{{}, true, closed}, {{"address"}, false, closed}};
}

inline ModelSchema record_schema() {
  return {RowLayout({{"$record", DType::kFloat64, {10}},
                     {"comment", DType::kBytes, {}, false, 64},
                     {"point", DType::kFloat32, {2}}}),
          RowLayout({{"y", DType::kFloat32, {}}})};
}

// Resolves every name to a row of that record.
class RecordFixture {
 public:
  explicit RecordFixture(bool closed = false)
      : row_(record_schema()), plan_(record_fields(), record_objects(closed), row_.schema()) {
    row_.set_plan(&plan_);
  }

  [[nodiscard]] RowFixture& row() { return row_; }
  [[nodiscard]] const dataplane::RecordPlan& plan() const { return plan_; }
  [[nodiscard]] double slot(std::size_t slot) const {
    double value = 0;
    std::memcpy(&value, row_.row() + slot * sizeof value, sizeof value);
    return value;
  }
  [[nodiscard]] std::string text() const {
    std::string_view text;
    CHECK(text_at(row_.schema().inputs.tensors()[1], row_.row() + row_.schema().inputs.offset(1), 0, text));
    return std::string(text);
  }

  // Nothing, or the rules that are broken by field: "age minimum, sex enum". "!" and a code when it is no record at
  // all.
  [[nodiscard]] std::string read(dataplane::Encoding encoding, std::string_view body) {
    using namespace dataplane;
    const ExactBody exact(body);
    Problem problem;
    row_.clear();
    const bool read = decode(encoding, exact.view(), {}, row_, problem);
    CHECK(row_.guards_hold(read));
    CHECK(read == (problem.code() == ProblemCode::kNone));
    if (read) return {};
    if (problem.fields() == nullptr) return std::string("!").append(info_of(problem.code()).code);
    CHECK(problem.code() == ProblemCode::kInvalidInput && !problem.detail().empty());
    std::string faults;
    for (std::size_t i = 0; i < problem.fields()->size(); ++i) {
      const FieldFaults::Fault fault = (*problem.fields())[i];
      CHECK(!fault.detail.empty());
      faults.append(i == 0 ? "" : ", ").append(fault.field).append(" ").append(fault.rule);
    }
    return faults;
  }

 private:
  RowFixture row_;
  dataplane::RecordPlan plan_;
};

// Takes the rows of that record, in memory of exactly their size, so that a sanitizer sees every byte too far.
class RecordRows final : public dataplane::RowsSink {
 public:
  static constexpr std::uint32_t kRowsMax = 64;

  explicit RecordRows(const dataplane::RecordPlan& plan) : RowsSink(columns_), schema_(record_schema()) {
    set_record(&plan);
  }
  RecordRows(const RecordRows&) = delete;
  RecordRows& operator=(const RecordRows&) = delete;
  dataplane::RowTarget resolve(std::string_view, std::string_view, dataplane::Problem&) override {
    columns_.resize(schema_.inputs.size());
    return {&schema_, nullptr};
  }
  [[nodiscard]] bool begin(std::uint32_t rows, dataplane::Problem& problem) override {
    refused_.resize(rows <= kRowsMax ? rows : 0);
    if (rows > kRowsMax) problem.set(dataplane::ProblemCode::kBodyTooLarge, "too many rows");
    return rows <= kRowsMax;
  }
  [[nodiscard]] bool allocate(std::size_t tensor, dataplane::Problem&) override {
    const auto stride = static_cast<std::size_t>(schema_.inputs.tensors()[tensor].bytes());
    rooms_.emplace_back(refused_.size() * stride, std::byte{0xCD});
    columns_[tensor] = {rooms_.back().data(), stride};
    return true;
  }
  void refuse_row(std::uint32_t row, const dataplane::Problem& problem) override {
    CHECK(!problem.detail().empty() && problem.fields() != nullptr);
    refused_[row] = problem.detail();
  }
  void set_row_length(std::uint32_t, std::uint32_t) override {}

  [[nodiscard]] std::uint32_t rows() const { return static_cast<std::uint32_t>(refused_.size()); }
  // Why a row was refused; empty: it was not.
  [[nodiscard]] const std::string& refused(std::uint32_t row) const { return refused_[row]; }
  [[nodiscard]] double slot(std::uint32_t row, std::size_t slot) const {
    double value = 0;
    std::memcpy(&value, place(0, row) + slot * sizeof value, sizeof value);
    return value;
  }
  [[nodiscard]] std::string_view text(std::uint32_t row) const {
    std::string_view text;
    CHECK(text_at(schema_.inputs.tensors()[1], place(1, row), 0, text));
    return text;
  }
  [[nodiscard]] float point(std::uint32_t row, std::size_t i) const {
    float value = 0;
    std::memcpy(&value, place(2, row) + i * sizeof value, sizeof value);
    return value;
  }

 private:
  ModelSchema schema_;
  std::vector<dataplane::Column> columns_;
  std::vector<std::string> refused_;
  std::vector<std::vector<std::byte>> rooms_;
};

}  // namespace penstock::test
