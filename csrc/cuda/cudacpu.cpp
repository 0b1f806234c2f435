// The scheduler behind cudacpu.h: blocks one after another, a block's threads as fibers of one OS thread.
#include "cudacpu.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define IF_ADDRESS(...) __VA_ARGS__
#else
#define IF_ADDRESS(...)
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreReadsBegin(const char*, int);
extern "C" void AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);
#define IF_THREAD(...) __VA_ARGS__
#else
#define IF_THREAD(...)
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cudacpu {
namespace {

constexpr size_t kStack = 64 << 10;

enum State { kReady, kAtBarrier, kInWarp, kDone };

struct Copy {
  float* to;
  const float* from;
  bool there;
  int group;
};

struct Fiber {
  uint3 index;
  int lane, warp;
  State state;
  int line, site;       // where it waits
  unsigned generation;  // of the warp's exchange it waits for
  unsigned barriers;    // how many it has passed
  std::vector<Copy> copies;
  int group;
  char* stack;
  void* context;  // the saved stack pointer
  IF_ADDRESS(void* fake_stack;)
  IF_THREAD(void* tsan;)
#if !defined(__x86_64__)
  ucontext_t uc;
#endif
};

struct Warp {
  unsigned live, arrived, generation;
  alignas(16) char slots[2][32 * 32];  // used in turns: a lane may be at the next exchange while others still read this
  char tags[2];
};

struct Shared {
  const void* key;
  void* memory;
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<Shared> shared;
  std::vector<int> order;
  Fiber* running = nullptr;
  void (*call)(void**) = nullptr;
  void** arguments = nullptr;
  char tags[2];  // of the barrier, used in turns: with one, a thread that is already at the next would look ordered
  void* context = nullptr;
  IF_ADDRESS(const void* stack_bottom; size_t stack_size; void* fake_stack;)
  IF_THREAD(void* tsan;)
#if !defined(__x86_64__)
  ucontext_t uc;
#endif
};

Block block;
std::vector<char*> free_stacks;
unsigned long long seed_of_schedule = 0;
bool failed = false;
char message[512];
char grid_tag;

// Bookkeeping is not the kernel's doing: ThreadSanitizer must not see it.
struct Hidden {
  Hidden() { IF_THREAD(AnnotateIgnoreReadsBegin("", 0); AnnotateIgnoreWritesBegin("", 0);) }
  ~Hidden() { IF_THREAD(AnnotateIgnoreWritesEnd("", 0); AnnotateIgnoreReadsEnd("", 0);) }
};
void happens_before(void* tag) { IF_THREAD(__tsan_release(tag);) (void)tag; }
void happens_after(void* tag) { IF_THREAD(__tsan_acquire(tag);) (void)tag; }

// ---- switching stacks

#if defined(__x86_64__)
extern "C" void cudacpu_switch(void** save, void* load);
asm(R"(
  .text
  .type cudacpu_switch, @function
cudacpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size cudacpu_switch, .-cudacpu_switch
)");
#endif

__attribute__((noinline)) void to_scheduler() {
  Fiber* f = block.running;
  IF_ADDRESS(__sanitizer_start_switch_fiber(f->state == kDone ? nullptr : &f->fake_stack, block.stack_bottom,
                                            block.stack_size);)
  IF_THREAD(__tsan_switch_to_fiber(block.tsan, 1);)
#if defined(__x86_64__)
  cudacpu_switch(&f->context, block.context);
#else
  swapcontext(&f->uc, &block.uc);
#endif
  IF_ADDRESS(__sanitizer_finish_switch_fiber(f->fake_stack, nullptr, nullptr);)
}

__attribute__((noinline)) void to_fiber(Fiber* f) {
  block.running = f;
  threadIdx = f->index;
  IF_ADDRESS(__sanitizer_start_switch_fiber(&block.fake_stack, f->stack, kStack);)
  IF_THREAD(__tsan_switch_to_fiber(f->tsan, 1);)
#if defined(__x86_64__)
  cudacpu_switch(&block.context, f->context);
#else
  swapcontext(&block.uc, &f->uc);
#endif
  IF_ADDRESS(__sanitizer_finish_switch_fiber(block.fake_stack, nullptr, nullptr);)
}

// Says what is wrong and where, and ends the launch: from a fiber by never going back to it.
void fail(Fiber* f, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int used = vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  if (f)
    snprintf(message + used, sizeof message - used, " [block (%u,%u,%u), thread (%u,%u,%u), line %d]", blockIdx.x,
             blockIdx.y, blockIdx.z, f->index.x, f->index.y, f->index.z, f->line);
  failed = true;
  if (block.running) to_scheduler();
}

void finish_copies(Fiber* f, int newest) {
  std::vector<Copy> due;
  {
    Hidden hidden;
    std::vector<Copy> later;
    for (const Copy& c : f->copies) (c.group < f->group - newest ? due : later).push_back(c);
    f->copies.swap(later);
  }
  for (const Copy& c : due) *c.to = c.there ? *c.from : 0.f;  // the kernel's own access
}

void fiber_main() {
  IF_ADDRESS(__sanitizer_finish_switch_fiber(nullptr, &block.stack_bottom, &block.stack_size);)
  block.call(block.arguments);
  happens_before(&grid_tag);
  {
    Hidden hidden;
    Fiber* f = block.running;
    f->state = kDone;
    block.warps[f->warp].live &= ~(1u << f->lane);
  }
  to_scheduler();
  abort();  // a finished fiber is never resumed
}

void start(Fiber& f) {
  if (free_stacks.empty()) free_stacks.push_back(static_cast<char*>(malloc(kStack)));
  f.stack = free_stacks.back();
  free_stacks.pop_back();
  IF_ADDRESS(__asan_unpoison_memory_region(f.stack, kStack);)  // its last user never returned
  IF_THREAD(f.tsan = __tsan_create_fiber(0);)
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(f.stack + kStack) & ~uintptr_t(15));
  *--top = nullptr;  // so that the stack pointer is 8 modulo 16 on entry, as after a call
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  f.context = top;
#else
  getcontext(&f.uc);
  f.uc.uc_stack.ss_sp = f.stack;
  f.uc.uc_stack.ss_size = kStack;
  f.uc.uc_link = nullptr;
  makecontext(&f.uc, fiber_main, 0);
#endif
}

void stop(Fiber& f) {
  if (!f.stack) return;
  IF_THREAD(__tsan_destroy_fiber(f.tsan); free(f.stack);)  // fresh memory: its accesses are forgotten
#if !defined(__SANITIZE_THREAD__)
  free_stacks.push_back(f.stack);
#endif
  f.stack = nullptr;
}

unsigned long long random_number(unsigned long long& state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

// Whether all is done; else makes threads ready that wait for nothing any more.
bool barrier_reached(unsigned ran) {
  unsigned waiting = 0, done = 0;
  Fiber *first = nullptr, *other = nullptr, *any = nullptr;
  for (Fiber& f : block.fibers) {
    if (f.state == kDone) done++;
    if (f.state == kInWarp) any = &f;
    if (f.state != kAtBarrier) continue;
    waiting++;
    if (!first) first = &f;
    if (f.site != first->site) other = &f;
  }
  if (done == block.fibers.size()) return true;
  if (waiting && waiting + done == block.fibers.size()) {
    if (done) fail(first, "__syncthreads() is not reached by all threads: %u of them have returned", done);
    if (other) fail(other, "threads of one block wait at different __syncthreads(), some at line %d", first->line);
    for (Fiber& f : block.fibers) f.state = kReady;
  } else if (!ran) {
    fail(any, "deadlock: this thread waits for its warp, while others of the warp do not come");
  }
  return false;
}

void run_block(unsigned long long rng) {
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  block.fibers.resize(count);
  block.order.resize(count);
  block.warps.assign((count + 31) / 32, Warp());
  for (unsigned i = 0; i < count; i++) {
    Fiber& f = block.fibers[i];
    f.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    f.lane = int(i % 32), f.warp = int(i / 32);
    f.state = kReady, f.line = f.site = f.group = 0, f.barriers = 0;
    f.copies.clear();
    f.stack = nullptr;
    block.warps[f.warp].live |= 1u << f.lane;
    block.order[i] = int(i);
  }
  IF_THREAD(block.tsan = __tsan_get_current_fiber();)
  while (!failed) {
    unsigned ran = 0;
    for (unsigned i = count; seed_of_schedule && i > 1; i--)
      std::swap(block.order[i - 1], block.order[random_number(rng) % i]);
    for (unsigned i = 0; i < count && !failed; i++) {
      Fiber& f = block.fibers[block.order[i]];
      if (f.state == kInWarp && block.warps[f.warp].generation != f.generation) f.state = kReady;
      if (f.state != kReady) continue;
      if (!f.stack) start(f);
      to_fiber(&f);
      block.running = nullptr;
      ran++;
      if (f.state == kDone) {
        if (!f.copies.empty()) fail(&f, "a thread returned before waiting for its asynchronous copies");
        stop(f);
      }
    }
    if (!failed && barrier_reached(ran)) break;
  }
  for (Fiber& f : block.fibers) stop(f);
  for (Shared& s : block.shared) free(s.memory);
  block.shared.clear();
}

}  // namespace

int lane() {
  Hidden hidden;
  return block.running->lane;
}

void sync_block(int line, int site) {
  char* tag;
  {
    Hidden hidden;
    Fiber* f = block.running;
    f->state = kAtBarrier, f->line = line, f->site = site;
    tag = &block.tags[f->barriers++ % 2];
  }
  happens_before(tag);
  to_scheduler();
  happens_after(tag);
}

void* shared_block(const void* key, size_t bytes, size_t alignment) {
  Hidden hidden;
  for (Shared& s : block.shared)
    if (s.key == key) return s.memory;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment < 16 ? 16 : alignment, bytes)) abort();
  memset(memory, 0xff, bytes);  // NaN, or -1
  block.shared.push_back({key, memory});
  return memory;
}

const void* exchange_bytes(unsigned mask, const void* mine, size_t bytes, int line) {
  const char* all;
  char* tag;
  {
    Hidden hidden;
    Fiber* f = block.running;
    Warp& w = block.warps[f->warp];
    tag = &w.tags[w.generation % 2];
  }
  happens_before(tag);
  {
    Hidden hidden;
    Fiber* f = block.running;
    Warp& w = block.warps[f->warp];
    f->line = line;
    if (mask != w.live) fail(f, "a warp collective of lanes %08x, while lanes %08x are there", mask, w.live);
    char* slots = w.slots[w.generation % 2];
    all = slots;
    memcpy(slots + f->lane * bytes, mine, bytes);
    w.arrived |= 1u << f->lane;
    f->generation = w.generation;
    if (w.arrived == w.live) {
      w.arrived = 0;
      w.generation++;
    } else {
      f->state = kInWarp;
    }
  }
  bool waits;
  {
    Hidden hidden;
    waits = block.running->state == kInWarp;
  }
  if (waits) to_scheduler();
  happens_after(tag);
  return all;
}

void copy_later(float* to, const float* from, bool there) {
  Hidden hidden;
  Fiber* f = block.running;
  f->copies.push_back({to, from, there, f->group});
}
void copy_group() {
  Hidden hidden;
  block.running->group++;
}
void copy_wait(int newest) { finish_copies(block.running, newest); }

}  // namespace cudacpu

// ---- what Python calls

namespace {

// While it lives, float32 numbers below 2^-126 are zeros, as in a kernel that CuPy compiles (-ftz=true).
class NoDenormals {
 public:
#ifdef __SSE2__
  explicit NoDenormals(bool floats) : before(__builtin_ia32_stmxcsr()) {
    if (floats) __builtin_ia32_ldmxcsr(before | 0x8040);  // results to zero, operands to zero
  }
  ~NoDenormals() { __builtin_ia32_ldmxcsr(before); }

 private:
  unsigned before;
#else
  explicit NoDenormals(bool) {}
#endif
};

}  // namespace

extern "C" {

// Runs one grid; null, or what is wrong with it.
const char* cudacpu_launch(const cudacpu::Entry* kernel, const unsigned* grid, const unsigned* threads, void** arguments) {
  using namespace cudacpu;
  Hidden hidden;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {threads[0], threads[1], threads[2]};
  failed = false;
  if (threads[0] * threads[1] * threads[2] > unsigned(kernel->threads)) {
    snprintf(message, sizeof message, "%u threads in a block, the kernel is made for %d",
             threads[0] * threads[1] * threads[2], kernel->threads);
    return message;
  }
  const NoDenormals as_on_a_gpu(strchr(kernel->signature, code<float*>) != nullptr);
  block.call = kernel->call;
  block.arguments = arguments;
  const unsigned long long total = 1ull * grid[0] * grid[1] * grid[2];
  for (unsigned long long i = 0; i < total && !failed; i++) {
    const unsigned long long at = (i + seed_of_schedule) % total;
    blockIdx = {unsigned(at % grid[0]), unsigned(at / grid[0] % grid[1]), unsigned(at / grid[0] / grid[1])};
    run_block((seed_of_schedule + 0x9e3779b97f4a7c15ull * (at + 1)) | 1);
  }
  happens_after(&grid_tag);
  return failed ? message : nullptr;
}

// 0: threads in order. Any other seed shuffles threads and rotates blocks.
void cudacpu_seed(unsigned long long seed) { cudacpu::seed_of_schedule = seed; }
}
