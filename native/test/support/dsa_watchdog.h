// Ends the process with a message where something hangs that must not: a test that waits for ever says nothing.
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <unistd.h>

namespace vmsnap::test {

inline char g_watchdog_message[256];

/// One at a time. Generous: machines are shared, and sanitizers slow.
class Watchdog {
 public:
  Watchdog(const std::string& what, unsigned seconds) {
    std::snprintf(g_watchdog_message, sizeof g_watchdog_message, "  HANGS after %u s: %s\n", seconds, what.c_str());
    std::signal(SIGALRM, [](int) {
      static_cast<void>(!write(STDERR_FILENO, g_watchdog_message, std::strlen(g_watchdog_message)));
      _exit(1);
    });
    alarm(seconds);
  }
  ~Watchdog() {
    alarm(0);
    std::signal(SIGALRM, SIG_DFL);
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
};

}  // namespace vmsnap::test
