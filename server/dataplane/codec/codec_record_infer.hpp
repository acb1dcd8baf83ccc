// Records by the Open Inference Protocol: each field is an input by its name, and its first extent counts the rows.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "codec/codec_oip.hpp"
#include "codec/codec_record_row.hpp"

namespace penstock::dataplane {

// What one input of a request holds.
struct RecordInput {
  enum class Form : std::uint8_t {
    kJson,      // a value that was checked as such
    kBinary,    // bytes as the binary extension has them
    kContents,  // an InferTensorContents
  };

  const InferRequest::Input* input = nullptr;  // `tensor` is that of RecordPlan::face()
  std::string_view data;
  Form form = Form::kBinary;
};

// Tells `rows` how many there are, and fills them. A row that does not fit is refused alone. False: `problem` is set.
[[nodiscard]] bool read_infer_records(const std::vector<RecordInput>& inputs, const RecordPlan& plan,
                                      const RowLayout& layout, RowsSink& rows, Problem& problem);

}  // namespace penstock::dataplane
