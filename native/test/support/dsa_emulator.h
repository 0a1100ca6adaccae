// Emulators for tests: their sysfs folders lie in memory where that can be had, because each has some hundred files.
#pragma once

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include <unistd.h>

#include "../../dsa/emulator/emulator.h"

namespace vmsnap::test {

/// Null with `error` in words. No other thread may be asking for environment variables.
inline std::unique_ptr<dsa::Emulator> create_emulator(const dsa::EmulatorConfig& config, std::string& error) {
  if (access("/dev/shm", W_OK) != 0) return dsa::Emulator::create(config, error);
  const char* const before = std::getenv("TMPDIR");
  const std::optional<std::string> kept = before == nullptr ? std::nullopt : std::optional<std::string>(before);
  setenv("TMPDIR", "/dev/shm", 1);
  std::unique_ptr<dsa::Emulator> emulator = dsa::Emulator::create(config, error);
  if (kept) {
    setenv("TMPDIR", kept->c_str(), 1);
  } else {
    unsetenv("TMPDIR");
  }
  return emulator;
}

}  // namespace vmsnap::test
