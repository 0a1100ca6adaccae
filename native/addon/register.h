// The parts of the module; each adds its functions to the exports.
#pragma once

#include <napi.h>

namespace vmsnap::addon {

void register_scanner(Napi::Env env, Napi::Object exports);
void register_dsa(Napi::Env env, Napi::Object exports);
void register_dsa_doctor(Napi::Env env, Napi::Object exports);
void register_digests(Napi::Env env, Napi::Object exports);
void register_duplicates(Napi::Env env, Napi::Object exports);
void register_segments(Napi::Env env, Napi::Object exports);
void register_files(Napi::Env env, Napi::Object exports);
void register_qemu(Napi::Env env, Napi::Object exports);
void register_live(Napi::Env env, Napi::Object exports);
void register_streams(Napi::Env env, Napi::Object exports);

template <class Function>
void export_function(Napi::Env env, Napi::Object exports, const char* name, Function function) {
  exports.Set(name, Napi::Function::New(env, function, name));
}

}  // namespace vmsnap::addon
