// Random numbers that depend on a counter alone: Philox4x32-10 (Salmon et al. 2011) with key (seed low, seed high) and
// counter (block low, block high, stream, 0). Bits and uniforms equal those of every other backend.
//
// A thread turns one block into four 32-bit words. `replayed` is a number of blocks on the device, which a replayed graph
// counts up, so that each replay draws new numbers.
#include "device.h"

struct Words {
  unsigned word[4];

  DEVICE Words(long long seed, long long stream, long long offset, const long long* replayed, long long i) {
    const unsigned long long block = (unsigned long long)offset + (unsigned long long)*replayed + (unsigned long long)i;
    unsigned key0 = unsigned(seed), key1 = unsigned((unsigned long long)seed >> 32);
    unsigned c0 = unsigned(block), c1 = unsigned(block >> 32), c2 = unsigned(stream), c3 = 0;
    UNROLL
    for (int round = 0; round < 10; round++) {
      const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
      const unsigned high2 = __umulhi(0xCD9E8D57u, c2), low2 = 0xCD9E8D57u * c2;
      c0 = high2 ^ c1 ^ key0, c1 = low2, c2 = high0 ^ c3 ^ key1, c3 = low0;
      key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
  }
#ifdef DOUBLE
  static constexpr int kNumbers = 2;
  DEVICE real uniform(int i) const {
    return (double(word[2 * i] >> 5) * 67108864.0 + double(word[2 * i + 1] >> 6)) * 0x1p-53;
  }
#else
  static constexpr int kNumbers = 4;
  DEVICE real uniform(int i) const { return float(word[i] >> 8) * 0x1p-24f; }
#endif
};

#ifndef DOUBLE
KERNEL(256, random_bits, long long seed, long long stream, long long offset, const long long* __restrict__ replayed,
       unsigned* __restrict__ bits, long long count, long long blocks) {
  each(blocks, [=](long long i) {
    const Words words(seed, stream, offset, replayed, i);
    UNROLL
    for (int e = 0; e < 4; e++)
      if (4 * i + e < count) bits[4 * i + e] = words.word[e];
  });
}
#endif

KERNEL(256, random_uniform, long long seed, long long stream, long long offset, const long long* __restrict__ replayed,
       real* __restrict__ numbers, long long count, long long blocks) {
  constexpr int n = Words::kNumbers;
  each(blocks, [=](long long i) {
    const Words words(seed, stream, offset, replayed, i);
    UNROLL
    for (int e = 0; e < n; e++)
      if (n * i + e < count) numbers[n * i + e] = words.uniform(e);
  });
}

// Box-Muller in double precision. The angle is a fraction of a turn: quarter turns are split off exactly, so that
// cos(2 pi / 4) is 0 on every backend.
KERNEL(256, random_normal, long long seed, long long stream, long long offset, const long long* __restrict__ replayed,
       real* __restrict__ numbers, long long count, long long blocks) {
  constexpr int n = Words::kNumbers;
  each(blocks, [=](long long i) {
    const Words words(seed, stream, offset, replayed, i);
    UNROLL
    for (int e = 0; e < n; e += 2) {
      const double u = words.uniform(e), v = words.uniform(e + 1), radius = sqrt(-2 * log1p(-u));
      const double quarter = rint(4 * v), angle = 2 * (v - quarter / 4);  // in half turns
      const int turn = int(quarter) & 3;
      const double a = cospi(angle), b = sinpi(angle);
      const double cosine = turn == 0 ? a : turn == 1 ? -b : turn == 2 ? -a : b;
      const double sine = turn == 0 ? b : turn == 1 ? a : turn == 2 ? -b : -a;
      if (n * i + e < count) numbers[n * i + e] = real(radius * cosine);
      if (n * i + e + 1 < count) numbers[n * i + e + 1] = real(radius * sine);
    }
  });
}
