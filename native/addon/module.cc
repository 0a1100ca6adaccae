// The N-API module: native/binding.ts says what each function does. No state is shared between environments, so it
// loads in any number of worker threads.
#include "register.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  vmsnap::addon::register_scanner(env, exports);
  vmsnap::addon::register_digests(env, exports);
  vmsnap::addon::register_segments(env, exports);
  vmsnap::addon::register_files(env, exports);
  vmsnap::addon::register_streams(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(vmsnap, init)
