#include "bindings_text.hpp"

#include <nanobind/stl/string.h>

#include <string_view>

#include "penstock/kernels/text.hpp"

namespace nb = nanobind;

namespace penstock::batcher {
namespace {

nb::object object_array(std::uint32_t rows, const TensorSpec& tensor) {
  nb::list shape;
  shape.append(rows);
  for (const std::uint32_t extent : tensor.shape) shape.append(extent);
  return nb::module_::import_("numpy").attr("empty")(nb::tuple(shape), "O");
}

PyObject* text_object(std::string_view text, bool as_str) {
  const auto bytes = static_cast<Py_ssize_t>(text.size());
  PyObject* const made = as_str ? PyUnicode_DecodeUTF8(text.data(), bytes, "surrogateescape")
                                : PyBytes_FromStringAndSize(text.data(), bytes);
  if (made == nullptr) throw nb::python_error();
  return made;
}

// The bytes of a str or bytes object; `held` keeps them where they had to be made. False: it is neither, or no UTF-8
// can say it.
bool bytes_of(PyObject* object, nb::object& held, std::string_view& out) {
  Py_ssize_t bytes = 0;
  if (PyUnicode_Check(object)) {
    const char* text = PyUnicode_AsUTF8AndSize(object, &bytes);
    if (text != nullptr) {
      out = {text, static_cast<std::size_t>(bytes)};
      return true;
    }
    PyErr_Clear();
    held = nb::steal(PyUnicode_AsEncodedString(object, "utf-8", "surrogateescape"));
    if (!held.is_valid()) {
      PyErr_Clear();
      return false;
    }
    object = held.ptr();
  }
  if (!PyBytes_Check(object)) return false;
  out = {PyBytes_AS_STRING(object), static_cast<std::size_t>(PyBytes_GET_SIZE(object))};
  return true;
}

}  // namespace

nb::object read_texts(const std::byte* first, std::uint32_t rows, const TensorSpec& tensor, bool as_str,
                      std::vector<std::uint32_t>& damaged) {
  nb::object array = object_array(rows, tensor);
  Py_buffer buffer;
  if (PyObject_GetBuffer(array.ptr(), &buffer, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0)
    throw nb::python_error();
  auto* items = static_cast<PyObject**>(buffer.buf);
  const std::uint64_t elements = tensor.elements();
  for (std::uint32_t row = 0; row < rows; ++row) {
    const std::byte* const storage = first + row * tensor.bytes();
    for (std::uint64_t element = 0; element < elements; ++element) {
      std::string_view text;
      if (!text_at(tensor, storage, element, text)) {
        text = "";
        if (damaged.empty() || damaged.back() != row) damaged.push_back(row);
      }
      PyObject* const before = *items;
      *items++ = text_object(text, as_str);
      Py_XDECREF(before);
    }
  }
  PyBuffer_Release(&buffer);
  array.attr("setflags")(nb::arg("write") = false);
  return array;
}

nb::object room_for_texts(std::uint32_t rows, const TensorSpec& tensor) { return object_array(rows, tensor); }

TextRows::TextRows(nb::handle array, std::uint32_t rows, const TensorSpec& tensor) : tensor_(tensor) {
  // A model may have done anything to its array.
  if (PyObject_GetBuffer(array.ptr(), &buffer_, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0) {
    PyErr_Clear();
    buffer_.obj = nullptr;
    return;
  }
  usable_ = std::string_view(buffer_.format) == "O" &&
            static_cast<std::uint64_t>(buffer_.len) == rows * tensor.elements() * sizeof(PyObject*);
}

TextRows::~TextRows() {
  if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
}

std::string TextRows::store(std::uint32_t row, std::byte* storage) const {
  const auto what = [this] { return "output '" + tensor_.name + "'"; };
  if (!usable_) return what() + " has another shape than it was given";
  const std::uint64_t elements = tensor_.elements();
  PyObject* const* const items = static_cast<PyObject* const*>(buffer_.buf) + row * elements;
  TextWriter writer(tensor_, storage);
  for (std::uint64_t element = 0; element < elements; ++element) {
    PyObject* const item = items[element];
    nb::object held;
    std::string_view text;
    if (item == nullptr || !bytes_of(item, held, text)) {
      const char* const got = item == nullptr ? "nothing" : Py_TYPE(item)->tp_name;
      return what() + " holds " + got + " where a string was expected";
    }
    if (!writer.append(element, text))
      return what() + " has more than " + std::to_string(tensor_.heap_bytes) +
             " bytes of strings: set string_bytes_max";
  }
  writer.finish();
  return {};
}

}  // namespace penstock::batcher
