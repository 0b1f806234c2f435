// The gather form as a tiled matrix product: a block computes kRows x kColumns of c, kDepth of k at a time.
//
// While one tile of a and b in shared memory is multiplied, the next is on its way from global memory to registers; then
// it is stored into the other of two buffers: one barrier per tile. An Engine says how large the tiles are, how shared
// memory holds them, and how they are multiplied. `a_m_fast`, `b_k_fast`: along which index neighbouring lanes load, the
// one whose addresses are neighbours. Each operand is read once per tile of the other: (1 / kRows + 1 / kColumns) / 2
// numbers per multiplication and addition, besides 8 bytes of table per column of k.
#pragma once
#include "gather.h"

template <class Engine, bool a_m_fast, bool b_k_fast>
DEVICE void gather_gemm(const Gather g) {
  constexpr int T = Engine::kThreads, M = Engine::kRows, J = Engine::kColumns, K = Engine::kDepth;
  constexpr int a_count = M * K / T, b_count = J * K / T, lanes = 8;  // 8 lanes along k read one sector of 32 bytes
  static_assert(T % M == 0 || !a_m_fast, "a thread keeps its row");
  static_assert(T % J == 0 || b_k_fast, "a thread keeps its column");
  const Part part(g, M);
  const int m_base = part.m_tile * M, j_base = part.j_tile * J, tid = int(threadIdx.x);
  if (j_base >= part.columns) return;  // this phase has fewer columns than the largest
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
      const int k = k0 + a_k0 + a_k_of(i), m = a_m0 + a_m_of(i);
      const bool there = k < k_end && m_base + m < part.rows;
      from_a[i] = there ? __ldg(&a_rows[a_m_of(i) * g.a_row + __ldg(&a_k[k])]) : real(0);
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

  real* c = g.c + part.group * g.c_group + part.split * g.slab;
  const int* c_j = g.c_j + part.phase.z;
  engine.for_each([&](int m, int j, real value) {
    m += m_base, j += j_base;
    if (m >= part.rows || j >= part.columns) return;
    c[m * g.c_row + __ldg(&c_j[j])] = finished(g, part.group, m, j, value);
  });
}

#define GATHER_KERNEL(blocks, threads, name, engine, a_m_fast, b_k_fast) \
  KERNEL_WITH(blocks, threads, name, GATHER_PARAMETERS) { gather_gemm<engine, a_m_fast, b_k_fast>(GATHER_ARGUMENTS); }
