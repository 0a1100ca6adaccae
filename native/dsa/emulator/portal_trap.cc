#include "portal_trap.h"

#include <cerrno>

#if defined(__x86_64__)

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

#include "../descriptor.h"
#include "portal_instruction.h"

namespace vmsnap::dsa {

namespace {

// Looked up by the handler without a lock: `sink` is set before `page`, and `page` is taken away before `sink`.
struct PortalSlot {
  std::atomic<uint64_t> page{0};
  std::atomic<PortalSink*> sink{nullptr};
  std::atomic<pid_t> owner{0};
};
constexpr size_t kMaxPortals = 1024;
constexpr uint64_t kPageMask = kPortalBytes - 1;

std::array<PortalSlot, kMaxPortals> g_portals;

struct Trap {
  int signal;
  bool installed = false;
  /// Who had the signal before; not written while installed, but for SA_RESETHAND.
  struct sigaction previous = {};
};
std::mutex g_mutex;
size_t g_mapped = 0;
std::array<Trap, 2> g_traps = {Trap{SIGILL}, Trap{SIGSEGV}};

constexpr std::array<int, 16> kRegisterOrder = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
// Which ENQCMD clears but for ZF, its answer: CF, PF, AF, ZF, SF, OF.
constexpr uint64_t kZeroFlag = 0x40;
constexpr uint64_t kArithmeticFlags = 0x8d5;

/// As many bytes as can be read; an address that cannot be is not worth a second fault.
size_t peek(uint64_t address, void* into, size_t size_bytes) {
  const iovec here = {into, size_bytes};
  const iovec there = {reinterpret_cast<void*>(address), size_bytes};
  const long got = syscall(SYS_process_vm_readv, getpid(), &here, 1UL, &there, 1UL, 0UL);
  return got > 0 ? static_cast<size_t>(got) : 0;
}

size_t peek_code(uint64_t rip, std::array<uint8_t, kMaxInstructionBytes>& code) {
  const size_t on_page = kPortalBytes - (rip & kPageMask);
  const size_t first = std::min(code.size(), on_page);
  const size_t got = peek(rip, code.data(), first);
  if (got < first || first == code.size()) return got;
  return got + peek(rip + first, code.data() + first, code.size() - first);
}

PortalSink* find_sink(uint64_t page) {
  for (const PortalSlot& slot : g_portals) {
    if (slot.page.load(std::memory_order_acquire) != page) continue;
    return slot.owner.load(std::memory_order_relaxed) == getpid() ? slot.sink.load(std::memory_order_relaxed) : nullptr;
  }
  return nullptr;
}

void set_answer(mcontext_t& machine, PortalSink::Answer answer) {
  const bool retry = answer == PortalSink::Answer::retry;
  const uint64_t flags = static_cast<uint64_t>(machine.gregs[REG_EFL]) & ~kArithmeticFlags;
  machine.gregs[REG_EFL] = static_cast<greg_t>(flags | (retry ? kZeroFlag : 0));
  machine.gregs[REG_RCX] = retry ? 1 : 0;
}

/// Whether the interrupted instruction is a store to a portal; then it has been done.
bool emulate(ucontext_t& context) {
  mcontext_t& machine = context.uc_mcontext;
  GeneralRegisters registers;
  for (size_t i = 0; i < registers.size(); ++i) registers[i] = static_cast<uint64_t>(machine.gregs[kRegisterOrder[i]]);
  const uint64_t rip = static_cast<uint64_t>(machine.gregs[REG_RIP]);
  std::array<uint8_t, kMaxInstructionBytes> code;
  const auto instruction = decode_portal_instruction({code.data(), peek_code(rip, code)}, rip, registers);
  if (!instruction || instruction->destination % kDescriptorBytes != 0) return false;
  PortalSink* sink = find_sink(instruction->destination & ~kPageMask);
  if (sink == nullptr) return false;
  uint8_t descriptor[kDescriptorBytes];
  if (peek(instruction->source, descriptor, sizeof descriptor) != sizeof descriptor) return false;

  const PortalSink::Answer answer = sink->store(descriptor, instruction->is_enqcmd);
  if (instruction->is_enqcmd) set_answer(machine, answer);
  machine.gregs[REG_RIP] = static_cast<greg_t>(rip + instruction->size_bytes);
  return true;
}

/// What the kernel would have done without us.
void end_by_default(int signal, const siginfo_t& info, bool ignored) {
  const bool sent = info.si_code <= 0;
  if (ignored && sent) return;
  // A fault happens again as soon as we return; what was sent has to be sent again.
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  sigaction(signal, &by_default, nullptr);
  if (sent) syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
}

void block_as_previous(const struct sigaction& previous, int signal, const ucontext_t& context) {
  sigset_t blocked;
  sigorset(&blocked, &context.uc_sigmask, &previous.sa_mask);
  if ((previous.sa_flags & SA_NODEFER) == 0) sigaddset(&blocked, signal);
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
}

void pass_on(Trap& trap, siginfo_t* info, void* context) {
  const struct sigaction previous = trap.previous;
  const bool with_info = (previous.sa_flags & SA_SIGINFO) != 0;
  if (!with_info && (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN)) {
    return end_by_default(trap.signal, *info, previous.sa_handler == SIG_IGN);
  }
  if ((previous.sa_flags & static_cast<int>(SA_RESETHAND)) != 0) {
    trap.previous = {};
    trap.previous.sa_handler = SIG_DFL;
  }
  block_as_previous(previous, trap.signal, *static_cast<ucontext_t*>(context));
  if (with_info) {
    previous.sa_sigaction(trap.signal, info, context);
  } else {
    previous.sa_handler(trap.signal);
  }
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  if (info->si_code <= 0 || !emulate(*static_cast<ucontext_t*>(context))) {
    errno = error;
    return pass_on(*std::find_if(g_traps.begin(), g_traps.end(), [&](const Trap& t) { return t.signal == signal; }),
                   info, context);
  }
  errno = error;
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_signal;
}

void install(Trap& trap) {
  if (trap.installed) return;
  sigaction(trap.signal, nullptr, &trap.previous);
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  sigaction(trap.signal, &action, nullptr);
  trap.installed = true;
}

void give_back(Trap& trap) {
  struct sigaction present;
  sigaction(trap.signal, nullptr, &present);
  // Somebody who came after us may call us: stay there for him.
  if (!is_ours(present)) return;
  sigaction(trap.signal, &trap.previous, nullptr);
  trap.installed = false;
}

PortalSlot* free_slot() {
  for (PortalSlot& slot : g_portals) {
    if (slot.page.load() == 0) return &slot;
  }
  return nullptr;
}

}  // namespace

int map_portal_page(PortalSink& sink, void*& portal) {
  const std::lock_guard lock(g_mutex);
  PortalSlot* slot = free_slot();
  if (slot == nullptr) return -ENOMEM;
  void* page = mmap(nullptr, kPortalBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (page == MAP_FAILED) return -ENOMEM;
  madvise(page, kPortalBytes, MADV_DONTFORK);
  if (++g_mapped == 1) {
    for (Trap& trap : g_traps) install(trap);
  }
  slot->sink.store(&sink);
  slot->owner.store(getpid());
  slot->page.store(reinterpret_cast<uint64_t>(page), std::memory_order_release);
  portal = page;
  return 0;
}

int unmap_portal_page(void* portal) {
  const std::lock_guard lock(g_mutex);
  for (PortalSlot& slot : g_portals) {
    if (portal == nullptr || slot.page.load() != reinterpret_cast<uint64_t>(portal)) continue;
    slot.page.store(0);
    slot.sink.store(nullptr);
    munmap(portal, kPortalBytes);
    if (--g_mapped == 0) {
      for (Trap& trap : g_traps) give_back(trap);
    }
    return 0;
  }
  return -EINVAL;
}

}  // namespace vmsnap::dsa

#else

namespace vmsnap::dsa {

int map_portal_page(PortalSink&, void*&) { return -EOPNOTSUPP; }
int unmap_portal_page(void*) { return -EINVAL; }

}  // namespace vmsnap::dsa

#endif
