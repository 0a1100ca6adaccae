// Stores to an emulated portal: decoding, answers, the queue's limits, and faults that are somebody else's.
#if defined(__x86_64__)

#include <array>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/emulated.h"
#include "support/temp_file.h"

namespace vmsnap::test {

using namespace dsa;

TEST(dsa_emulator_takes_enqcmd_on_all_slots) {
  Rig rig;
  if (!rig.ready()) return;
  uint8_t* portal = static_cast<uint8_t*>(rig.portal());
  CHECK_EQ(rig.map_error(), 0);
  for (size_t slot = 0; slot < 64; ++slot) {
    auto record = std::make_unique<CompletionRecord>();
    const StoreAnswer answer = enqcmd(portal + slot * 64, descriptor_of(DSA_OPCODE_NOOP, record.get()));
    CHECK(!answer.zero_flag);
    CHECK_EQ(answer.ecx, 0U);
    CHECK_EQ(await_record(*record), DSA_COMP_SUCCESS);
  }
}

TEST(dsa_emulator_takes_movdir64b) {
  Rig rig({.devices = {{.queues = {{.mode = QueueMode::dedicated}}}}});
  if (!rig.ready()) return;
  Pages pages(1);
  pages.fill(0);
  std::array<CompletionRecord, 4> records{};
  for (CompletionRecord& record : records) movdir64b(rig.portal(), compval_of(pages.at(), 4096, 0, &record));
  for (CompletionRecord& record : records) CHECK_EQ(await_record(record), DSA_COMP_SUCCESS);
}

TEST(dsa_emulator_runs_a_batch_from_a_portal) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(128);
  pages.fill(0);
  for (size_t i = 0; i < 128; i += 3) pages.at(i * 4096)[i] = 1;
  alignas(64) static std::array<dsa_hw_desc, 128> list;
  static std::array<CompletionRecord, 129> records;
  records = {};
  for (size_t i = 0; i < 128; ++i) list[i] = compval_of(pages.at(i * 4096), 4096, 0, &records[i]);
  CHECK(!enqcmd(rig.portal(), batch_of(list.data(), 128, &records[128])).zero_flag);
  CHECK_EQ(await_record(records[128]), DSA_COMP_SUCCESS);
  CHECK_EQ(records[128].hw.bytes_completed, 128U);
  for (size_t i = 0; i < 128; ++i) {
    CHECK_EQ(records[i].hw.status, DSA_COMP_SUCCESS);
    CHECK_EQ(records[i].hw.result, i % 3 == 0 ? 1 : 0);
  }
  CHECK_EQ(rig.emulator().executed(), uint64_t{128});
}

TEST(dsa_emulator_decodes_operands_where_they_are) {
  Rig rig;
  if (!rig.ready()) return;
  struct Block {
    uint64_t before[8];
    dsa_hw_desc noop;
  };
  auto record = std::make_unique<CompletionRecord>();
  Block block{};
  block.noop = descriptor_of(DSA_OPCODE_NOOP, record.get());
  uint8_t* portal = static_cast<uint8_t*>(rig.portal());
  uint32_t ecx = 2;
  // enqcmd r9, [r13 + 2 * rsi + 0x40], with other things in the registers of other forms.
  asm volatile(
      "mov %[portal], %%r9\n\t"
      "mov %[block], %%r13\n\t"
      "mov $-8, %%rsi\n\t"
      ".byte 0xf2, 0x45, 0x0f, 0x38, 0xf8, 0x4c, 0x75, 0x50"
      : "+c"(ecx)
      : [portal] "r"(portal + 128), [block] "r"(&block)
      : "memory", "cc", "r9", "r13", "rsi");
  CHECK_EQ(ecx, 0U);
  CHECK_EQ(await_record(*record), DSA_COMP_SUCCESS);
}

TEST(dsa_emulator_leaves_all_other_registers_and_flags_alone) {
  Rig rig;
  if (!rig.ready()) return;
  auto record = std::make_unique<CompletionRecord>();
  const dsa_hw_desc noop = descriptor_of(DSA_OPCODE_NOOP, record.get());
  uint64_t rax = address_of(rig.portal());
  uint64_t rdx = address_of(&noop);
  uint64_t rcx = 0x123456789;
  uint64_t flags_of_enqcmd = 0;
  uint64_t flags_of_movdir64b = 0;
  uint64_t r8 = 0x8888888888888888;
  asm volatile(
      "mov %[eight], %%r8\n\t"
      "mov $0x7fffffff, %%r10d\n\t"
      "add $1, %%r10d\n\t"  // OF, SF, AF and PF
      ".byte 0x66, 0x0f, 0x38, 0xf8, 0x02\n\t"
      "pushfq\n\tpop %[by_movdir64b]\n\t"
      ".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02\n\t"
      "pushfq\n\tpop %[by_enqcmd]\n\t"
      "mov %%r8, %[eight]"
      : "+a"(rax), "+d"(rdx),
        "+c"(rcx), [by_enqcmd] "=&r"(flags_of_enqcmd), [by_movdir64b] "=&r"(flags_of_movdir64b), [eight] "+r"(r8)
      :
      : "memory", "cc", "r8", "r10");
  CHECK_EQ(rax, address_of(rig.portal()));
  CHECK_EQ(rdx, address_of(&noop));
  CHECK_EQ(rcx, uint64_t{0});
  CHECK_EQ(r8, uint64_t{0x8888888888888888});
  CHECK_EQ(flags_of_enqcmd & 0x8d5, uint64_t{0});
  CHECK_EQ(flags_of_movdir64b & 0x8d5, uint64_t{0x894});  // a handler leaves them, and so does the instruction
  CHECK_EQ(await_record(*record), DSA_COMP_SUCCESS);
}

namespace {

volatile int g_signal = 0;
volatile bool g_had_info = false;
void* volatile g_fault_address = nullptr;  // read in a handler
volatile bool g_blocked = false;

void note(int signal) {
  g_signal = signal;
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  // Of the signals that the handler asked for, and none that only ours has.
  g_blocked = sigismember(&blocked, SIGUSR1) == 1 && sigismember(&blocked, SIGUSR2) == 0;
}

void plain_handler(int signal) {
  note(signal);
  // Where the fault was, a page appears, so that the program goes on.
  if (signal == SIGSEGV) mprotect(g_fault_address, 4096, PROT_READ | PROT_WRITE);
}

void handler_with_info(int signal, siginfo_t* info, void*) {
  note(signal);
  g_had_info = info->si_signo == signal && info->si_addr == g_fault_address;
  mprotect(g_fault_address, 4096, PROT_READ | PROT_WRITE);
}

void set_handler(int signal, int flags, void (*plain)(int), void (*with_info)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  if (with_info != nullptr) {
    action.sa_sigaction = with_info;
  } else {
    action.sa_handler = plain;
  }
  action.sa_flags = flags;
  sigaddset(&action.sa_mask, SIGUSR1);
  sigaction(signal, &action, nullptr);
}

/// Runs in a child, which has an emulator with a mapped portal and, before it, the handlers of `prepare`. How it ended.
int in_child(void (*prepare)(), int (*body)()) {
  const TempFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    // It may end without a chance to remove its folder.
    setenv("TMPDIR", folder.path("").c_str(), 1);
    alarm(60);
    prepare();
    Rig rig;
    if (!rig.ready() || rig.portal() == nullptr) _exit(100);
    auto record = std::make_unique<CompletionRecord>();
    if (enqcmd(rig.portal(), descriptor_of(DSA_OPCODE_NOOP, record.get())).ecx != 0) _exit(101);
    if (await_record(*record) != DSA_COMP_SUCCESS) _exit(102);
    const int code = body();
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

bool ended_well(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
bool ended_by(int status, int signal) { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }

void by_default() {
  for (const int signal : {SIGSEGV, SIGILL}) ::signal(signal, SIG_DFL);
}

int fault_on_a_page() {
  g_fault_address = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *static_cast<volatile uint8_t*>(g_fault_address) = 1;
  return *static_cast<volatile uint8_t*>(g_fault_address) == 1 ? 0 : 1;
}

int unknown_instruction() {
  asm volatile("ud2");
  return 0;
}

bool can_emulate() {
  const Rig rig;
  return rig.ready();
}

}  // namespace

TEST(dsa_emulator_passes_faults_on_to_a_plain_handler) {
  if (!can_emulate()) return;
  const int status = in_child([] { set_handler(SIGSEGV, 0, plain_handler, nullptr); },
                              [] { return fault_on_a_page() == 0 && g_signal == SIGSEGV && g_blocked ? 0 : 1; });
  CHECK(ended_well(status));
}

TEST(dsa_emulator_passes_faults_on_to_a_handler_with_information) {
  if (!can_emulate()) return;
  const int status = in_child([] { set_handler(SIGSEGV, SA_SIGINFO, nullptr, handler_with_info); },
                              [] { return fault_on_a_page() == 0 && g_had_info && g_blocked ? 0 : 1; });
  CHECK(ended_well(status));
}

TEST(dsa_emulator_heeds_a_handler_for_one_time) {
  if (!can_emulate()) return;
  const int status =
      in_child([] { set_handler(SIGSEGV, SA_SIGINFO | static_cast<int>(SA_RESETHAND), nullptr, handler_with_info); },
               [] {
                 if (fault_on_a_page() != 0 || !g_had_info) return 1;
                 return fault_on_a_page();
               });
  CHECK(ended_by(status, SIGSEGV));
}

TEST(dsa_emulator_lets_a_fault_end_the_process_as_before) {
  if (!can_emulate()) return;
  CHECK(ended_by(in_child(by_default, fault_on_a_page), SIGSEGV));
  CHECK(ended_by(in_child(by_default, unknown_instruction), SIGILL));
  // A fault cannot be ignored, but what somebody sends can.
  const auto ignore = [] {
    for (const int signal : {SIGSEGV, SIGILL}) ::signal(signal, SIG_IGN);
  };
  CHECK(ended_by(in_child(ignore, fault_on_a_page), SIGSEGV));
  CHECK(ended_well(in_child(ignore, [] { return kill(getpid(), SIGSEGV); })));
  CHECK(ended_by(in_child(by_default, [] { return kill(getpid(), SIGSEGV); }), SIGSEGV));
  // Code that cannot be read, a store of another kind, and a descriptor that cannot be read.
  CHECK(ended_by(in_child(by_default,
                          [] {
                            void (*volatile nowhere)() = reinterpret_cast<void (*)()>(0x1000);
                            nowhere();
                            return 0;
                          }),
                 SIGSEGV));
}

TEST(dsa_emulator_takes_nothing_else_from_a_portal) {
  if (!can_emulate()) return;
  const auto with_portal = [](void (*body)(void*)) {
    const TempFolder folder;
    const pid_t child = fork();
    if (child == 0) {
      setenv("TMPDIR", folder.path("").c_str(), 1);
      alarm(60);
      by_default();
      Rig rig;
      body(rig.portal());
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  };
  // A store of another kind; a descriptor that cannot be read; a slot that is none. The signal is the CPU's choice.
  CHECK(ended_by(with_portal([](void* portal) { *static_cast<volatile uint64_t*>(portal) = 1; }), SIGSEGV));
  const auto is_fault = [](int status) { return ended_by(status, SIGSEGV) || ended_by(status, SIGILL); };
  CHECK(is_fault(with_portal([](void* portal) { enqcmd(portal, *reinterpret_cast<const dsa_hw_desc*>(0x1000)); })));
  CHECK(is_fault(with_portal([](void* portal) { enqcmd(static_cast<uint8_t*>(portal) + 8, {}); })));
  // A portal is not inherited.
  Rig rig;
  void* portal = rig.portal();
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    by_default();
    enqcmd(portal, {});
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(is_fault(status));
}

TEST(dsa_emulator_gives_the_signals_back) {
  for (const int number : {SIGSEGV, SIGILL}) {
    struct sigaction before;
    struct sigaction during;
    struct sigaction after;
    sigaction(number, nullptr, &before);
    {
      Rig rig;
      if (!rig.ready()) return;
      CHECK(rig.portal() != nullptr);
      sigaction(number, nullptr, &during);
    }
    sigaction(number, nullptr, &after);
    CHECK(during.sa_sigaction != before.sa_sigaction);
    CHECK(after.sa_sigaction == before.sa_sigaction);
  }
}

}  // namespace vmsnap::test

#endif
