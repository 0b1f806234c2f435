// The gather form as a tiled matrix product: a block computes kRows x kColumns of c, kDepth of k at a time.
//
// While one tile of a and b in shared memory is multiplied, the next is on its way from global memory to registers; then
// it is stored into the other of two buffers: one barrier per tile. An Engine says how large the tiles are, how shared
// memory holds them, how they are multiplied, and which kOwnRows x kOwnColumns sums a thread holds (a row of the tile is
// shared by kLanes neighbouring lanes of kWarps warps). `a_m_fast`, `b_k_fast`: along which index neighbouring lanes
// load, the one whose addresses are neighbours. Each operand is read once per tile of the other: (1 / kRows + 1 /
// kColumns) / 2 numbers per multiplication and addition, besides 8 bytes of table per column of k.
#pragma once
#include "gather.h"

// Where the moments of row m go: `pieces` of them for each tile, this is the first.
DEVICE real* moments_of(const Gather& g, const Part& part, int m, int pieces) {
  const long long tiles = g.phase_count * g.j_tiles, channel = part.group * g.rows + m;
  return g.moments + (channel * tiles + part.phase_index * g.j_tiles + part.j_tile) * pieces * 4;
}

// What channel_norm.cu starts from, for each row of the tile and each warp's columns of it: number of items, their mean as
// a sum of two numbers, the sum of squared differences from it. Two passes over registers are as exact as two over the
// array, which they save.
template <class Engine>
DEVICE void write_moments(const Gather& g, Engine& engine) {
  constexpr int pieces = Engine::kWarps, width = Engine::kColumns / pieces, own = Engine::kOwnColumns;
  const Part part(g, Engine::kRows, block_again());
  engine.place(thread_again());
  const int m_base = part.m_tile * Engine::kRows, j_base = part.j_tile * Engine::kColumns;
  const real count = real(max(0, min(width, part.columns - j_base - engine.warp() * width)));
  const auto along_row = [](real value) {
    UNROLL
    for (int step = Engine::kLanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(kWholeWarp, value, step);
    return value;
  };
  UNROLL
  for (int r = 0; r < Engine::kOwnRows; r++) {
    real sum = 0, difference = 0, square = 0;
    UNROLL
    for (int i = 0; i < own; i++) sum += j_base + engine.column(i) < part.columns ? engine.sum(r, i) : real(0);
    const real about = along_row(sum) / max(count, real(1));
    UNROLL
    for (int i = 0; i < own; i++) {
      const real d = j_base + engine.column(i) < part.columns ? engine.sum(r, i) - about : real(0);
      difference += d, square += d * d;
    }
    difference = along_row(difference), square = along_row(square);
    const int m = m_base + engine.row(r);
    if (m >= part.rows || engine.column(0) % width) continue;
    real* to = moments_of(g, part, m, pieces) + engine.warp() * 4;
    const real left = difference / max(count, real(1));
    to[0] = count, to[1] = about, to[2] = left, to[3] = square - difference * left;
  }
}

template <class Engine, bool a_m_fast, bool b_k_fast>
DEVICE void gather_gemm(const Gather g) {
  constexpr int T = Engine::kThreads, M = Engine::kRows, J = Engine::kColumns, K = Engine::kDepth;
  constexpr int a_count = M * K / T, b_count = J * K / T, lanes = 8;  // 8 lanes along k read one sector of 32 bytes
  static_assert(T % M == 0 || !a_m_fast, "a thread keeps its row");
  static_assert(T % J == 0 || b_k_fast, "a thread keeps its column");
  const Part part(g, M);
  const int m_base = part.m_tile * M, j_base = part.j_tile * J, tid = int(threadIdx.x);
  if (j_base >= part.columns) {  // this phase has fewer columns than the largest
    for (int m = m_base + tid; g.moments && m < min(m_base + M, part.rows); m += T)
      UNROLL
      for (int i = 0; i < 4 * Engine::kWarps; i++) moments_of(g, part, m, Engine::kWarps)[i] = 0;
    return;
  }
  const int chunk = ((part.count + int(g.splits) - 1) / int(g.splits) + K - 1) / K * K;
  const int k_begin = min(part.split * chunk, part.count), k_end = min(k_begin + chunk, part.count);
  const unsigned limit = unsigned(g.limit), signs = unsigned(g.signs);
  const real* a = g.a + part.group * g.a_group;
  const real* b = g.b + part.group * g.b_group;
  const int* a_k = g.a_k + part.phase.x;
  const int2* b_k = g.b_k + part.phase.x;
  const int2* b_j = g.b_j + part.phase.z;

  // Where this thread's i-th number of a tile lies, relative to (k0, m0) and (k0, j0).
  const int a_k0 = a_m_fast ? tid / M : tid % lanes, a_m0 = a_m_fast ? tid % M : tid / lanes;
  const int b_k0 = b_k_fast ? tid % lanes : tid / J, b_j0 = b_k_fast ? tid / lanes : tid % J;
  const auto a_k_of = [](int i) { return a_m_fast ? i * (T / M) : i % (K / lanes) * lanes; };
  const auto a_m_of = [](int i) { return a_m_fast ? 0 : i / (K / lanes) * (T / lanes); };
  const auto b_k_of = [](int i) { return b_k_fast ? i % (K / lanes) * lanes : i * (T / J); };
  const auto b_j_of = [](int i) { return b_k_fast ? i / (K / lanes) * (T / lanes) : 0; };

  const real* a_rows = a + (long long)(m_base + a_m0) * g.a_row;
  const int rows_left = part.rows - m_base - a_m0;
  int2 column[b_count];
  UNROLL
  for (int i = 0; i < b_count; i++) {
    const int j = j_base + b_j0 + b_j_of(i);
    column[i] = __ldg(&b_j[min(j, part.columns - 1)]);  // columns past the end are computed, and not written
  }

  real from_a[a_count], from_b[b_count];
  const auto load = [&](int k0) {
    UNROLL
    for (int i = 0; i < a_count; i++) {
      const int k = k0 + a_k0 + a_k_of(i);
      const bool there = k < k_end && a_m_of(i) < rows_left;
      from_a[i] = there ? __ldg(&a_rows[a_m_of(i) * int(g.a_row) + __ldg(&a_k[k])]) : real(0);
    }
    UNROLL
    for (int i = 0; i < b_count; i++) {
      const int k = k0 + b_k0 + b_k_of(i);
      const int2 row = k < k_end ? __ldg(&b_k[k]) : int2{0, 0};
      const bool there = k < k_end && inside(row.y, column[i].y, limit, signs);
      from_b[i] = there ? __ldg(&b[row.x + column[i].x]) : real(0);
    }
  };
  SHARED(typename Engine::Tile, tiles, [2]);
  const auto store = [&](int buffer) {
    UNROLL
    for (int i = 0; i < a_count; i++) tiles[buffer].put_a(a_k0 + a_k_of(i), a_m0 + a_m_of(i), from_a[i]);
    UNROLL
    for (int i = 0; i < b_count; i++) tiles[buffer].put_b(b_k0 + b_k_of(i), b_j0 + b_j_of(i), from_b[i]);
  };

  Engine engine(tid);
  load(k_begin);
  store(0);
  __syncthreads();
  for (int k0 = k_begin, buffer = 0; k0 < k_end; k0 += K, buffer ^= 1) {
    const bool more = k0 + K < k_end;
    if (more) load(k0 + K);
    engine.multiply(tiles[buffer]);
    if (more) store(buffer ^ 1);
    __syncthreads();
  }

  const Part here(g, M, block_again());  // not `part`, which would take registers from the loop
  engine.place(thread_again());
  real* c = g.c + here.group * g.c_group + here.split * g.slab;
  const int* c_j = g.c_j + here.phase.z;
  UNROLL
  for (int r = 0; r < Engine::kOwnRows; r++)
    UNROLL
    for (int i = 0; i < Engine::kOwnColumns; i++) {
      const int m = here.m_tile * M + engine.row(r), j = here.j_tile * J + engine.column(i);
      if (m >= here.rows || j >= here.columns) continue;
      real& value = engine.sum(r, i);
      value = finished(g, here.group, m, j, value);
      c[m * g.c_row + __ldg(&c_j[j])] = value;
    }
  if (g.moments) write_moments(g, engine);
}

#define GATHER_KERNEL(blocks, threads, name, engine, a_m_fast, b_k_fast) \
  KERNEL_WITH(blocks, threads, name, GATHER_PARAMETERS) { gather_gemm<engine, a_m_fast, b_k_fast>(GATHER_ARGUMENTS); }
