// What the records of a model are: their fields, where each goes in a row, and what is taken for it. Made once for a
// model version, from what penstock.processing.record read of its plan; then read by every loop.
//
// In the ring a record is a tensor of slots, float64, one for each field that is a number, a boolean, a category, a
// date or a hashed string, and a tensor of its own for each other field, in the order of the fields. Missing is NaN.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "penstock/kernels/row_layout.hpp"

namespace penstock::dataplane {

enum class RecordKind : std::uint8_t {
  kObject,
  kNumber,
  kInteger,
  kBoolean,
  kCategory,
  kDate,
  kHash,
  kText,
  kImage,
  kTensor,
};

[[nodiscard]] constexpr bool has_slot(RecordKind kind) noexcept {
  return kind >= RecordKind::kNumber && kind <= RecordKind::kHash;
}

// Whole numbers up to here are exact in a slot.
inline constexpr double kWholeMax = 9007199254740992.0;
inline constexpr std::size_t kRecordElementsMax = 8192;
inline constexpr std::size_t kRecordDepthMax = 9;
// A category that has escapes in a body is decoded into this much.
inline constexpr std::size_t kCategoryBytesMax = 4096;

// Room for what a number is as a string.
using NumberText = std::array<char, 32>;
// The shortest decimals; whole numbers without an exponent: so do most people write what is the name of a category.
[[nodiscard]] std::string_view write_number(double value, NumberText& text) noexcept;

// A value that a plan names: a category, or what an absent field is.
using RecordValue = std::variant<std::string, bool, double>;

struct RecordFieldSpec {
  std::vector<std::string> path;
  RecordKind kind = RecordKind::kNumber;
  bool required = true;  // by the object that it is in
  bool nullable = false;
  bool coerce = false;
  bool open = false;     // categories that are not listed are taken, too
  bool picture = false;  // a tensor of the pixels of a file, which another process decodes
  bool exclusive_minimum = false;
  bool exclusive_maximum = false;
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  std::vector<RecordValue> categories = {};
  std::optional<RecordValue> absent = {};
};

// An object that has fields; an empty path is the record itself. `closed`: it takes no other members.
struct RecordObjectSpec {
  std::vector<std::string> path;
  bool required = true;
  bool closed = false;
};

// Texts to their places. The texts are a plan's: clients cannot fill it.
class TextTable {
 public:
  // An equal text that came before keeps its place.
  void add(std::string text, std::int32_t place);
  [[nodiscard]] std::int32_t find(std::string_view text) const noexcept;  // -1: it is not there
  [[nodiscard]] bool empty() const noexcept { return texts_.empty(); }

 private:
  struct Entry {
    std::uint32_t hash = 0;
    std::int32_t text = -1;
  };
  void place_entry(std::uint32_t hash, std::int32_t text) noexcept;

  std::vector<std::pair<std::string, std::int32_t>> texts_;
  std::vector<Entry> entries_;
};

// A field, or an object with fields.
struct RecordElement {
  RecordKind kind = RecordKind::kObject;
  bool required = true;
  bool nullable = false;
  bool coerce = false;
  bool open = false;
  bool picture = false;
  bool exclusive_minimum = false;  // for messages: the bounds below are inclusive
  bool exclusive_maximum = false;
  bool closed = false;       // of an object
  bool may_miss = false;     // it is not required, or an object around it is not
  std::uint32_t parent = 0;  // element
  std::uint32_t target = 0;  // slot, or tensor of the row
  std::uint32_t first = 0;   // of an object: its members are elements first to last - 1
  std::uint32_t last = 0;
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  double absent = std::numeric_limits<double>::quiet_NaN();
  std::string absent_text;
  std::string name;    // in its object
  std::string quoted;  // the same as most bodies have it
  std::string path;    // with dots
  std::string expected;
  TextTable texts;                                       // of an object its members, of a category its strings
  std::vector<std::pair<double, std::int32_t>> numbers;  // categories, ascending
  std::int32_t places = 0;                               // of a category
  std::int32_t booleans[2] = {-1, -1};                   // places of the categories false and true
};

class RecordPlan {
 public:
  // `schema` is that of the ring. std::invalid_argument when the fields are none, or not what the ring has.
  RecordPlan(const std::vector<RecordFieldSpec>& fields, const std::vector<RecordObjectSpec>& objects,
             const ModelSchema& schema);

  // The first is the record itself; the members of an object stand side by side.
  [[nodiscard]] const std::vector<RecordElement>& elements() const noexcept { return elements_; }
  [[nodiscard]] std::size_t slots() const noexcept { return slots_; }
  // The row has nothing but slots.
  [[nodiscard]] bool is_slots() const noexcept { return tensors_ == 0; }
  [[nodiscard]] std::uint32_t element_of_slot(std::size_t slot) const noexcept { return by_slot_[slot]; }
  // A field by its path with dots; nothing for what is none.
  [[nodiscard]] std::optional<std::uint32_t> find_path(std::string_view path) const noexcept;
  // How it looks tensor by tensor: an input for each field, in their order, and the model's outputs.
  [[nodiscard]] const ModelSchema& face() const noexcept { return face_; }
  [[nodiscard]] std::uint32_t element_of_face(std::size_t input) const noexcept { return by_field_[input]; }

 private:
  void add_members(std::uint32_t object, const std::vector<std::string>& path,
                   const std::vector<RecordFieldSpec>& fields, const std::vector<RecordObjectSpec>& objects);
  void place_fields(const std::vector<RecordFieldSpec>& fields, const ModelSchema& schema);

  std::vector<RecordElement> elements_;
  std::vector<std::uint32_t> by_field_;
  std::vector<std::uint32_t> by_slot_;
  TextTable paths_;
  std::size_t slots_ = 0;
  std::size_t tensors_ = 0;
  ModelSchema face_;
};

}  // namespace penstock::dataplane
