// What one step of opening or trying a queue gave, for JavaScript.
#pragma once

#include "../dsa/offload.h"
#include "../dsa/status.h"
#include "fields.h"

namespace vmsnap::addon {

inline Napi::Object step_object(Napi::Env env, const dsa::ProbeStep& step) {
  return Fields(env)
      .text("what", step.what)
      .integer("error", -step.error)
      .integer("status", step.status)
      .text("statusText", step.status == 0 ? "" : dsa::describe(step.status))
      .object();
}

}  // namespace vmsnap::addon
