// The one form that convolution, its two adjoints and the matrix product share:
//
//   c[m, j] = sum over k of  a[m * a_row + a_k[k]] * b[b_k[k] + b_j[j]]        where the tap (k, j) lies inside the image
//
// The address of b is a sum of a term of k and a term of j, and so are the coordinates that decide whether the tap lies
// inside. The host writes both terms into tables once per geometry (tinygen/backends/cuda/gather.py); no kernel divides.
//
//   forward            m: output channel   k: (c, tap)              j: output pixel
//   transposed         m: input channel    k: (k, tap of a phase)   j: pixel of that phase, of stride^2 phases
//   weight             m: output channel   k: output pixel          j: (c, tap)
//   matrix product     m: row              k                        j: column
//
// Coordinates: word(k) + word(j) holds row and column in two bit fields, each with 0 at the field's highest bit; so that
// bit is set from 0 on, and after subtracting `limit` (height and width, in the same fields) it is clear below the size.
#pragma once
#include "device.h"

struct Gather {
  const real* a;
  long long a_row;  // distance of rows
  const int* a_k;
  const real* b;
  const int2* b_k;  // {offset, word}
  const int2* b_j;
  real* c;
  long long c_row;
  const int* c_j;
  const int4* phases;  // {first k, number of k, first j, number of j} in the tables
  long long phase_count, rows, j_tiles, limit, signs;
  long long groups, a_group, b_group, c_group;  // groups or a batch, and the distances of their arrays
  long long splits, slab;                       // k is shared out over `splits` results, `slab` numbers apart
  const real* bias;                             // of row m of the group; with bias_inner, of column j / bias_inner
  long long bias_inner;
  double slope;   // of the leaky ReLU behind it: 1 is none
  real* moments;  // null, or (groups * rows, phases * j_tiles * pieces, 4): see write_moments
};

#define GATHER_PARAMETERS                                                                                             \
  const real *__restrict__ a, long long a_row, const int *__restrict__ a_k, const real *__restrict__ b,               \
      const int2 *__restrict__ b_k, const int2 *__restrict__ b_j, real *__restrict__ c, long long c_row,              \
      const int *__restrict__ c_j, const int4 *__restrict__ phases, long long phase_count, long long rows,            \
      long long j_tiles, long long limit, long long signs, long long groups, long long a_group, long long b_group,    \
      long long c_group, long long splits, long long slab, const real *__restrict__ bias, long long bias_inner,       \
      double slope, real *__restrict__ moments
#define GATHER_ARGUMENTS                                                                                             \
  Gather {                                                                                                           \
    a, a_row, a_k, b, b_k, b_j, c, c_row, c_j, phases, phase_count, rows, j_tiles, limit, signs, groups, a_group,    \
        b_group, c_group, splits, slab, bias, bias_inner, slope, moments                                             \
  }

DEVICE bool inside(int of_k, int of_j, unsigned limit, unsigned signs) {
  const unsigned word = unsigned(of_k) + unsigned(of_j);
  return ((~word | (word - limit)) & signs) == 0;
}

DEVICE real bias_of_row(const Gather& g, int group, int m) {
  return g.bias && !g.bias_inner ? __ldg(&g.bias[group * g.rows + m]) : real(0);
}
DEVICE real bias_of_column(const Gather& g, int j) {
  return g.bias && g.bias_inner ? __ldg(&g.bias[j / int(g.bias_inner)]) : real(0);
}

// What one block computes: its part of the grid, decoded.
struct Part {
  int m_tile, j_tile, split, group, rows, count, columns, phase_index;
  int4 phase;

  DEVICE Part(const Gather& g, int tile_rows, int block = int(blockIdx.x)) {
    const int m_tiles = int((g.rows + tile_rows - 1) / tile_rows), j_tiles = int(g.j_tiles);
    int at = block;
    m_tile = at % m_tiles, at /= m_tiles;  // neighbours gather the same part of b
    j_tile = at % j_tiles, at /= j_tiles;
    split = at % int(g.splits), at /= int(g.splits);
    phase_index = at % int(g.phase_count), group = at / int(g.phase_count);
    phase = __ldg(&g.phases[phase_index]);
    rows = int(g.rows), count = phase.y, columns = phase.w;
  }
};
