// Chooses the instruction set, keeps settings and scratch memory. Compiled once, for the baseline.
#include "runtime.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "table.h"

namespace tinygen {

#define KERNEL(name, arguments) extern const Entry<name##_t> entry_##name;
namespace baseline {
TINYGEN_KERNELS(KERNEL)
}
#ifdef TINYGEN_X86
namespace avx2 {
TINYGEN_KERNELS(KERNEL)
}
namespace avx512 {
TINYGEN_KERNELS(KERNEL)
}
#endif
#undef KERNEL

namespace {

struct Isa {
  const char* name;
  bool supported;
  Table table;
};

bool machine_has_avx2() {
#ifdef TINYGEN_X86
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool machine_has_avx512() {
#ifdef TINYGEN_X86
  return machine_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

// Filled when the module is loaded (not by static constructors: the entries live in other files).
Isa* isas() {
  static Isa list[] = {
#define KERNEL(name, arguments) baseline::entry_##name,
      {"baseline", true, {TINYGEN_KERNELS(KERNEL)}},
#undef KERNEL
#ifdef TINYGEN_X86
#define KERNEL(name, arguments) avx2::entry_##name,
      {"avx2", machine_has_avx2(), {TINYGEN_KERNELS(KERNEL)}},
#undef KERNEL
#define KERNEL(name, arguments) avx512::entry_##name,
      {"avx512", machine_has_avx512(), {TINYGEN_KERNELS(KERNEL)}},
#undef KERNEL
#else
      {"avx2", false, {}},
      {"avx512", false, {}},
#endif
  };
  return list;
}
constexpr int kIsas = 3;

std::atomic<const Isa*> current{nullptr};
std::atomic<bool> winograd_is_allowed{true};

struct Arena {
  void* memory[kSlots] = {};
  size_t bytes[kSlots] = {};
  ~Arena() {
    for (void* block : memory) std::free(block);
  }
};

}  // namespace

const Table& table() { return current.load(std::memory_order_relaxed)->table; }
const char* isa() { return current.load()->name; }

bool isa_supported(const char* name) {
  for (int i = 0; i < kIsas; i++)
    if (!std::strcmp(isas()[i].name, name)) return isas()[i].supported;
  return false;
}

const char* select_isa(const char* name) {
  for (int i = kIsas - 1; i >= 0; i--) {
    const Isa& candidate = isas()[i];
    if (*name ? std::strcmp(candidate.name, name) != 0 : !candidate.supported) continue;
    if (!candidate.supported) return "this machine does not have that instruction set";
    current = &candidate;
    return nullptr;
  }
  return "no such instruction set";
}

bool winograd() { return winograd_is_allowed.load(std::memory_order_relaxed); }
void set_winograd(bool allowed) { winograd_is_allowed = allowed; }

void* scratch(Slot slot, size_t bytes) {
  static thread_local Arena arena;
#ifdef __SANITIZE_ADDRESS__
  bool enough = false;  // a block of its own, of the exact size, for every call: the sanitizer sees each step beyond it
  size_t rounded = bytes;
#else
  bool enough = bytes <= arena.bytes[slot];
  size_t rounded = (bytes + 4095) / 4096 * 4096;
#endif
  if (!enough) {
    std::free(arena.memory[slot]);
    arena.memory[slot] = nullptr;
    arena.bytes[slot] = 0;
    if (posix_memalign(&arena.memory[slot], 4096, rounded)) throw std::bad_alloc();
    arena.bytes[slot] = rounded;
    std::memset(arena.memory[slot], 0,
                rounded);  // kernels may compute on unused lanes: denormal leftovers are very slow
  }
  return arena.memory[slot];
}

}  // namespace tinygen
