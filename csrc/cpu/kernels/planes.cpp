// Pooling, resizing, gathering and scattering on planes (H, W) of an (N, C, H, W) array.
//
// Contract: contiguous arrays, `planes` = N * C. Maps along an axis come as Taps; rows are done first, into one line of the
// width of the input, then columns. Deterministic: a sum over taps or repeated indices has one order, whatever the threads.
#include "cpu/parallel.h"
#include "cpu/table.h"
#include "cpu/vectormath.h"

namespace tinygen {
namespace TINYGEN_ISA {
namespace {

constexpr long long kGrain = 16384;

constexpr long long grain_of(long long elements_per_item) {
  return elements_per_item >= kGrain ? 1 : kGrain / (elements_per_item > 0 ? elements_per_item : 1);
}

// Room that this thread keeps between calls, handed out piece by piece.
class Room {
 public:
  explicit Room(Slot slot, size_t bytes) : at_((char*)scratch(slot, bytes)) {}
  template <class T>
  T* take(long long count) {
    T* piece = (T*)at_;
    at_ += bytes_for<T>(count);
    return piece;
  }
  template <class T>
  static size_t bytes_for(long long count) {
    return (count * sizeof(T) + 63) / 64 * 64;
  }

 private:
  char* at_;
};

// The used taps of a map, output by output: those of output p are [start[p], start[p + 1]). `same[p]`: as those of p - 1.
template <class T>
struct Rows {
  long long* start;
  long long* index;
  T* weight;
  bool* same;

  static size_t bytes(const Taps& taps) {
    const long long all = taps.outputs * taps.taps;
    return Room::bytes_for<long long>(taps.outputs + 1) + Room::bytes_for<long long>(all) + Room::bytes_for<T>(all) +
           Room::bytes_for<bool>(taps.outputs);
  }
  Rows(const Taps& taps, Room& room)
      : start(room.take<long long>(taps.outputs + 1)),
        index(room.take<long long>(taps.outputs * taps.taps)),
        weight(room.take<T>(taps.outputs * taps.taps)),
        same(room.take<bool>(taps.outputs)) {
    long long used = 0;
    for (long long p = 0; p < taps.outputs; p++) {
      start[p] = used;
      for (long long i = p * taps.taps; i < (p + 1) * taps.taps; i++) {
        if (taps.weight[i] == 0) continue;  // must not touch x: 0 * infinity would be NaN
        index[used] = taps.index[i];
        weight[used++] = (T)taps.weight[i];
      }
      same[p] = p > 0 && used - start[p] == start[p] - start[p - 1];
      for (long long i = start[p], j = p ? start[p - 1] : 0; same[p] && i < used; i++, j++)
        same[p] = index[i] == index[j] && weight[i] == weight[j];
    }
    start[taps.outputs] = used;
  }
};

// An index as wide as a lane of T, so that a vector of them gathers a vector of T.
template <class T>
struct IndexOf;
template <>
struct IndexOf<float> {
  typedef std::int32_t type;
  typedef MaskF Vec;
};
template <>
struct IndexOf<double> {
  typedef std::int64_t type;
  typedef MaskD Vec;
};
template <class T>
using Index = typename IndexOf<T>::type;
template <class T>
inline typename IndexOf<T>::Vec load_index(const Index<T>* p) {
  typename IndexOf<T>::Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
constexpr long long padded(long long count) { return (count + 15) / 16 * 16; }

// The same for columns, tap by tap, so that vectors run along the outputs: of `lines` lines at once, where a line has fewer
// outputs than a few vectors. Outputs with fewer taps than others are filled up with weight 0.
template <class T>
struct Columns {
  long long lines, outputs, pitch, taps = 0;
  Index<T>* index;
  T* weight;
  bool plain = true;  // one tap of weight 1 everywhere
  bool full = true;   // no output is filled up
  bool runs;          // the taps of every output lie side by side and are many

  static long long lines_for(const Taps& taps) { return taps.outputs >= 64 ? 1 : 64 / max(1, index_t(taps.outputs)); }
  static size_t bytes(const Taps& taps) {
    const long long all = padded(lines_for(taps) * taps.outputs) * (taps.taps + 1);
    return Room::bytes_for<Index<T>>(all) + Room::bytes_for<T>(all);
  }
  Columns(const Taps& map, const Rows<T>& used, Room& room)
      : lines(lines_for(map)),
        outputs(map.outputs),
        pitch(padded(lines * outputs)),
        index(room.take<Index<T>>(pitch * (map.taps + 1))),
        weight(room.take<T>(pitch * (map.taps + 1))) {
    for (long long q = 0; q < outputs; q++) taps = max(taps, used.start[q + 1] - used.start[q]);
    runs = taps >= 8;
    for (long long i = 0; i < pitch * taps; i++) index[i] = 0, weight[i] = 0;
    for (long long q = 0; q < outputs; q++) {
      const long long first = used.start[q], count = used.start[q + 1] - first;
      plain = plain && count == 1 && used.weight[first] == 1;
      full = full && count == taps;
      for (long long u = 0; u < count; u++) {
        runs = runs && used.index[first + u] == used.index[first] + u;
        for (long long line = 0; line < lines; line++) {
          index[u * pitch + line * outputs + q] = (Index<T>)(line * map.size + used.index[first + u]);
          weight[u * pitch + line * outputs + q] = used.weight[first + u];
        }
      }
    }
    plain = plain && taps == 1;
  }

  // out[o] = sum over u of weight[u][o] * line[index[u][o]] for `count` outputs, count / outputs lines
  void apply(const T* line, T* out, long long count) const {
    if (plain) return each(count, out, [&](long long o) { return gather(line, load_index<T>(index + o)); });
    if (full)
      return each(count, out, [&](long long o) {
        Vector<T> sum = {};
        for (long long i = o; i < taps * pitch; i += pitch) sum += load(weight + i) * gather(line, load_index<T>(index + i));
        return sum;
      });
    each(count, out, [&](long long o) {
      Vector<T> sum = {}, zero = {};
      for (long long i = o; i < taps * pitch; i += pitch) {
        Vector<T> w = load(weight + i);
        sum += select(w == 0, zero, w * gather(line, load_index<T>(index + i)));
      }
      return sum;
    });
  }

 private:
  template <class F>
  static inline void each(long long count, T* out, const F& f) {
    long long o = 0;
    for (; o + lanes<T> <= count; o += lanes<T>) store(out + o, f(o));
    if (o < count) store_part(out + o, f(o), (int)(count - o));
  }
};

template <class T>
inline T dot(const T* a, const T* b, long long count) {
  Vector<T> sum = {};
  long long i = 0;
  for (; i + lanes<T> <= count; i += lanes<T>) sum += load(a + i) * load(b + i);
  if (int rest = (int)(count - i)) sum += load_part(a + i, rest) * load_part(b + i, rest);
  return sum_lanes(sum);
}

// line[w] = sum over t of weight[t] * x[index[t] * width + w]
template <class T>
inline void combine_rows(const T* x, long long width, const long long* index, const T* weight, long long taps, T* line) {
  long long w = 0;
  for (; w + lanes<T> <= width; w += lanes<T>) {
    Vector<T> sum = {};
    for (long long t = 0; t < taps; t++) sum += weight[t] * load(x + index[t] * width + w);
    store(line + w, sum);
  }
  if (int rest = (int)(width - w)) {
    Vector<T> sum = {};
    for (long long t = 0; t < taps; t++) sum += weight[t] * load_part(x + index[t] * width + w, rest);
    store_part(line + w, sum, rest);
  }
}

}  // namespace

TINYGEN_KERNEL(resample, (long long planes, const Taps& rows, const Taps& cols, const T* x, T* y)) {
  const long long height = rows.size, width = cols.size, outputs = cols.outputs;
  Room room(kGeneral, Rows<T>::bytes(rows) + Rows<T>::bytes(cols) + Columns<T>::bytes(cols));
  const Rows<T> down(rows, room), along(cols, room);
  const Columns<T> across(cols, along, room);

  const long long work = width * (height / max(1, index_t(rows.outputs)) + 1) + outputs * across.taps;
  split(planes * rows.outputs, grain_of(work), [&](long long begin, long long end) {
    T* buffer = Room(kTile, Room::bytes_for<T>(across.lines * width)).template take<T>(across.lines * width);
    for (long long i = begin; i < end; i += across.lines) {
      const long long lines = min(across.lines, end - i);
      T* out = y + i * outputs;
      if (across.lines == 1 && i > begin && down.same[i % rows.outputs]) {
        __builtin_memcpy(out, out - outputs, outputs * sizeof(T));
        continue;
      }
      const T* from = buffer;
      for (long long j = 0; j < lines; j++) {
        const long long p = (i + j) % rows.outputs, first = down.start[p], taps = down.start[p + 1] - first;
        const T* plane = x + (i + j) / rows.outputs * height * width;
        T* line = buffer + j * width;
        if (down.same[p] && j > 0)
          __builtin_memcpy(line, line - width, width * sizeof(T));
        else if (taps == 1 && down.weight[first] == 1 && across.lines == 1)
          from = plane + down.index[first] * width;
        else
          combine_rows(plane, width, down.index + first, down.weight + first, taps, line);
      }
      if (across.runs) {
        for (long long j = 0; j < lines; j++)
          for (long long q = 0; q < outputs; q++) {
            const long long at = along.start[q], count = along.start[q + 1] - at;
            out[j * outputs + q] = count ? dot(from + j * width + along.index[at], along.weight + at, count) : T(0);
          }
      } else {
        across.apply(from, out, lines * outputs);
      }
    }
  });
}

namespace {

// Any taps, one output at a time.
template <class T>
inline void max_pool_any(const Taps& rows, const Taps& cols, const T* plane, T* out, long long* winners) {
  for (long long o = 0; o < rows.outputs * cols.outputs; o++) {
    const long long p = o / cols.outputs, q = o % cols.outputs;
    T best = -__builtin_inf();
    long long winner = -1;
    for (long long t = 0; t < rows.taps; t++)
      for (long long u = 0; u < cols.taps; u++) {
        const long long h = rows.index[p * rows.taps + t], w = cols.index[q * cols.taps + u];
        if (h < 0 || w < 0) continue;
        const T value = plane[h * cols.size + w];
        if (value > best || winner < 0 || (value != value && best == best)) best = value, winner = h * cols.size + w;
      }
    out[o] = best;
    winners[o] = winner < 0 ? 0 : winner;
  }
}

// Whether outputs p = 0, 1, ... see the elements 2 p and 2 p + 1.
inline bool halves(const Taps& taps) {
  for (long long i = 0; i < taps.outputs * taps.taps; i++)
    if (taps.taps != 2 || taps.index[i] != i) return false;
  return true;
}

TINYGEN_INLINE void store_winners(long long* to, MaskF winner, int count) {
  std::int32_t where[lanes<float>];
  __builtin_memcpy(where, &winner, sizeof winner);
  for (int i = 0; i < count; i++) to[i] = where[i];
}
TINYGEN_INLINE void store_winners(long long* to, MaskD winner, int count) { __builtin_memcpy(to, &winner, count * sizeof *to); }

// Windows of 2 x 2 side by side: even and odd elements of two rows are two vectors each.
template <class T>
inline void max_pool_halves(const Taps& rows, const Taps& cols, const T* plane, T* out, long long* winners) {
  constexpr int L = lanes<T>;
  using Places = typename IndexOf<T>::Vec;
  const Index<T> width = (Index<T>)cols.size;
  Places step;
  for (int i = 0; i < L; i++) step[i] = 2 * i;
  for (long long p = 0; p < rows.outputs; p++)
    for (long long q = 0; q < cols.outputs; q += L) {
      const long long at = 2 * p * cols.size + 2 * q;
      const int count = (int)min(L, cols.outputs - q);
      Vector<T> value[4];
      for (int t = 0; t < 2; t++) {
        const T* row = plane + at + t * cols.size;
        Vector<T> a, b = {};
        if (count == L)
          a = load(row), b = load(row + L);
        else if (2 * count > L)
          a = load(row), b = load_part(row + L, 2 * count - L);
        else
          a = load_part(row, 2 * count);
        value[2 * t] = Shuffles<T>::even(a, b);
        value[2 * t + 1] = Shuffles<T>::odd(a, b);
      }
      const Places first = step + (Index<T>)at;
      Vector<T> best = value[0];
      Places winner = first;
      for (int k = 1; k < 4; k++) {
        const auto better = (value[k] > best) | ((value[k] != value[k]) & (best == best));
        best = select(better, value[k], best);
        winner = better ? first + (k / 2 * width + k % 2) : winner;
      }
      const long long o = p * cols.outputs + q;
      store_part(out + o, best, count);
      store_winners(winners + o, winner, count);
    }
}

// The first tap inside for each output (-1: none).
inline bool first_inside(const Taps& taps, long long* first) {
  bool all = true;
  for (long long p = 0; p < taps.outputs; p++) {
    first[p] = -1;
    for (long long t = 0; t < taps.taps && first[p] < 0; t++) first[p] = taps.index[p * taps.taps + t];
    all = all && first[p] >= 0;
  }
  return all;
}

}  // namespace

// Vectors run along the outputs of a plane; for each tap of the window a table says where in the plane it looks. A tap outside
// looks where the output's first tap inside does: seeing that one twice changes neither maximum nor winner.
TINYGEN_KERNEL(max_pool, (long long planes, const Taps& rows, const Taps& cols, const T* x, T* y, long long* winners)) {
  const long long size = rows.size * cols.size, outputs = rows.outputs * cols.outputs, pitch = padded(outputs);
  const long long window = rows.taps * cols.taps;
  if (halves(rows) && halves(cols) && size < (1LL << 31))
    return split(planes, grain_of(size + outputs), [&](long long plane, long long end) {
      for (; plane < end; plane++)
        max_pool_halves(rows, cols, x + plane * size, y + plane * outputs, winners + plane * outputs);
    });
  Room room(kGeneral, Room::bytes_for<long long>(rows.outputs) + Room::bytes_for<long long>(cols.outputs) +
                          Room::bytes_for<Index<T>>(pitch * window));
  long long *first_row = room.take<long long>(rows.outputs), *first_col = room.take<long long>(cols.outputs);
  Index<T>* index = room.take<Index<T>>(pitch * window);
  const bool rows_inside = first_inside(rows, first_row), cols_inside = first_inside(cols, first_col);
  const bool regular = rows_inside && cols_inside && window > 0 && size < (1LL << 31);
  for (long long k = 0; regular && k < window; k++) {
    Index<T>* at = index + k * pitch;
    for (long long p = 0; p < rows.outputs; p++)
      for (long long q = 0; q < cols.outputs; q++) {
        const long long h = rows.index[p * rows.taps + k / cols.taps], w = cols.index[q * cols.taps + k % cols.taps];
        *at++ = (Index<T>)(h < 0 || w < 0 ? first_row[p] * cols.size + first_col[q] : h * cols.size + w);
      }
    for (; at < index + (k + 1) * pitch; at++) *at = 0;
  }

  split(planes, grain_of(size + outputs * window), [&](long long plane, long long end) {
    for (; plane < end; plane++) {
      const T* from = x + plane * size;
      T* out = y + plane * outputs;
      long long* won = winners + plane * outputs;
      if (!regular) {
        max_pool_any(rows, cols, from, out, won);
        continue;
      }
      for (long long o = 0; o < outputs; o += lanes<T>) {
        auto winner = load_index<T>(index + o);
        Vector<T> best = gather(from, winner);
        for (long long i = o + pitch; i < window * pitch; i += pitch) {
          const auto position = load_index<T>(index + i);
          const Vector<T> value = gather(from, position);
          const auto better = (value > best) | ((value != value) & (best == best));
          best = select(better, value, best);
          winner = better ? position : winner;
        }
        const int count = (int)min(lanes<T>, outputs - o);
        store_part(out + o, best, count);
        store_winners(won + o, winner, count);
      }
    }
  });
}

namespace {

// Whether one of them is not in [0, bound): the top bit of the index, or of what is left up to the bound, is set.
inline bool any_outside(const long long* index, long long count, long long bound) {
  unsigned long long bits = 0;
  for (long long i = 0; i < count; i++) {
    const unsigned long long at = (unsigned long long)index[i];
    bits |= at | ((unsigned long long)bound - 1 - at);
  }
  return bits >> 63;
}

inline void report(bool* outside) { __atomic_store_n(outside, true, __ATOMIC_RELAXED); }  // by any thread

}  // namespace

// *outside becomes true, and the plane is left alone, where an index is not in [0, size).
TINYGEN_KERNEL(take_plane, (long long planes, long long size, long long count, const T* x, const long long* index, T* y,
                            bool* outside)) {
  split(planes, grain_of(count), [&](long long plane, long long end) {
    for (; plane < end; plane++) {
      const T* from = x + plane * size;
      const long long* at = index + plane * count;
      if (any_outside(at, count, size)) return report(outside);
      T* to = y + plane * count;
      for (long long i = 0; i < count; i++) to[i] = from[at[i]];
    }
  });
}

TINYGEN_KERNEL(put_plane, (long long planes, long long size, long long count, const T* y, const long long* index, T* x,
                           bool* outside)) {
  split(planes, grain_of(count + size), [&](long long plane, long long end) {
    for (; plane < end; plane++) {
      const T* from = y + plane * count;
      const long long* at = index + plane * count;
      if (any_outside(at, count, size)) return report(outside);
      T* to = x + plane * size;
      __builtin_memset(to, 0, size * sizeof(T));
      for (long long i = 0; i < count; i++) to[at[i]] += from[i];
    }
  });
}

// Each thread owns a range of destinations and reads all of `index`: the sums have the order of i, and nothing is atomic.
TINYGEN_KERNEL(scatter_add, (long long count, long long width, long long length, const T* values, const long long* index,
                             T* out, bool* outside)) {
  if (any_outside(index, count, length)) return report(outside);
  const long long work = count * width + length * width;
  split(length, work > 0 ? grain_of(work / (length > 0 ? length : 1)) : length, [&](long long begin, long long end) {
    __builtin_memset(out + begin * width, 0, (end - begin) * width * sizeof(T));
    for (long long i = 0; i < count; i++) {
      if (index[i] < begin || index[i] >= end) continue;
      T* to = out + index[i] * width;
      const T* from = values + i * width;
      for (long long j = 0; j < width; j++) to[j] += from[j];
    }
  });
}

}  // namespace TINYGEN_ISA
}  // namespace tinygen
