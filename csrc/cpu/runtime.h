// What kernels and bindings share at run time: the instruction set in use, settings, scratch memory.
#pragma once

#include <cstddef>

namespace tinygen {

struct Table;

const Table& table();  // of the instruction set in use

// Selects "baseline", "avx2", "avx512" or, given "", the best that this machine has. Null, or what is wrong with
// `name`.
const char* select_isa(const char* name);
const char* isa();
bool isa_supported(const char* name);

// Whether float32 convolutions may use Winograd's algorithm (tinygen.set_winograd); conv/choose.h says where they do.
bool winograd();
void set_winograd(bool allowed);

// Threads, see threads.cpp; kernels reach them through parallel.h.
int threads();                // how many a kernel should use at most
void set_threads(int count);  // at least 1

// Calls body(context, share, shares) once for each share < shares, in `count` threads at a time; returns when all have
// returned. shares = count, unless the system has no more threads or this is called from inside a region (then 1).
// Regions of several callers wait for each other.
typedef void RegionBody(const void* context, int share, int shares);
void run_region(int count, RegionBody* body, const void* context);
void wait_for_region(int shares);  // inside body: until all shares have come here

// `bytes` of memory with arbitrary contents, aligned to 64 bytes, that stay valid until this thread asks for the same
// slot again. It is kept between calls, so that kernels do not page-fault the same memory into existence over and over.
enum Slot {
  kPackedWeights,
  kWindow,
  kPanel,
  kTile,
  kAccumulator,
  kTransposed,
  kTaps,
  kPixelOffsets,
  kMasks,
  kPhases,
  kOwnPhases,
  kGeneral,
  kDirty,
  kSlots
};
void* scratch(Slot slot, size_t bytes);

}  // namespace tinygen
