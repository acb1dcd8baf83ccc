// Streams of rows as lines: NDJSON and CSV into rows of a JSON body of many, and its reply back into lines. Piece by
// piece: whoever streams keeps what is not consumed yet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::dataplane {

// A row that was not read. It is null in the body, so that the others keep their numbers.
struct LineFault {
  std::uint32_t row = 0;  // of the piece
  std::string detail;
};

struct LineRows {
  std::string rows;                 // JSON values with commas between them: the inside of a list
  std::vector<std::uint32_t> ends;  // where each row ends in `rows`
  std::vector<LineFault> faults;    // ascending
  std::size_t consumed = 0;         // bytes of the text
};

// One row a line: its value, or {"inputs": value}. Empty lines are skipped. `last`: the text is the end of the stream,
// so that its last line need not end. Stops after `rows_max` rows. A row is one JSON value as far as brackets and
// strings go; whoever decodes the body judges what is inside.
[[nodiscard]] LineRows read_json_lines(std::string_view text, bool last, std::uint32_t rows_max);

enum class CsvKind : std::uint8_t { kNumber, kText, kBool };

// What becomes of an empty field, and of "nan" among numbers: it stays what it is, is null, or its member is left out.
enum class CsvBlank : std::uint8_t { kKept, kNull, kAbsent };

// How the fields of a record become a row: the text before each, and behind the last.
struct CsvForm {
  std::vector<std::string> prefixes;
  std::string suffix;
  std::vector<CsvKind> kinds;
  std::vector<CsvBlank> blanks = {};  // by column; empty: all are kept
};

// The fields of the first record of `text` (RFC 4180; LF ends a record as well), and how many bytes it has. Nothing
// while it is not complete; fields that are no CSV come as they stand.
struct CsvRecord {
  std::vector<std::string> fields;
  std::size_t bytes = 0;
};
[[nodiscard]] std::optional<CsvRecord> read_csv_record(std::string_view text, bool last);

// One row a record. A number is copied as it stands; "nan", "inf" and "-inf" in any case are those values, and what
// else is no number in JSON becomes a string, which is then refused with its text. Bools may be spelt 1 and 0.
[[nodiscard]] LineRows read_csv_rows(std::string_view text, bool last, std::uint32_t rows_max, const CsvForm& form);

// What one line of an answer says for a row that has no outputs.
struct AnswerFault {
  std::uint32_t row = 0;  // of the piece
  std::string code;
  unsigned status = 0;
  std::string detail;
  std::string errors = {};  // JSON: what is wrong with each field of a record; empty: nothing is said of them
};

// An output in CSV: `width` columns for a list of so many scalars, 1 for a scalar; 0: one column with JSON in it.
struct CsvOutput {
  std::string name;
  std::uint32_t width = 0;
};

// `reply` is the JSON reply to a body of `rows` rows, of which the first is row `first` of the stream; `faults`
// (ascending) stand in place of what it says of their rows. Nothing when the reply is none.
[[nodiscard]] std::optional<std::string> write_json_answers(std::string_view reply, std::uint32_t rows,
                                                            std::uint64_t first, std::span<const AnswerFault> faults);
// One record a row: the outputs' columns, empty for a row without, then one for the error.
[[nodiscard]] std::optional<std::string> write_csv_answers(std::string_view reply, std::uint32_t rows,
                                                           std::uint64_t first, std::span<const AnswerFault> faults,
                                                           std::span<const CsvOutput> outputs);

}  // namespace penstock::dataplane
