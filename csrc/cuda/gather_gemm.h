// The gather form as a tiled matrix product: a block computes kRows x kColumns of c, kDepth of k at a time. The tables are
// filled up so that the last tile is whole; only a, whose infinities a zero of b would not silence, is checked for its end.
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

// Which numbers of a tile of `lines` by K (lines: rows of a, columns of b) a thread brings from global to shared memory.
//
// Where neighbours along k are neighbours in memory, eight lanes read eight of them, one sector of 32 bytes, and a thread
// goes on with the next eight and the next lines. Otherwise neighbouring lanes read neighbouring lines, and a thread a run
// along k of one line, whose entries of the table lie side by side, as do its numbers in shared memory.
template <int lines, int K, int T, bool k_fast>
struct Share {
  static constexpr int kCount = lines * K / T, kLines = k_fast ? lines * 8 / T : 1, kDepth = kCount / kLines;
  static constexpr int kLineStep = T / 8, kStep = k_fast ? 8 : 1;
  static_assert(k_fast || T % lines == 0, "a thread keeps its line");
  int k, line;

  DEVICE explicit Share(int thread)
      : k(k_fast ? thread % 8 : thread / lines * kCount), line(k_fast ? thread / 8 : thread % lines) {}

  DEVICE void load_table(int (&to)[kDepth], const int* from) const {
    UNROLL
    for (int i = 0; i < kDepth; i += k_fast ? 1 : 2) {
      if (k_fast) {
        to[i] = __ldg(from + i * kStep);
      } else {
        const int2 two = __ldg(reinterpret_cast<const int2*>(from + i));
        to[i] = two.x, to[i + 1] = two.y;
      }
    }
  }
  DEVICE void load_table(int2 (&to)[kDepth], const int2* from) const {
    UNROLL
    for (int i = 0; i < kDepth; i += k_fast ? 1 : 2) {
      if (k_fast) {
        to[i] = __ldg(from + i * kStep);
      } else {
        const int4 two = __ldg(reinterpret_cast<const int4*>(from + i));
        to[i] = int2{two.x, two.y}, to[i + 1] = int2{two.z, two.w};
      }
    }
  }
  template <class Side>
  DEVICE void store(Side& side, int l, const real (&values)[kDepth]) const {
    if constexpr (k_fast) {
      UNROLL
      for (int i = 0; i < kDepth; i++) side.put(line + l * kLineStep, k + i * kStep, values[i]);
    } else {
      side.put_run(line, k, values);
    }
  }
};

template <class Engine, bool a_m_fast, bool b_k_fast>
DEVICE void gather_gemm(const Gather g) {
  constexpr int T = Engine::kThreads, M = Engine::kRows, J = Engine::kColumns, K = Engine::kDepth;
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

  using OfA = Share<M, K, T, !a_m_fast>;
  using OfB = Share<J, K, T, b_k_fast>;
  const OfA of_a(tid);
  const OfB of_b(tid);
  const real* a = kept(g.a + part.group * g.a_group + (long long)(m_base + of_a.line) * g.a_row);
  const real* b = kept(g.b + part.group * g.b_group);
  const int* a_k = kept(g.a_k + part.phase.x + of_a.k);
  const int2* b_k = kept(g.b_k + part.phase.x + of_b.k);
  const int rows_left = part.rows - m_base - of_a.line, a_step = int(OfA::kLineStep * unsigned(g.a_row));
  int2 column[OfB::kLines];
  UNROLL
  for (int i = 0; i < OfB::kLines; i++) {  // columns past the end are computed, and not written
    const int j = j_base + of_b.line + i * OfB::kLineStep;
    column[i] = __ldg(&g.b_j[part.phase.z + min(j, part.columns - 1)]);
  }

  real from_a[OfA::kLines][OfA::kDepth], from_b[OfB::kLines][OfB::kDepth];
  const auto load = [&](int k0) {
    int at_a[OfA::kDepth];
    int2 at_b[OfB::kDepth];
    of_a.load_table(at_a, a_k + k0);
    of_b.load_table(at_b, b_k + k0);
    UNROLL
    for (int l = 0; l < OfA::kLines; l++)
      UNROLL
      for (int i = 0; i < OfA::kDepth; i++) {
        const bool there = k0 + of_a.k + i * OfA::kStep < k_end && l * OfA::kLineStep < rows_left;
        from_a[l][i] = there ? __ldg(&a[l * a_step + at_a[i]]) : real(0);
      }
    UNROLL
    for (int l = 0; l < OfB::kLines; l++)
      UNROLL
      for (int i = 0; i < OfB::kDepth; i++)
        from_b[l][i] = inside(at_b[i].y, column[l].y, limit, signs) ? __ldg(&b[at_b[i].x + column[l].x]) : real(0);
  };
  SHARED(typename Engine::Tile, tiles, [2]);
  const auto store = [&](int buffer) {
    UNROLL
    for (int l = 0; l < OfA::kLines; l++) of_a.store(tiles[buffer].a, l, from_a[l]);
    UNROLL
    for (int l = 0; l < OfB::kLines; l++) of_b.store(tiles[buffer].b, l, from_b[l]);
  };

  Engine engine(tid);
  if (k_begin < k_end) {
    load(k_begin);
    store(0);
  }
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
  const real slope = real(g.slope);
  int to[Engine::kOwnColumns];
  real of_column[Engine::kOwnColumns];
  UNROLL
  for (int i = 0; i < Engine::kOwnColumns; i++) {
    const int j = min(here.j_tile * J + engine.column(i), here.columns - 1);
    to[i] = __ldg(&g.c_j[here.phase.z + j]), of_column[i] = bias_of_column(g, j);
  }
  UNROLL
  for (int r = 0; r < Engine::kOwnRows; r++) {
    const int m = here.m_tile * M + engine.row(r);
    if (m >= here.rows) continue;
    const real of_row = bias_of_row(g, here.group, m);
    UNROLL
    for (int i = 0; i < Engine::kOwnColumns; i++) {
      if (here.j_tile * J + engine.column(i) >= here.columns) continue;
      real& value = engine.sum(r, i);
      value = leaky(value + (of_row + of_column[i]), slope);
      c[m * g.c_row + to[i]] = value;
    }
  }
  if (g.moments) write_moments(g, engine);
}

#define GATHER_KERNEL(blocks, threads, name, engine, a_m_fast, b_k_fast) \
  KERNEL_WITH(blocks, threads, name, GATHER_PARAMETERS) { gather_gemm<engine, a_m_fast, b_k_fast>(GATHER_ARGUMENTS); }
