// A test is a function; a failed check is printed and counted, and the test goes on.
#pragma once

#include <iostream>
#include <string>
#include <type_traits>

namespace vmsnap::test {

using TestFunction = void (*)();

struct Registration {
  Registration(const char* name, TestFunction function);
};

/// Ends the present test as skipped; the reason is printed. To be followed by return.
void skip(const std::string& reason);

void report_failure(const char* file, int line, const std::string& what);

template <class Left, class Right>
void check_equal(const Left& left, const Right& right, const char* text, const char* file, int line) {
  if (left == right) return;
  if constexpr (std::is_arithmetic_v<Left> && std::is_arithmetic_v<Right>) {
    std::cerr << "  left: " << +left << "  right: " << +right << '\n';
  }
  report_failure(file, line, text);
}

}  // namespace vmsnap::test

#define TEST(name)                                                                 \
  static void test_##name();                                                       \
  static const vmsnap::test::Registration registration_##name(#name, test_##name); \
  static void test_##name()

#define CHECK(condition) ((condition) ? void() : vmsnap::test::report_failure(__FILE__, __LINE__, #condition))

#define CHECK_EQ(left, right) vmsnap::test::check_equal(left, right, #left " == " #right, __FILE__, __LINE__)
