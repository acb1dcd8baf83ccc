#include "codec/record_plan.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "codec/codec_date.hpp"
#include "http/json_text.hpp"
#include "penstock/kernels/hash_text.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kExpectedBytesMax = 100;

std::string joined(const std::vector<std::string>& path) {
  std::string text;
  for (const std::string& name : path) text.append(text.empty() ? "" : ".").append(name);
  return text;
}

bool is_inside(const std::vector<std::string>& path, const std::vector<std::string>& object) {
  return path.size() == object.size() + 1 && std::equal(object.begin(), object.end(), path.begin());
}

std::string number_text(double value) {
  NumberText text;
  return std::string(write_number(value, text));
}

std::string json_text(std::string_view text) {
  std::string out(6 * text.size() + 2, '\0');
  out.resize(static_cast<std::size_t>(write_json_string(out.data(), text) - out.data()));
  return out;
}

std::string value_text(const RecordValue& value) {
  if (const auto* const text = std::get_if<std::string>(&value)) return json_text(*text);
  if (const auto* const flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
  return number_text(std::get<double>(value));
}

// "from 0 to 120", "above 0", or nothing.
std::string bounds_text(const RecordFieldSpec& field) {
  std::string text;
  if (std::isfinite(field.minimum))
    text.append(field.exclusive_minimum ? " above " : " from ").append(number_text(field.minimum));
  if (std::isfinite(field.maximum))
    text.append(field.exclusive_maximum ? " below " : " up to ").append(number_text(field.maximum));
  return text;
}

// " of 2 to 20 characters", " of at least 2 characters", or nothing.
std::string length_text(const RecordFieldSpec& field) {
  const bool has_least = field.minimum > 0;
  if (!std::isfinite(field.maximum))
    return has_least ? " of at least " + number_text(field.minimum) + " characters" : std::string();
  return (has_least ? " of " + number_text(field.minimum) + " to " : " of up to ") + number_text(field.maximum) +
         " characters";
}

// "a category, which is a string", as far as those that are listed say what it is.
std::string open_category_text(const RecordFieldSpec& field) {
  constexpr std::array<std::string_view, 3> kTypes{"a string", "a boolean", "a number"};  // as RecordValue has them
  std::string text = "a category";
  std::string_view before = ", which is ";
  for (std::size_t type = 0; type < kTypes.size(); ++type) {
    if (std::ranges::none_of(field.categories, [type](const RecordValue& value) { return value.index() == type; }))
      continue;
    text.append(before).append(kTypes[type]);
    before = " or ";
  }
  return text;
}

std::string categories_text(const RecordFieldSpec& field) {
  if (field.open) return open_category_text(field);
  std::string text = "one of ";
  for (std::size_t i = 0; i < field.categories.size(); ++i) {
    const std::string value = value_text(field.categories[i]);
    if (text.size() + value.size() > kExpectedBytesMax) return text + "...";
    text.append(i == 0 ? "" : ", ").append(value);
  }
  return text;
}

std::string expected_text(const RecordFieldSpec& field) {
  switch (field.kind) {
    case RecordKind::kObject:
      return "an object";
    case RecordKind::kNumber:
      return "a number" + bounds_text(field);
    case RecordKind::kInteger:
      return "a whole number" + bounds_text(field);
    case RecordKind::kBoolean:
      return "true or false";
    case RecordKind::kCategory:
      return categories_text(field);
    case RecordKind::kDate:
      return "a date-time such as 2026-01-31T12:00:00Z, or a date";
    case RecordKind::kImage:
      return "an image in base64";
    case RecordKind::kHash:
    case RecordKind::kText:
      return "a string" + length_text(field);
    case RecordKind::kTensor:
      if (field.picture) return "an image in base64";
      break;
  }
  return "an array";
}

void add_categories(const RecordFieldSpec& field, RecordElement& element) {
  element.places = static_cast<std::int32_t>(field.categories.size());
  for (std::size_t place = 0; place < field.categories.size(); ++place) {
    const auto at = static_cast<std::int32_t>(place);
    const RecordValue& value = field.categories[place];
    if (const auto* const text = std::get_if<std::string>(&value)) {
      if (text->size() > kCategoryBytesMax) throw std::invalid_argument("a category has more than 4096 bytes");
      element.texts.add(*text, at);
    } else if (const auto* const flag = std::get_if<bool>(&value)) {
      element.booleans[*flag ? 1 : 0] = at;
    } else {
      element.numbers.emplace_back(std::get<double>(value), at);
    }
  }
  std::ranges::sort(element.numbers);
}

std::int32_t place_of(const RecordElement& element, const RecordValue& value) {
  if (const auto* const text = std::get_if<std::string>(&value)) return element.texts.find(*text);
  if (const auto* const flag = std::get_if<bool>(&value)) return element.booleans[*flag ? 1 : 0];
  const auto found =
      std::ranges::find(element.numbers, std::get<double>(value), &std::pair<double, std::int32_t>::first);
  return found == element.numbers.end() ? -1 : found->second;
}

// What the slot of an absent field is.
double absent_slot(const RecordElement& element, const RecordValue& value) {
  const auto* const text = std::get_if<std::string>(&value);
  switch (element.kind) {
    case RecordKind::kCategory: {
      const std::int32_t place = place_of(element, value);
      if (place < 0 && !element.open) break;
      return place;
    }
    case RecordKind::kHash:
      if (text == nullptr) break;
      return hash_text(*text);
    case RecordKind::kDate:
      if (double seconds = 0; text != nullptr && read_date(*text, seconds)) return seconds;
      break;
    default:
      if (const auto* const flag = std::get_if<bool>(&value)) return *flag ? 1 : 0;
      if (const auto* const number = std::get_if<double>(&value)) return *number;
  }
  throw std::invalid_argument("field " + element.path + ": its default is no value of it");
}

RecordElement element_of(const RecordFieldSpec& field) {
  RecordElement element;
  element.kind = field.kind;
  element.required = field.required;
  element.nullable = field.nullable;
  element.coerce = field.coerce;
  element.open = field.open;
  element.picture = field.picture;
  element.exclusive_minimum = field.exclusive_minimum;
  element.exclusive_maximum = field.exclusive_maximum;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  // Of float64 the next one is the least that is above.
  element.low = field.exclusive_minimum ? std::nextafter(field.minimum, kInfinity) : field.minimum;
  element.high = field.exclusive_maximum ? std::nextafter(field.maximum, -kInfinity) : field.maximum;
  element.path = joined(field.path);
  element.expected = expected_text(field);
  add_categories(field, element);
  if (!field.absent.has_value()) return element;
  if (has_slot(field.kind)) {
    element.absent = absent_slot(element, *field.absent);
  } else if (const auto* const text = std::get_if<std::string>(&*field.absent)) {
    element.absent_text = *text;
  }
  return element;
}

void add_object(const RecordObjectSpec& object, std::vector<RecordElement>& members) {
  const std::string& name = object.path.back();
  if (std::ranges::find(members, name, &RecordElement::name) != members.end()) return;
  RecordElement element;
  element.required = object.required;
  element.closed = object.closed;
  element.name = name;
  element.path = joined(object.path);
  element.expected = "an object";
  members.push_back(std::move(element));
}

TensorSpec face_of(const RecordElement& element) {
  switch (element.kind) {
    case RecordKind::kInteger:
      return {element.path, DType::kInt64, {}};
    case RecordKind::kBoolean:
      return {element.path, DType::kBool, {}};
    case RecordKind::kCategory:
      if (!element.texts.empty()) break;
      return {element.path, element.numbers.empty() ? DType::kBool : DType::kFloat64, {}};
    case RecordKind::kDate:
    case RecordKind::kHash:
      break;
    default:
      return {element.path, DType::kFloat64, {}};
  }
  return {element.path, DType::kBytes, {}, false, heap_bytes_of(1)};
}

}  // namespace

std::string_view write_number(double value, NumberText& text) noexcept {
  const bool whole = value == std::trunc(value) && std::fabs(value) <= kWholeMax;
  const auto end = whole ? std::to_chars(text.data(), text.data() + text.size(), static_cast<std::int64_t>(value))
                         : std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), static_cast<std::size_t>(end.ptr - text.data())};
}

void TextTable::add(std::string text, std::int32_t place) {
  if (find(text) >= 0) return;
  const std::uint32_t hash = hash_text(text);
  texts_.emplace_back(std::move(text), place);
  if (entries_.size() < 2 * texts_.size()) {
    std::vector<Entry> before(std::max<std::size_t>(4, 4 * texts_.size()));
    std::size_t size = 4;
    while (size < before.size()) size *= 2;
    before.assign(size, {});
    before.swap(entries_);
    for (const Entry& entry : before) {
      if (entry.text >= 0) place_entry(entry.hash, entry.text);
    }
  }
  place_entry(hash, static_cast<std::int32_t>(texts_.size() - 1));
}

void TextTable::place_entry(std::uint32_t hash, std::int32_t text) noexcept {
  std::size_t at = hash & (entries_.size() - 1);
  while (entries_[at].text >= 0) at = (at + 1) & (entries_.size() - 1);
  entries_[at] = {hash, text};
}

std::int32_t TextTable::find(std::string_view text) const noexcept {
  if (entries_.empty()) return -1;
  const std::uint32_t hash = hash_text(text);
  for (std::size_t at = hash & (entries_.size() - 1); entries_[at].text >= 0; at = (at + 1) & (entries_.size() - 1)) {
    const auto& known = texts_[static_cast<std::size_t>(entries_[at].text)];
    if (entries_[at].hash == hash && known.first == text) return known.second;
  }
  return -1;
}

RecordPlan::RecordPlan(const std::vector<RecordFieldSpec>& fields, const std::vector<RecordObjectSpec>& objects,
                       const ModelSchema& schema) {
  if (fields.empty()) throw std::invalid_argument("a record has no fields");
  if (fields.size() + objects.size() + 1 > kRecordElementsMax)
    throw std::invalid_argument("a record has more fields and objects than " + std::to_string(kRecordElementsMax));
  RecordElement root;
  root.expected = "an object";
  for (const RecordObjectSpec& object : objects) root.closed = root.closed || (object.path.empty() && object.closed);
  elements_.push_back(std::move(root));
  std::vector<std::vector<std::string>> paths{{}};
  // Breadth first, so that the members of an object stand side by side.
  for (std::uint32_t object = 0; object < elements_.size(); ++object) {
    if (elements_[object].kind != RecordKind::kObject) continue;
    if (paths[object].size() >= kRecordDepthMax) throw std::invalid_argument("a record is nested too deep");
    add_members(object, paths[object], fields, objects);
    paths.resize(elements_.size());
    for (const RecordObjectSpec& inner : objects) {
      if (!is_inside(inner.path, paths[object])) continue;
      const std::int32_t at = elements_[object].texts.find(inner.path.back());
      if (at >= 0) paths[static_cast<std::size_t>(at)] = inner.path;
    }
  }
  place_fields(fields, schema);
}

void RecordPlan::add_members(std::uint32_t object, const std::vector<std::string>& path,
                             const std::vector<RecordFieldSpec>& fields, const std::vector<RecordObjectSpec>& objects) {
  std::vector<RecordElement> members;
  for (const RecordFieldSpec& field : fields) {
    if (is_inside(field.path, path)) {
      members.push_back(element_of(field));
      members.back().name = field.path.back();
      continue;
    }
    if (field.path.size() < path.size() + 2 || !std::equal(path.begin(), path.end(), field.path.begin())) continue;
    // An object stands where its first field does.
    const auto above = std::ranges::find_if(objects, [&](const RecordObjectSpec& inner) {
      return is_inside(inner.path, path) && inner.path.size() < field.path.size() &&
             std::equal(inner.path.begin(), inner.path.end(), field.path.begin());
    });
    if (above == objects.end()) continue;
    add_object(*above, members);
  }
  for (const RecordObjectSpec& inner : objects) {
    if (is_inside(inner.path, path)) add_object(inner, members);
  }
  const auto first = static_cast<std::uint32_t>(elements_.size());
  elements_[object].first = first;
  for (RecordElement& member : members) {
    member.parent = object;
    member.may_miss = !member.required || elements_[object].may_miss;
    const std::string quoted = json_text(member.name);
    // A body may write it otherwise: then it is looked up.
    member.quoted = quoted;
    const auto at = static_cast<std::int32_t>(elements_.size());
    if (elements_[object].texts.find(member.name) >= 0)
      throw std::invalid_argument("field " + member.path + " is there twice");
    elements_[object].texts.add(member.name, at);
    elements_.push_back(std::move(member));
  }
  elements_[object].last = static_cast<std::uint32_t>(elements_.size());
}

void RecordPlan::place_fields(const std::vector<RecordFieldSpec>& fields, const ModelSchema& schema) {
  const std::vector<TensorSpec>& inputs = schema.inputs.tensors();
  for (std::uint32_t at = 1; at < elements_.size(); ++at) {
    if (elements_[at].kind == RecordKind::kObject) continue;
    if (paths_.find(elements_[at].path) >= 0)
      throw std::invalid_argument("the path " + elements_[at].path + " is that of two fields");
    paths_.add(elements_[at].path, static_cast<std::int32_t>(at));
  }
  for (const RecordFieldSpec& field : fields) slots_ += has_slot(field.kind) ? 1 : 0;
  std::vector<TensorSpec> face;
  std::uint32_t tensor = slots_ == 0 ? 0 : 1;
  for (const RecordFieldSpec& field : fields) {
    const std::int32_t at = paths_.find(joined(field.path));
    if (at < 0) throw std::invalid_argument("field " + joined(field.path) + " is in no object");
    RecordElement& element = elements_[static_cast<std::size_t>(at)];
    by_field_.push_back(static_cast<std::uint32_t>(at));
    if (has_slot(field.kind)) {
      element.target = static_cast<std::uint32_t>(by_slot_.size());
      by_slot_.push_back(static_cast<std::uint32_t>(at));
      face.push_back(face_of(element));
      continue;
    }
    element.target = tensor++;
    ++tensors_;
    if (element.target >= inputs.size() || inputs[element.target].name != element.path || inputs[element.target].varies)
      throw std::invalid_argument("the model has no input for the field " + element.path);
    const bool is_text = field.kind != RecordKind::kTensor;
    if (is_text != (inputs[element.target].dtype == DType::kBytes) ||
        (is_text && !inputs[element.target].shape.empty()))
      throw std::invalid_argument("the input of field " + element.path + " has another type");
    if (element.absent_text.size() > inputs[element.target].heap_bytes)
      throw std::invalid_argument("field " + element.path +
                                  ": there is no room for its default (the model's setting string_bytes_max)");
    face.push_back(inputs[element.target]);
  }
  const bool slots_fit = slots_ == 0 || (!inputs.empty() && inputs[0].dtype == DType::kFloat64 && !inputs[0].varies &&
                                         inputs[0].elements() == slots_);
  if (tensor != inputs.size() || !slots_fit || by_field_.size() + 1 > elements_.size())
    throw std::invalid_argument("the model's inputs are not those of its record");
  face_ = {RowLayout(std::move(face)), schema.outputs};
}

std::optional<std::uint32_t> RecordPlan::find_path(std::string_view path) const noexcept {
  const std::int32_t at = paths_.find(path);
  return at < 0 ? std::nullopt : std::optional(static_cast<std::uint32_t>(at));
}

}  // namespace penstock::dataplane
