// Records as JSON.
#pragma once

#include "codec/codec_json_text.hpp"
#include "codec/codec_record_row.hpp"

namespace penstock::dataplane {

// The object at the cursor into the row at `place`. False: `text.problem` is set; kInvalidInput has all that is wrong
// with the fields, and the cursor may stand anywhere.
[[nodiscard]] bool read_json_record(JsonText& text, const RecordPlan& plan, const RecordPlace& place) noexcept;

// The value at the cursor as that of one field, which is no object. False: the text is no JSON. What does not fit is a
// fault of the row.
[[nodiscard]] bool read_json_field(JsonText& text, const RecordElement& element, RecordRow& row) noexcept;

}  // namespace penstock::dataplane
