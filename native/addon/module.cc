// The N-API module: native/binding.ts says what each function does. It loads in any number of worker threads;
// the open DSA devices and the readers of QEMU streams are all that their environments share (dsa.cc, qemu.cc, under
// locks).
#include "register.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  vmsnap::addon::register_scanner(env, exports);
  vmsnap::addon::register_dsa(env, exports);
  vmsnap::addon::register_dsa_doctor(env, exports);
  vmsnap::addon::register_digests(env, exports);
  vmsnap::addon::register_duplicates(env, exports);
  vmsnap::addon::register_segments(env, exports);
  vmsnap::addon::register_files(env, exports);
  vmsnap::addon::register_live(env, exports);
  vmsnap::addon::register_streams(env, exports);
  vmsnap::addon::register_qemu(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(vmsnap, init)
