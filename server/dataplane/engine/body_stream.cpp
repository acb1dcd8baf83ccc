#include "engine/body_stream.hpp"

#include "http/ascii.hpp"

namespace penstock::dataplane {

bool names_streamed_type(const RequestHead& head) noexcept {
  if (head.method != Method::kPost || head.path != kStreamedPath) return false;
  const std::string_view type = trim_blanks(head.content_type.substr(0, head.content_type.find(';')));
  for (const std::string_view streamed : {"application/x-ndjson", "application/ndjson", "application/jsonl", "text/csv",
                                          "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"}) {
    if (equals_ignoring_case(type, streamed)) return true;
  }
  return false;
}

bool names_file_type(const RequestHead& head) noexcept {
  const std::string_view type = trim_blanks(head.content_type.substr(0, head.content_type.find(';')));
  return equals_ignoring_case(type, "text/plain") || equals_ignoring_case(type, "multipart/form-data") ||
         (type.size() > 6 && equals_ignoring_case(type.substr(0, 6), "image/"));
}

}  // namespace penstock::dataplane
