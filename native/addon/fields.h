// Plain objects to JavaScript, property by property.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include <napi.h>

namespace vmsnap::addon {

class Fields {
 public:
  explicit Fields(Napi::Env env) : env_(env), object_(Napi::Object::New(env)) {}

  Fields& text(const char* name, const std::string& value) { return set(name, Napi::String::New(env_, value)); }
  Fields& boolean(const char* name, bool value) { return set(name, Napi::Boolean::New(env_, value)); }
  /// Above 2^53 - 1 it is that.
  Fields& number(const char* name, uint64_t value) {
    constexpr uint64_t kMaxSafe = (uint64_t{1} << 53) - 1;
    return set(name, Napi::Number::New(env_, static_cast<double>(std::min(value, kMaxSafe))));
  }
  Fields& integer(const char* name, int value) { return set(name, Napi::Number::New(env_, value)); }
  Fields& seconds(const char* name, uint64_t nanoseconds) {
    return set(name, Napi::Number::New(env_, static_cast<double>(nanoseconds) / 1e9));
  }
  Fields& set(const char* name, Napi::Value value) {
    object_.Set(name, value);
    return *this;
  }
  template <class Items, class Convert>
  Fields& list(const char* name, const Items& items, Convert convert) {
    Napi::Array array = Napi::Array::New(env_);
    for (const auto& item : items) array.Set(array.Length(), convert(item));
    return set(name, array);
  }

  Napi::Object object() const { return object_; }

 private:
  Napi::Env env_;
  Napi::Object object_;
};

}  // namespace vmsnap::addon
