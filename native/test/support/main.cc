// Runs the registered tests, or those whose name contains the argument. Fails if one failed or none was run.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <mutex>
#include <string>
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

std::mutex g_reporting;  // tests check on threads of their own, too
int g_failures = 0;
// What failed is said again at the end, where it is seen even if only the last lines of a long log are kept.
std::vector<std::string> g_reports;
bool g_skipped = false;

}  // namespace

Registration::Registration(const char* name, TestFunction function) { tests().push_back({name, function}); }

void skip(const std::string& reason) {
  std::cout << "  SKIPPED: " << reason << '\n';
  g_skipped = true;
}

void report_failure(const char* file, int line, const std::string& what) {
  const std::string report = std::string("  ") + file + ':' + std::to_string(line) + ": failed: " + what;
  const std::lock_guard guard(g_reporting);
  std::cerr << report << '\n';
  g_reports.push_back(report);
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
    if (g_failures == failures_before) continue;
    ++failed;
    g_reports.insert(g_reports.end() - (g_failures - failures_before), std::string("FAILED ") + test.name);
  }
  for (const std::string& report : g_reports) std::cout << report << '\n';
  std::cout << ran << " tests, " << failed << " failed, " << skipped << " skipped\n";
  return ran > 0 && failed == 0 ? 0 : 1;
}

}  // namespace vmsnap::test

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // as in Node
  return vmsnap::test::run(argc > 1 ? argv[1] : "");
}
