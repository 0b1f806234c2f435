// What kernels and bindings share at run time: the instruction set in use, the number of threads, scratch memory.
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

int threads();
void set_threads(int count);  // at least 1; stays 1 without OpenMP
bool has_openmp();

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
  kSlots
};
void* scratch(Slot slot, size_t bytes);

}  // namespace tinygen
