// Runs the registered tests, or those whose name contains the argument. Fails if one failed or none was run.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <vector>

#include "check.h"

namespace vmsnap::test {

namespace {

struct Test {
  const char* name;
  TestFunction function;
};

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

int g_failures = 0;
bool g_skipped = false;

}  // namespace

Registration::Registration(const char* name, TestFunction function) { tests().push_back({name, function}); }

void skip(const std::string& reason) {
  std::cout << "  SKIPPED: " << reason << '\n';
  g_skipped = true;
}

void report_failure(const char* file, int line, const std::string& what) {
  std::cerr << "  " << file << ':' << line << ": failed: " << what << '\n';
  // A loop that fails at every step says nothing new after a while.
  if (++g_failures == 50) {
    std::cerr << "too many failures\n";
    std::exit(1);
  }
}

int run(const char* filter) {
  int ran = 0;
  int failed = 0;
  int skipped = 0;
  for (const Test& test : tests()) {
    if (std::strstr(test.name, filter) == nullptr) continue;
    std::cout << test.name << std::endl;
    const int failures_before = g_failures;
    g_skipped = false;
    test.function();
    ++ran;
    skipped += g_skipped ? 1 : 0;
    failed += g_failures > failures_before ? 1 : 0;
  }
  std::cout << ran << " tests, " << failed << " failed, " << skipped << " skipped\n";
  return ran > 0 && failed == 0 ? 0 : 1;
}

}  // namespace vmsnap::test

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // as in Node
  return vmsnap::test::run(argc > 1 ? argv[1] : "");
}
