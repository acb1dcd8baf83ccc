// Records as msgpack.
#pragma once

#include "codec/codec_msgpack_text.hpp"
#include "codec/codec_record_row.hpp"

namespace penstock::dataplane {

// As read_json_record(), of a map.
[[nodiscard]] bool read_msgpack_record(MsgpackText& text, const RecordPlan& plan, const RecordPlace& place) noexcept;

}  // namespace penstock::dataplane
