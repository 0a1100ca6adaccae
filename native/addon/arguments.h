// Checked access to the arguments of a call from JavaScript.
//
// The first wrong argument is thrown as a TypeError or RangeError; from then on every getter answers a harmless value,
// so a function takes all its arguments and asks ok() once before it touches any memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <napi.h>

namespace vmsnap::addon {

/// Whether a number out of an array is an integer in [low, high]; high at most 2^53.
inline bool is_whole(double value, double low, double high) {
  return value >= low && value <= high && static_cast<double>(static_cast<int64_t>(value)) == value;
}

class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  bool ok() const { return ok_; }
  Napi::Env env() const { return info_.Env(); }
  /// Unchecked; undefined where it is left out.
  Napi::Value argument(size_t index) const { return info_[index]; }

  /// A number that is an integer in [low, high]; high at most 2^53.
  int64_t integer(size_t index, const char* name, int64_t low, int64_t high);
  int file_descriptor(size_t index);
  uint64_t position(size_t index, const char* name);
  bool boolean(size_t index, const char* name);
  /// Without NUL characters.
  std::string path(size_t index, const char* name);

  // Typed arrays, also over a SharedArrayBuffer, of at least `least` elements.
  std::span<uint8_t> bytes(size_t index, const char* name, uint64_t least = 0);
  std::span<uint64_t> words(size_t index, const char* name, uint64_t least = 0);
  std::span<int32_t> ints(size_t index, const char* name, uint64_t least = 0);
  std::span<double> doubles(size_t index, const char* name, uint64_t least = 0);

  /// One element of an Int32Array, given as the array and an index; nullptr where the arguments are wrong.
  const int32_t* word(size_t array_index, const char* array_name, size_t index_index, const char* index_name);

  // The same for the property `name` of an object argument.
  Napi::Value property(size_t object_index, const char* object_name, const char* name);
  std::span<uint8_t> bytes_of(Napi::Value value, const char* name, uint64_t least);
  std::span<uint64_t> words_of(Napi::Value value, const char* name, uint64_t least);
  std::span<double> doubles_of(Napi::Value value, const char* name, uint64_t least);
  int64_t integer_of(Napi::Value value, const char* name, int64_t low, int64_t high);

  /// Bytes [offset, offset + length) of the typed array at `index`; `index + 1` and `index + 2` are offset and length.
  std::span<uint8_t> byte_range(size_t index, const char* name);

  void type_error(const std::string& message);
  void range_error(const std::string& message);

 private:
  template <class Element>
  std::span<Element> elements(Napi::Value value, const char* name, napi_typedarray_type type, const char* type_name,
                              uint64_t least);

  const Napi::CallbackInfo& info_;
  bool ok_ = true;
};

}  // namespace vmsnap::addon
