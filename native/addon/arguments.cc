#include "arguments.h"

#include <climits>
#include <cmath>

#include "../base/limits.h"

namespace vmsnap::addon {

void Arguments::type_error(const std::string& message) {
  if (ok_) Napi::TypeError::New(env(), message).ThrowAsJavaScriptException();
  ok_ = false;
}

void Arguments::range_error(const std::string& message) {
  if (ok_) Napi::RangeError::New(env(), message).ThrowAsJavaScriptException();
  ok_ = false;
}

int64_t Arguments::integer_of(Napi::Value value, const char* name, int64_t low, int64_t high) {
  if (!ok_) return low;
  if (!value.IsNumber()) {
    type_error(std::string(name) + " must be a number");
    return low;
  }
  const double number = value.As<Napi::Number>().DoubleValue();
  // Written so that NaN fails too.
  if (!(number >= static_cast<double>(low) && number <= static_cast<double>(high)) || std::trunc(number) != number) {
    range_error(std::string(name) + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
    return low;
  }
  return static_cast<int64_t>(number);
}

int64_t Arguments::integer(size_t index, const char* name, int64_t low, int64_t high) {
  return integer_of(info_[index], name, low, high);
}

int Arguments::file_descriptor(size_t index) { return static_cast<int>(integer(index, "fd", 0, INT_MAX)); }

uint64_t Arguments::position(size_t index, const char* name) {
  return static_cast<uint64_t>(integer(index, name, 0, static_cast<int64_t>(kMaxPosition)));
}

bool Arguments::boolean(size_t index, const char* name) {
  const Napi::Value value = info_[index];
  if (!ok_) return false;
  if (!value.IsBoolean()) {
    type_error(std::string(name) + " must be a boolean");
    return false;
  }
  return value.As<Napi::Boolean>().Value();
}

std::string Arguments::path(size_t index, const char* name) {
  const Napi::Value value = info_[index];
  if (!ok_) return {};
  if (!value.IsString()) {
    type_error(std::string(name) + " must be a string");
    return {};
  }
  std::string text = value.As<Napi::String>().Utf8Value();
  if (text.find('\0') != std::string::npos) {
    type_error(std::string(name) + " must not contain NUL characters");
    return {};
  }
  return text;
}

template <class Element>
std::span<Element> Arguments::elements(Napi::Value value, const char* name, napi_typedarray_type type,
                                       const char* type_name, uint64_t least) {
  if (!ok_) return {};
  // Napi::TypedArray would go through its ArrayBuffer, which a view of a SharedArrayBuffer does not have.
  napi_typedarray_type actual = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  if (!value.IsTypedArray() ||
      napi_get_typedarray_info(env(), value, &actual, &length, &data, nullptr, nullptr) != napi_ok || actual != type) {
    type_error(std::string(name) + " must be a " + type_name);
    return {};
  }
  if (length < least) {
    range_error(std::string(name) + " must have at least " + std::to_string(least) + " elements, not " +
                std::to_string(length));
    return {};
  }
  return {static_cast<Element*>(data), length};
}

std::span<uint8_t> Arguments::bytes_of(Napi::Value value, const char* name, uint64_t least) {
  return elements<uint8_t>(value, name, napi_uint8_array, "Uint8Array", least);
}

std::span<uint64_t> Arguments::words_of(Napi::Value value, const char* name, uint64_t least) {
  return elements<uint64_t>(value, name, napi_biguint64_array, "BigUint64Array", least);
}

std::span<double> Arguments::doubles_of(Napi::Value value, const char* name, uint64_t least) {
  return elements<double>(value, name, napi_float64_array, "Float64Array", least);
}

std::span<uint8_t> Arguments::bytes(size_t index, const char* name, uint64_t least) {
  return bytes_of(info_[index], name, least);
}

std::span<uint64_t> Arguments::words(size_t index, const char* name, uint64_t least) {
  return words_of(info_[index], name, least);
}

std::span<int32_t> Arguments::ints(size_t index, const char* name, uint64_t least) {
  return elements<int32_t>(info_[index], name, napi_int32_array, "Int32Array", least);
}

std::span<double> Arguments::doubles(size_t index, const char* name, uint64_t least) {
  return doubles_of(info_[index], name, least);
}

Napi::Value Arguments::property(size_t object_index, const char* object_name, const char* name) {
  const Napi::Value object = info_[object_index];
  if (ok_ && !object.IsObject()) type_error(std::string(object_name) + " must be an object");
  if (!ok_) return env().Undefined();
  const Napi::Value value = object.As<Napi::Object>().Get(name);
  if (value.IsEmpty()) {  // a getter threw: its exception is already on the way
    ok_ = false;
    return env().Undefined();
  }
  return value;
}

std::span<uint8_t> Arguments::byte_range(size_t index, const char* name) {
  const std::span<uint8_t> all = bytes(index, name);
  const uint64_t offset = position(index + 1, "offset");
  const uint64_t length = position(index + 2, "length");
  if (!ok_) return {};
  if (offset > all.size() || length > all.size() - offset) {
    range_error(std::string("offset and length must lie within ") + name + " (" + std::to_string(all.size()) +
                " bytes)");
    return {};
  }
  return all.subspan(offset, length);
}

const int32_t* Arguments::word(size_t array_index, const char* array_name, size_t index_index, const char* index_name) {
  const std::span<const int32_t> words = ints(array_index, array_name);
  const uint64_t at = position(index_index, index_name);
  if (!ok()) return nullptr;
  if (at < words.size()) return &words[at];
  range_error(std::string(index_name) + " must lie within " + array_name);
  return nullptr;
}

}  // namespace vmsnap::addon
