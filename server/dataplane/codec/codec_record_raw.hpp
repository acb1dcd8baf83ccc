// Records as the bytes of their slots: float64, little-endian, side by side. Only where a record has nothing else.
#pragma once

#include <string_view>

#include "codec/codec_record_row.hpp"

namespace penstock::dataplane {

// The slots of one row. False: `problem` is set.
[[nodiscard]] bool read_raw_record(std::string_view bytes, const RecordPlan& plan, const RecordPlace& place,
                                   Problem& problem) noexcept;
// Of many rows: tells `rows` how many, and fills them. A row that does not fit is refused alone.
[[nodiscard]] bool read_raw_records(std::string_view bytes, const RecordPlan& plan, const RowLayout& layout,
                                    RowsSink& rows, Problem& problem);

}  // namespace penstock::dataplane
