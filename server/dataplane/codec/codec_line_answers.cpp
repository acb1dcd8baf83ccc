#include <algorithm>
#include <charconv>

#include "codec/codec_json_text.hpp"
#include "codec/codec_lines.hpp"
#include "http/json_text.hpp"

namespace penstock::dataplane {
namespace {

// The text of a value at the cursor, which moves behind it. Empty: there is none.
std::string_view take_value(JsonText& text) {
  text.skip_space();
  const char* const start = text.at;
  if (!text.skip_value()) return {};
  return {start, static_cast<std::size_t>(text.at - start)};
}

// A string value, with its escapes resolved; any other value as it stands.
std::string plain_text(std::string_view value) {
  if (!value.starts_with('"')) return std::string(value);
  Problem problem;
  JsonText text(value, problem);
  std::string plain(value.size(), '\0');
  bool full = false;
  plain.resize(text.read_text(plain.data(), static_cast<std::uint32_t>(plain.size()), full).value_or(0));
  return plain;
}

// Calls visit(name, value) for the members of an object. False: it is none.
template <class Visit>
bool for_each_member(std::string_view object, Visit&& visit) {
  Problem problem;
  JsonText text(object, problem);
  if (!text.consume('{')) return false;
  if (text.consume('}')) return true;
  do {
    NameScratch scratch;
    std::string_view name;
    if (!text.read_name(scratch, name)) return false;
    const std::string_view value = take_value(text);
    if (value.empty()) return false;
    visit(name, value);
  } while (text.consume(','));
  return text.consume('}');
}

template <class Visit>
bool for_each_element(std::string_view list, Visit&& visit) {
  Problem problem;
  JsonText text(list, problem);
  if (!text.consume('[')) return false;
  if (text.consume(']')) return true;
  do {
    const std::string_view value = take_value(text);
    if (value.empty()) return false;
    visit(value);
  } while (text.consume(','));
  return text.consume(']');
}

// What a reply says of each row: its outputs as JSON, or its fault.
struct Answers {
  std::vector<std::string_view> outputs;
  std::vector<AnswerFault> faults;  // ascending

  [[nodiscard]] bool read(std::string_view reply, std::uint32_t rows, std::span<const AnswerFault> own) {
    outputs.reserve(rows);
    bool read = true;
    const bool whole = for_each_member(reply, [&](std::string_view name, std::string_view value) {
      if (name == "outputs")
        read = for_each_element(value, [this](std::string_view row) { outputs.push_back(row); }) && read;
      if (name == "errors") read = for_each_element(value, [this](std::string_view error) { add(error); }) && read;
    });
    if (!whole || !read || outputs.size() != rows) return false;
    for (const AnswerFault& fault : own) {
      if (fault.row >= rows) return false;
      outputs[fault.row] = "null";
      std::erase_if(faults, [&](const AnswerFault& theirs) { return theirs.row == fault.row; });
      faults.push_back(fault);
    }
    std::ranges::sort(faults, {}, &AnswerFault::row);
    return true;
  }

 private:
  void add(std::string_view error) {
    AnswerFault fault;
    const bool read = for_each_member(error, [&fault](std::string_view name, std::string_view value) {
      if (name == "row") std::from_chars(value.data(), value.data() + value.size(), fault.row);
      if (name == "status") std::from_chars(value.data(), value.data() + value.size(), fault.status);
      if (name == "code") fault.code = plain_text(value);
      if (name == "detail") fault.detail = plain_text(value);
      if (name == "errors") fault.errors = value;
    });
    if (read) faults.push_back(std::move(fault));
  }
};

// Calls outputs(text) or fault(fault) for every row in order.
template <class OnOutputs, class OnFault>
void for_each_row(const Answers& answers, OnOutputs&& on_outputs, OnFault&& on_fault) {
  const AnswerFault unknown{0, "internal_error", 500, "the row has neither outputs nor an error"};
  auto fault = answers.faults.begin();
  for (std::uint32_t row = 0; row < answers.outputs.size(); ++row) {
    while (fault != answers.faults.end() && fault->row < row) ++fault;
    if (answers.outputs[row] != "null") {
      on_outputs(answers.outputs[row]);
    } else {
      on_fault(row, fault != answers.faults.end() && fault->row == row ? *fault : unknown);
    }
  }
}

void append_json_text(std::string& out, std::string_view text) {
  const std::size_t before = out.size();
  out.resize(before + 6 * text.size() + 2);
  const char* const end = write_json_string(out.data() + before, text);
  out.resize(static_cast<std::size_t>(end - out.data()));
}

void append_csv_text(std::string& out, std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) {
    out.append(text);
    return;
  }
  out.push_back('"');
  for (const char c : text) {
    if (c == '"') out.push_back('"');
    out.push_back(c);
  }
  out.push_back('"');
}

void append_csv_value(std::string& out, std::string_view value) {
  if (value.starts_with('"') || value.starts_with('[')) {
    append_csv_text(out, plain_text(value));
  } else {
    out.append(value);
  }
}

// The columns of one output, each followed by a comma.
void append_csv_output(std::string& out, std::string_view value, std::uint32_t width) {
  if (value.empty()) {
    out.append(std::max(width, 1u), ',');
    return;
  }
  if (width == 0 || !value.starts_with('[')) {
    append_csv_value(out, value);
    out.push_back(',');
    return;
  }
  std::uint32_t written = 0;
  static_cast<void>(for_each_element(value, [&](std::string_view element) {
    if (written++ >= width) return;
    append_csv_value(out, element);
    out.push_back(',');
  }));
  for (; written < width; ++written) out.push_back(',');
}

}  // namespace

std::optional<std::string> write_json_answers(std::string_view reply, std::uint32_t rows, std::uint64_t first,
                                              std::span<const AnswerFault> own) {
  Answers answers;
  if (!answers.read(reply, rows, own)) return std::nullopt;
  std::string out;
  out.reserve(reply.size() + 14 * std::size_t{rows});
  for_each_row(
      answers, [&out](std::string_view outputs) { out.append("{\"outputs\":").append(outputs).append("}\n"); },
      [&](std::uint32_t row, const AnswerFault& fault) {
        out.append("{\"error\":{\"row\":").append(std::to_string(first + row)).append(",\"code\":");
        append_json_text(out, fault.code);
        out.append(",\"status\":").append(std::to_string(fault.status)).append(",\"detail\":");
        append_json_text(out, fault.detail);
        if (!fault.errors.empty()) out.append(",\"errors\":").append(fault.errors);
        out.append("}}\n");
      });
  return out;
}

std::optional<std::string> write_csv_answers(std::string_view reply, std::uint32_t rows, std::uint64_t first,
                                             std::span<const AnswerFault> own, std::span<const CsvOutput> outputs) {
  Answers answers;
  if (!answers.read(reply, rows, own)) return std::nullopt;
  std::string out;
  out.reserve(reply.size());
  std::vector<std::string_view> values(outputs.size());
  for_each_row(
      answers,
      [&](std::string_view row) {
        std::size_t next = 0;
        std::ranges::fill(values, std::string_view{});
        static_cast<void>(for_each_member(row, [&](std::string_view name, std::string_view value) {
          const bool expected = next < outputs.size() && outputs[next].name == name;
          const auto found = expected ? outputs.begin() + static_cast<std::ptrdiff_t>(next)
                                      : std::ranges::find(outputs, name, &CsvOutput::name);
          if (found == outputs.end()) return;
          next = static_cast<std::size_t>(found - outputs.begin());
          values[next++] = value;
        }));
        for (std::size_t i = 0; i < outputs.size(); ++i) append_csv_output(out, values[i], outputs[i].width);
        out.push_back('\n');
      },
      [&](std::uint32_t row, const AnswerFault& fault) {
        for (const CsvOutput& output : outputs) out.append(std::max(output.width, 1u), ',');
        append_csv_text(out, "row " + std::to_string(first + row) + ": " + fault.code + ": " + fault.detail);
        out.push_back('\n');
      });
  return out;
}

}  // namespace penstock::dataplane
