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

// The same for columns, tap by tap: tap u of output q is at [u * outputs + q], so that vectors run along q. Outputs with fewer
// taps than others are filled up with weight 0. `runs`: the taps of every output lie side by side and are many.
template <class T>
struct Columns {
  long long outputs, taps = 0;
  std::int32_t* index;
  T* weight;
  bool plain = true, full = true, runs;  // plain: one tap of weight 1 everywhere; full: no output is filled up

  static size_t bytes(const Taps& taps) {
    const long long all = taps.outputs * (taps.taps + 1);
    return Room::bytes_for<std::int32_t>(all) + Room::bytes_for<T>(all);
  }
  Columns(const Taps& map, const Rows<T>& used, Room& room)
      : outputs(map.outputs),
        index(room.take<std::int32_t>(map.outputs * (map.taps + 1))),
        weight(room.take<T>(map.outputs * (map.taps + 1))) {
    for (long long q = 0; q < outputs; q++) taps = max(taps, used.start[q + 1] - used.start[q]);
    runs = taps >= 8;
    for (long long q = 0; q < outputs; q++) {
      const long long first = used.start[q], count = used.start[q + 1] - first;
      plain = plain && count == 1 && used.weight[first] == 1;
      full = full && count == taps;
      for (long long u = 0; u < count; u++) {
        index[u * outputs + q] = (std::int32_t)used.index[first + u];
        weight[u * outputs + q] = used.weight[first + u];
        runs = runs && used.index[first + u] == used.index[first] + u;
      }
      for (long long u = count; u < taps; u++) index[u * outputs + q] = 0, weight[u * outputs + q] = 0;
    }
    plain = plain && taps == 1;
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
  for (; w < width; w++) {
    T sum = 0;
    for (long long t = 0; t < taps; t++) sum += weight[t] * x[index[t] * width + w];
    line[w] = sum;
  }
}

}  // namespace

TINYGEN_KERNEL(resample, (long long planes, const Taps& rows, const Taps& cols, const T* x, T* y)) {
  const long long height = rows.size, width = cols.size, outputs = cols.outputs;
  Room room(kGeneral, Rows<T>::bytes(rows) + Rows<T>::bytes(cols) + Columns<T>::bytes(cols));
  const Rows<T> down(rows, room), along(cols, room);
  const Columns<T> across(cols, along, room);

  split(planes * rows.outputs, grain_of(width * (height / max(index_t(1), index_t(rows.outputs)) + 1) + outputs),
        [&](long long begin, long long end) {
    T* own_line = Room(kTile, Room::bytes_for<T>(width)).template take<T>(width);
    for (long long i = begin; i < end; i++) {
      const long long p = i % rows.outputs, first = down.start[p], taps = down.start[p + 1] - first;
      const T* plane = x + i / rows.outputs * height * width;
      T* out = y + i * outputs;
      if (down.same[p] && i > begin) {
        __builtin_memcpy(out, out - outputs, outputs * sizeof(T));
        continue;
      }
      const T* line = own_line;
      if (taps == 1 && down.weight[first] == 1)
        line = plane + down.index[first] * width;
      else
        combine_rows(plane, width, down.index + first, down.weight + first, taps, own_line);

      if (across.plain) {
        for (long long q = 0; q < outputs; q++) out[q] = line[across.index[q]];
      } else if (across.runs) {
        for (long long q = 0; q < outputs; q++) {
          const long long from = along.start[q], count = along.start[q + 1] - from;
          out[q] = count ? dot(line + along.index[from], along.weight + from, count) : T(0);
        }
      } else {
        if (across.taps == 0)
          for (long long q = 0; q < outputs; q++) out[q] = 0;
        for (long long u = 0; u < across.taps; u++) {
          const std::int32_t* index = across.index + u * outputs;
          const T* weight = across.weight + u * outputs;
          if (u == 0 && across.full)
            for (long long q = 0; q < outputs; q++) out[q] = weight[q] * line[index[q]];
          else if (across.full)
            for (long long q = 0; q < outputs; q++) out[q] += weight[q] * line[index[q]];
          else
            for (long long q = 0; q < outputs; q++) {
              T term = weight[q] * line[index[q]], before = u ? out[q] : T(0);
              out[q] = before + (weight[q] == 0 ? T(0) : term);
            }
        }
      }
    }
  });
}

namespace {

// Any taps, one output at a time.
template <class T>
inline void max_pool_any(const Taps& rows, const Taps& cols, const T* plane, long long p, T* out, long long* winners) {
  for (long long q = 0; q < cols.outputs; q++) {
    T best = -__builtin_inf();
    long long winner = -1;
    for (long long t = 0; t < rows.taps; t++)
      for (long long u = 0; u < cols.taps; u++) {
        const long long h = rows.index[p * rows.taps + t], w = cols.index[q * cols.taps + u];
        if (h < 0 || w < 0) continue;
        const T value = plane[h * cols.size + w];
        if (value > best || winner < 0 || (value != value && best == best)) best = value, winner = h * cols.size + w;
      }
    out[q] = best;
    winners[q] = winner < 0 ? 0 : winner;
  }
}

// Whether each output has a tap inside and its taps inside ascend: then the first maximum in the order of taps is the one with
// the smallest position in the plane, and the maximum may be taken along one axis after the other.
inline bool ascending(const Taps& taps) {
  for (long long p = 0; p < taps.outputs; p++) {
    long long last = -1;
    for (long long i = p * taps.taps; i < (p + 1) * taps.taps; i++) {
      if (taps.index[i] < 0) continue;
      if (taps.index[i] <= last) return false;
      last = taps.index[i];
    }
    if (last < 0) return false;
  }
  return true;
}

}  // namespace

TINYGEN_KERNEL(max_pool, (long long planes, const Taps& rows, const Taps& cols, const T* x, T* y, long long* winners)) {
  typedef std::int32_t Position;
  const long long height = rows.size, width = cols.size, outputs = cols.outputs;
  const bool regular = height * width < (1LL << 31) && ascending(rows) && ascending(cols);
  // Columns tap by tap, taps outside replaced by the output's last one inside: seen twice, it changes nothing.
  std::int32_t* index = (std::int32_t*)scratch(kGeneral, (outputs * cols.taps + 1) * sizeof *index);
  for (long long q = 0; regular && q < outputs; q++) {
    long long inside = 0;
    for (long long u = 0; u < cols.taps; u++) inside = max(inside, cols.index[q * cols.taps + u]);
    for (long long u = 0; u < cols.taps; u++) {
      const long long w = cols.index[q * cols.taps + u];
      index[u * outputs + q] = (std::int32_t)(w < 0 ? inside : w);
    }
  }

  split(planes * rows.outputs, grain_of(width * rows.taps + outputs * cols.taps), [&](long long begin, long long end) {
    Room room(kTile, Room::bytes_for<T>(width) + Room::bytes_for<Position>(width) + Room::bytes_for<Position>(outputs));
    T* line = room.take<T>(width);
    Position *at = room.take<Position>(width), *won = room.take<Position>(outputs);
    for (long long i = begin; i < end; i++) {
      const long long p = i % rows.outputs;
      const T* plane = x + i / rows.outputs * height * width;
      T* out = y + i * outputs;
      if (!regular) {
        max_pool_any(rows, cols, plane, p, out, winners + i * outputs);
        continue;
      }
      bool started = false;
      for (long long t = 0; t < rows.taps; t++) {
        const long long h = rows.index[p * rows.taps + t];
        if (h < 0) continue;
        const T* row = plane + h * width;
        const Position here = (Position)(h * width);
        if (!started) {
          for (long long w = 0; w < width; w++) line[w] = row[w], at[w] = here + (Position)w;
        } else {
          for (long long w = 0; w < width; w++) {
            const T value = row[w], best = line[w];
            const bool better = (value > best) | ((value != value) & (best == best));
            line[w] = better ? value : best;
            at[w] = better ? here + (Position)w : at[w];
          }
        }
        started = true;
      }
      for (long long q = 0; q < outputs; q++) out[q] = line[index[q]], won[q] = at[index[q]];
      for (long long u = 1; u < cols.taps; u++) {
        const std::int32_t* column = index + u * outputs;
        for (long long q = 0; q < outputs; q++) {
          const T value = line[column[q]], best = out[q];
          const Position position = at[column[q]], before = won[q];
          const bool both_nan = (value != value) & (best != best);
          const bool better = (value > best) | ((value != value) & (best == best)) |
                              (((value == best) | both_nan) & (position < before));
          out[q] = better ? value : best;
          won[q] = better ? position : before;
        }
      }
      for (long long q = 0; q < outputs; q++) winners[i * outputs + q] = won[q];
    }
  });
}

TINYGEN_KERNEL(take_plane, (long long planes, long long size, long long count, const T* x, const long long* index, T* y)) {
  split(planes, grain_of(count), [&](long long plane, long long end) {
    for (; plane < end; plane++) {
      const T* from = x + plane * size;
      const long long* at = index + plane * count;
      T* to = y + plane * count;
      for (long long i = 0; i < count; i++) to[i] = from[at[i]];
    }
  });
}

TINYGEN_KERNEL(put_plane, (long long planes, long long size, long long count, const T* y, const long long* index, T* x)) {
  split(planes, grain_of(count + size), [&](long long plane, long long end) {
    for (; plane < end; plane++) {
      const T* from = y + plane * count;
      const long long* at = index + plane * count;
      T* to = x + plane * size;
      __builtin_memset(to, 0, size * sizeof(T));
      for (long long i = 0; i < count; i++) to[at[i]] += from[i];
    }
  });
}

// Each thread owns a range of destinations and reads all of `index`: the sums have the order of i, and nothing is atomic.
TINYGEN_KERNEL(scatter_add,
               (long long count, long long width, long long length, const T* values, const long long* index, T* out)) {
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
