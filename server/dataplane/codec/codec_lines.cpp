#include "codec/codec_lines.hpp"

#include <algorithm>
#include <cstring>

#include "codec/codec_json_text.hpp"
#include "http/ascii.hpp"

namespace penstock::dataplane {
namespace {

// Appends rows, with a null for each that was not read.
class RowWriter {
 public:
  explicit RowWriter(LineRows& rows) noexcept : rows_(rows) {}

  void begin() {
    if (!rows_.ends.empty()) rows_.rows.push_back(',');
    start_ = rows_.rows.size();
  }
  void end() { rows_.ends.push_back(static_cast<std::uint32_t>(rows_.rows.size())); }
  void fail(std::string detail) {
    rows_.rows.resize(start_);
    rows_.rows.append("null");
    rows_.faults.push_back({static_cast<std::uint32_t>(rows_.ends.size()), std::move(detail)});
    end();
  }

 private:
  LineRows& rows_;
  std::size_t start_ = 0;
};

// The value of a line without its wrapper. Nothing: the line is not one value, for `reason`.
std::optional<std::string_view> row_of_line(std::string_view line, std::string& reason) {
  Problem problem;
  JsonText text(line, problem);
  text.skip_space();
  const char* const start = text.at;
  const char* end = nullptr;
  if (text.skip_value()) {
    end = text.at;
    text.skip_space();
    if (text.at == text.end) {
      JsonText inside({start, static_cast<std::size_t>(end - start)}, problem);
      NameScratch scratch;
      std::string_view name;
      if (*start != '{' || !inside.consume('{') || inside.consume('}') || !inside.read_name(scratch, name) ||
          name != "inputs") {
        return std::string_view(start, static_cast<std::size_t>(end - start));
      }
      inside.skip_space();
      const char* const value = inside.at;
      if (inside.skip_value()) {
        const std::string_view row(value, static_cast<std::size_t>(inside.at - value));
        if (inside.consume('}') && inside.at == inside.end) return row;
        reason = "the line has other members than inputs; model and version are named in the query";
        return std::nullopt;
      }
    } else {
      problem.set(ProblemCode::kMalformedBody, "there is more on the line than one JSON value");
    }
  }
  reason = problem.detail();
  return std::nullopt;
}

bool is_json_number(std::string_view text) noexcept {
  const auto digits = [&text] {
    std::size_t count = 0;
    while (count < text.size() && text[count] >= '0' && text[count] <= '9') ++count;
    text.remove_prefix(count);
    return count;
  };
  if (text.starts_with('-')) text.remove_prefix(1);
  const bool zero = text.starts_with('0');
  const std::size_t whole = digits();
  if (whole == 0 || (zero && whole > 1)) return false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (digits() == 0) return false;
  }
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
    if (digits() == 0) return false;
  }
  return text.empty();
}

void append_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr std::string_view kHex = "0123456789abcdef";
      out.append("\\u00");
      out.push_back(kHex[static_cast<unsigned char>(c) >> 4]);
      out.push_back(kHex[static_cast<unsigned char>(c) & 15]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

bool is_missing(std::string_view field) noexcept { return field.empty() || equals_ignoring_case(field, "nan"); }

void append_field(std::string& out, std::string_view field, CsvKind kind) {
  if (kind == CsvKind::kText) {
    append_json_string(out, field);
    return;
  }
  const std::string_view trimmed = trim_blanks(field);
  if (kind == CsvKind::kBool && (trimmed == "1" || trimmed == "0")) {
    out.append(trimmed == "1" ? "true" : "false");
  } else if (is_json_number(trimmed)) {
    out.append(trimmed);
  } else if (equals_ignoring_case(trimmed, "true") || equals_ignoring_case(trimmed, "false")) {
    out.append(trimmed.size() == 4 ? "true" : "false");  // pandas writes True
  } else if (equals_ignoring_case(trimmed, "nan")) {
    out.append("\"NaN\"");
  } else if (equals_ignoring_case(trimmed, "inf") || equals_ignoring_case(trimmed, "infinity")) {
    out.append("\"Infinity\"");
  } else if (equals_ignoring_case(trimmed, "-inf") || equals_ignoring_case(trimmed, "-infinity")) {
    out.append("\"-Infinity\"");
  } else {
    append_json_string(out, trimmed);
  }
}

// A field and what stands before it.
void append_member(std::string& out, std::string_view prefix, std::string_view field, CsvKind kind, CsvBlank blank) {
  const bool is_blank =
      blank != CsvBlank::kKept && (field.empty() || (kind != CsvKind::kText && is_missing(trim_blanks(field))));
  // Nothing but a brace ends so: the members before were left out.
  if (prefix.starts_with(',') && out.ends_with('{')) prefix.remove_prefix(1);
  if (is_blank && blank == CsvBlank::kAbsent) {
    prefix = prefix.substr(0, prefix.find('"'));
    if (prefix.ends_with(',')) prefix.remove_suffix(1);
    out.append(prefix);
    return;
  }
  out.append(prefix);
  if (is_blank) {
    out.append("null");
  } else {
    append_field(out, field, kind);
  }
}

// Reads records, one field at a time.
class CsvText {
 public:
  CsvText(std::string_view text, bool last) noexcept : text_(text), last_(last) {}

  [[nodiscard]] std::size_t at() const noexcept { return at_; }
  [[nodiscard]] bool has_more() const noexcept { return at_ < text_.size(); }

  // False: the record is not complete. `ends`: it was the record's last field.
  [[nodiscard]] bool next(std::string_view& field, bool& ends) {
    if (at_ < text_.size() && text_[at_] == '"') return next_quoted(field, ends);
    const std::size_t stop = text_.find_first_of(",\n", at_);
    if (stop == std::string_view::npos && !last_) return false;
    const std::size_t end = std::min(stop, text_.size());
    field = text_.substr(at_, end - at_);
    ends = stop == std::string_view::npos || text_[stop] == '\n';
    if (ends && field.ends_with('\r')) field.remove_suffix(1);
    at_ = std::min(end + 1, text_.size());
    return true;
  }

 private:
  [[nodiscard]] bool next_quoted(std::string_view& field, bool& ends) {
    unquoted_.clear();
    for (std::size_t from = at_ + 1;;) {
      const std::size_t quote = text_.find('"', from);
      if (quote == std::string_view::npos) {
        if (!last_) return false;
        field = text_.substr(at_);  // it never ends: what is there is no field
        at_ = text_.size();
        ends = true;
        return true;
      }
      unquoted_.append(text_.substr(from, quote - from));
      if (quote + 1 < text_.size() && text_[quote + 1] == '"') {
        unquoted_.push_back('"');
        from = quote + 2;
        continue;
      }
      const std::size_t stop = text_.find_first_of(",\n", quote + 1);
      if (stop == std::string_view::npos && !last_) return false;
      const std::size_t end = std::min(stop, text_.size());
      ends = stop == std::string_view::npos || text_[stop] == '\n';
      std::string_view behind = text_.substr(quote + 1, end - quote - 1);
      if (ends && behind.ends_with('\r')) behind.remove_suffix(1);
      unquoted_.append(behind);
      field = unquoted_;
      at_ = std::min(end + 1, text_.size());
      return true;
    }
  }

  std::string_view text_;
  bool last_;
  std::size_t at_ = 0;
  std::string unquoted_;
};

}  // namespace

LineRows read_json_lines(std::string_view text, bool last, std::uint32_t rows_max) {
  LineRows read;
  RowWriter writer(read);
  while (read.consumed < text.size() && read.ends.size() < rows_max) {
    const std::size_t newline = text.find('\n', read.consumed);
    if (newline == std::string_view::npos && !last) break;
    const std::size_t end = std::min(newline, text.size());
    const std::string_view line = text.substr(read.consumed, end - read.consumed);
    read.consumed = std::min(end + 1, text.size());
    if (skip_json_space(line.data(), line.data() + line.size()) == line.data() + line.size()) continue;
    writer.begin();
    std::string reason;
    if (const auto row = row_of_line(line, reason)) {
      read.rows.append(*row);
      writer.end();
    } else {
      writer.fail(std::move(reason));
    }
  }
  return read;
}

std::optional<CsvRecord> read_csv_record(std::string_view text, bool last) {
  CsvText csv(text, last);
  CsvRecord record;
  for (bool ends = text.empty(); !ends;) {
    std::string_view field;
    if (!csv.next(field, ends)) return std::nullopt;
    record.fields.emplace_back(field);
  }
  record.bytes = csv.at();
  return record;
}

LineRows read_csv_rows(std::string_view text, bool last, std::uint32_t rows_max, const CsvForm& form) {
  LineRows read;
  RowWriter writer(read);
  CsvText csv(text, last);
  while (csv.has_more() && read.ends.size() < rows_max) {
    const std::size_t before = read.rows.size();
    std::size_t fields = 0;
    bool blank = false;
    writer.begin();
    for (bool ends = false; !ends; ++fields) {
      std::string_view field;
      if (!csv.next(field, ends)) {
        read.rows.resize(before);
        return read;
      }
      blank = ends && fields == 0 && field.empty() && form.kinds.size() != 1;
      if (fields >= form.kinds.size()) continue;
      append_member(read.rows, form.prefixes[fields], field, form.kinds[fields],
                    form.blanks.empty() ? CsvBlank::kKept : form.blanks[fields]);
    }
    read.consumed = csv.at();
    if (blank) {
      read.rows.resize(before);
    } else if (fields == form.kinds.size()) {
      read.rows.append(form.suffix);
      writer.end();
    } else {
      writer.fail("the record has " + std::to_string(fields) + " fields, the header " +
                  std::to_string(form.kinds.size()));
    }
  }
  return read;
}

}  // namespace penstock::dataplane
