// Random numbers: Philox4x32-10 (Salmon et al. 2011), a function of (seed, stream, position) without any state.
//
// Contract: word i of the sequence is word i % 4 of block offset + i / 4, whatever the number of threads; random_bits and
// random_uniform equal the reference bit for bit, random_normal within 4 ulp. A vector of 64-bit lanes holds one 32-bit counter
// word of several blocks: the multiplier instruction of every instruction set reads the low half of each lane only, so high
// halves may hold anything until the end. 80 vector operations make 32 words with AVX-512.
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vectormath.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

typedef std::uint64_t Wide __attribute__((vector_size(TINYGEN_VECTOR_BYTES)));
constexpr int kBlocks = TINYGEN_VECTOR_BYTES / 8;  // blocks computed side by side
constexpr int kWords = 1024;                       // words made at a time, kept in L1
constexpr long long kGrain = 8192;

// low 32 bits of a times low 32 bits of b, per lane
TINYGEN_INLINE Wide multiply(Wide a, Wide b) {
#if defined(__AVX512F__)
  return (Wide)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Wide)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Wide)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

// words[0 .. kWords) from block `block` on
inline void fill(const Philox& state, std::uint64_t block, std::uint32_t* words) {
  const Wide m0 = Wide{} + 0xD2511F53u, m1 = Wide{} + 0xCD9E8D57u;
  Wide lane;
  for (int i = 0; i < kBlocks; i++) lane[i] = i;
  for (int done = 0; done < kWords; done += 4 * kBlocks, block += kBlocks) {
    Wide number = lane + block;
    Wide c0 = number, c1 = number >> 32, c2 = Wide{} + state.stream, c3 = {};
    std::uint32_t k0 = (std::uint32_t)state.seed, k1 = (std::uint32_t)(state.seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
      Wide p0 = multiply(m0, c0), p1 = multiply(m1, c2);
      c0 = (p1 >> 32) ^ c1 ^ (Wide{} + k0);
      c1 = p1;
      c2 = (p0 >> 32) ^ c3 ^ (Wide{} + k1);
      c3 = p0;
    }
    std::uint64_t first[kBlocks], second[kBlocks];
    Wide low = (c0 & 0xffffffffu) | (c1 << 32), high = (c2 & 0xffffffffu) | (c3 << 32);
    __builtin_memcpy(first, &low, sizeof low);
    __builtin_memcpy(second, &high, sizeof high);
    for (int i = 0; i < kBlocks; i++) {
      __builtin_memcpy(words + done + 4 * i, first + i, 8);
      __builtin_memcpy(words + done + 4 * i + 2, second + i, 8);
    }
  }
}

// body(words, begin, end) with the words that make the values begin .. end - 1; a value takes `each` words.
template <class Body>
inline void by_chunk(const Philox& state, long long count, int each, const Body& body) {
  const long long per_chunk = kWords / each, chunks = (count + per_chunk - 1) / per_chunk;
  split(chunks, kGrain / per_chunk, [&](long long chunk, long long end) {
    std::uint32_t words[kWords];
    for (; chunk < end; chunk++) {
      fill(state, state.offset + (std::uint64_t)chunk * (kWords / 4), words);
      long long begin = chunk * per_chunk, stop = begin + per_chunk;
      body(words, begin, stop < count ? stop : count);
    }
  });
}

TINYGEN_INLINE void uniform(const std::uint32_t* words, int count, float* u) {
  for (int i = 0; i < count; i++) u[i] = (float)(std::int32_t)(words[i] >> 8) * 0x1p-24f;
}
TINYGEN_INLINE void uniform(const std::uint32_t* words, int count, double* u) {
  for (int i = 0; i < count; i++)
    u[i] = ((std::int32_t)(words[2 * i] >> 5) * 67108864.0 + (std::int32_t)(words[2 * i + 1] >> 6)) * 0x1p-53;
}

// One vector of pairs: values r cos(2 pi v) and r sin(2 pi v), r = sqrt(-2 log(1 - u)). Quarter turns are split off exactly.
TINYGEN_INLINE VecF log_of_one_minus(VecF u) { return log(1.0f - u); }  // 1 - u is exact: u is a multiple of 2^-24
TINYGEN_INLINE VecD log_of_one_minus(VecD u) {
  for (int i = 0; i < lanes<double>; i++) u[i] = __builtin_log1p(-u[i]);
  return u;
}
template <class T>
TINYGEN_INLINE void box_muller(Vector<T> u, Vector<T> v, Vector<T>& a, Vector<T>& b) {
  const T magic = sizeof(T) == 4 ? (T)12582912.0 : (T)6755399441055744.0;  // 1.5 * 2^23, 1.5 * 2^52: rounds to an integer
  Vector<T> shifted = 4 * v + magic, quarter = shifted - magic;
  Vector<T> sin, cos, radius = sqrt(-2 * log_of_one_minus(u));
  sincos_turn(v - quarter * (T)0.25, sin, cos);
  auto odd = (quarter == 1) | (quarter == 3);
  Vector<T> c = select(odd, sin, cos), s = select(odd, cos, sin);
  a = radius * select((quarter == 1) | (quarter == 2), -c, c);
  b = radius * select((quarter == 2) | (quarter == 3), -s, s);
}

}  // namespace

TINYGEN_KERNEL(random_bits, (const Philox& state, long long count, std::uint32_t* out)) {
  by_chunk(state, count, 1, [&](const std::uint32_t* words, long long begin, long long end) {
    __builtin_memcpy(out + begin, words, (end - begin) * sizeof *words);
  });
}

TINYGEN_KERNEL(random_uniform, (const Philox& state, long long count, T* out)) {
  by_chunk(state, count, sizeof(T) / 4, [&](const std::uint32_t* words, long long begin, long long end) {
    uniform(words, (int)(end - begin), out + begin);
  });
}

TINYGEN_KERNEL(random_normal, (const Philox& state, long long count, T* out)) {
  constexpr int values = kWords * 4 / (int)sizeof(T), pairs = values / 2;
  by_chunk(state, count, sizeof(T) / 4, [&](const std::uint32_t* words, long long begin, long long end) {
    T both[values], u[pairs], v[pairs];
    uniform(words, values, both);
    for (int i = 0; i < pairs; i++) u[i] = both[2 * i], v[i] = both[2 * i + 1];
    int needed = (int)((end - begin + 1) / 2);
    for (int i = 0; i < needed; i += lanes<T>) {
      Vector<T> a, b;
      box_muller<T>(load(u + i), load(v + i), a, b);
      store(u + i, a);
      store(v + i, b);
    }
    T* to = end - begin == values ? out + begin : both;
    for (int i = 0; i < needed; i++) to[2 * i] = u[i], to[2 * i + 1] = v[i];
    if (to == both) __builtin_memcpy(out + begin, both, (end - begin) * sizeof(T));
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
