// y = x W^T + b for a W of which only the non-zero blocks are stored, float32, any x86-64 or ARM.
//
// Blocks are `height` outputs (1 or 4) by one input. The tokens are taken a tile at a time: the
// tile of x is transposed, so that one weight meets a whole vector of tokens, then each group of
// outputs adds up its blocks in registers. The inputs are cut into chunks that keep the part of
// the tile in use in the first-level cache; a group's sums rest in a buffer between two chunks.
//
// asrprune/lm/engines/sparse/matrices.py compiles this file (with the vector flags of the machine), packs the
// matrices and calls it; it needs no header of Python or torch. The interface is plain C.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr int kVectors4 = 4;  // vectors of tokens that 4 outputs hold in registers: 16 of 32
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kVectors4 = 2;  // 8 of 16 registers
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr int kVectors4 = 4;
#else
constexpr int kLanes = 4;
constexpr int kVectors4 = 2;
#endif
constexpr int kVectors1 = 4;
constexpr int64_t kAlignment = 64;

typedef float Lanes __attribute__((vector_size(kLanes * 4), may_alias));
typedef float Four __attribute__((vector_size(16), may_alias));
typedef float LooseFour __attribute__((vector_size(16), aligned(4), may_alias));

#if defined(__clang__)
#define PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t FourIndices __attribute__((vector_size(16)));
#define PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, FourIndices{i, j, k, l})
#endif

// The matrix: `starts` [chunks * groups + 1] says where the blocks of a group in a chunk begin;
// `columns` counts from the start of the chunk; `values` holds `height` values a block.
struct Job {
  const float* x;  // [tokens, inputs]
  int64_t tokens, inputs;
  const float* bias;  // [outputs]
  int64_t outputs;
  const int32_t* starts;
  const uint16_t* columns;
  const float* values;
  int64_t height, chunk;
  float* y;  // [tokens, outputs]
  int64_t tile;  // tokens that one call of `one_tile` takes
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
};

// Rows of `from` (stride `from_stride`) become columns of `to`: to[c][r] = from[r][c].
// Sixteen columns, one cache line, are read at once.
static void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns,
                      float* to, int64_t to_stride) {
  const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t block = 0; block < whole_columns; block += 16) {
    const int64_t end = block + 16 < whole_columns ? block + 16 : whole_columns;
    for (int64_t r = 0; r < whole_rows; r += 4) {
      for (int64_t c = block; c < end; c += 4) {
        const float* source = from + r * from_stride + c;
        const Four a = *(const LooseFour*)(source);
        const Four b = *(const LooseFour*)(source + from_stride);
        const Four d = *(const LooseFour*)(source + 2 * from_stride);
        const Four e = *(const LooseFour*)(source + 3 * from_stride);
        const Four low_ab = PICK(a, b, 0, 4, 1, 5), high_ab = PICK(a, b, 2, 6, 3, 7);
        const Four low_de = PICK(d, e, 0, 4, 1, 5), high_de = PICK(d, e, 2, 6, 3, 7);
        float* target = to + c * to_stride + r;
        *(LooseFour*)(target) = PICK(low_ab, low_de, 0, 1, 4, 5);
        *(LooseFour*)(target + to_stride) = PICK(low_ab, low_de, 2, 3, 6, 7);
        *(LooseFour*)(target + 2 * to_stride) = PICK(high_ab, high_de, 0, 1, 4, 5);
        *(LooseFour*)(target + 3 * to_stride) = PICK(high_ab, high_de, 2, 3, 6, 7);
      }
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      to[c * to_stride + r] = from[r * from_stride + c];
    }
  }
}

// Adds the blocks [first, last) of one output to its sums; two sets of sums hide the latency.
template <int V>
static inline void add_single(const Job& job, const float* x, int32_t first, int32_t last,
                              Lanes* sums) {
  Lanes even[V], odd[V];
  for (int v = 0; v < V; ++v) {
    even[v] = sums[v];
    odd[v] = Lanes{};
  }
  int32_t n = first;
  for (; n + 1 < last; n += 2) {
    const Lanes* p = (const Lanes*)x + (int64_t)job.columns[n] * V;
    const Lanes* q = (const Lanes*)x + (int64_t)job.columns[n + 1] * V;
    const float w = job.values[n], u = job.values[n + 1];
    for (int v = 0; v < V; ++v) even[v] += w * p[v];
    for (int v = 0; v < V; ++v) odd[v] += u * q[v];
  }
  if (n < last) {
    const Lanes* p = (const Lanes*)x + (int64_t)job.columns[n] * V;
    const float w = job.values[n];
    for (int v = 0; v < V; ++v) even[v] += w * p[v];
  }
  for (int v = 0; v < V; ++v) sums[v] = even[v] + odd[v];
}

// The same for four outputs, whose sums stand one after the other.
template <int V>
static inline void add_four(const Job& job, const float* x, int32_t first, int32_t last,
                            Lanes* sums) {
  Lanes a[V], b[V], c[V], d[V];
  for (int v = 0; v < V; ++v) {
    a[v] = sums[v];
    b[v] = sums[V + v];
    c[v] = sums[2 * V + v];
    d[v] = sums[3 * V + v];
  }
  for (int32_t n = first; n < last; ++n) {
    const Lanes* p = (const Lanes*)x + (int64_t)job.columns[n] * V;
    const float* w = job.values + (int64_t)n * 4;
    for (int v = 0; v < V; ++v) {
      a[v] += w[0] * p[v];
      b[v] += w[1] * p[v];
      c[v] += w[2] * p[v];
      d[v] += w[3] * p[v];
    }
  }
  for (int v = 0; v < V; ++v) {
    sums[v] = a[v];
    sums[V + v] = b[v];
    sums[2 * V + v] = c[v];
    sums[3 * V + v] = d[v];
  }
}

// At most V * kLanes tokens from `start` on. `packed` [inputs, V * kLanes] and
// `sums` [groups * height, V * kLanes] are scratch.
template <int V>
static void one_tile(const Job& job, int64_t start, int64_t count, float* packed, float* sums) {
  constexpr int64_t width = V * kLanes;
  const int64_t groups = (job.outputs + job.height - 1) / job.height;
  if (count < width) std::memset(packed, 0, sizeof(float) * width * job.inputs);
  transpose(job.x + start * job.inputs, job.inputs, count, job.inputs, packed, width);
  for (int64_t o = 0; o < groups * job.height; ++o) {
    const float bias = o < job.outputs ? job.bias[o] : 0.0f;
    for (int64_t t = 0; t < width; ++t) sums[o * width + t] = bias;
  }
  const int32_t* starts = job.starts;
  for (int64_t k = 0; k < job.inputs; k += job.chunk) {
    const float* x = packed + k * width;
    for (int64_t g = 0; g < groups; ++g, ++starts) {
      Lanes* here = (Lanes*)(sums + g * job.height * width);
      if (starts[0] == starts[1]) continue;
      if (job.height == 4) {
        add_four<V>(job, x, starts[0], starts[1], here);
      } else {
        add_single<V>(job, x, starts[0], starts[1], here);
      }
    }
  }
  transpose(sums, width, job.outputs, count, job.y + start * job.outputs, job.outputs);
}

// What one thread does: tiles, until there are none left. Its signature is OpenMP's.
static void work(void* argument) {
  Job& job = *(Job*)argument;
  const int64_t padded = (job.outputs + 3) / 4 * 4;
  const int64_t floats = (job.inputs + padded) * job.tile;
  const int64_t bytes = (floats * 4 + kAlignment - 1) / kAlignment * kAlignment;
  float* packed = (float*)std::aligned_alloc(kAlignment, bytes);
  if (packed == nullptr) {
    job.failed = true;
    return;
  }
  float* sums = packed + job.inputs * job.tile;
  for (;;) {
    const int64_t start = job.next.fetch_add(job.tile);
    if (start >= job.tokens) break;
    const int64_t left = job.tokens - start;
    const int64_t count = left < job.tile ? left : job.tile;
    switch ((count + kLanes - 1) / kLanes) {
      case 1: one_tile<1>(job, start, count, packed, sums); break;
      case 2: one_tile<2>(job, start, count, packed, sums); break;
      case 3: one_tile<3>(job, start, count, packed, sums); break;
      default: one_tile<4>(job, start, count, packed, sums); break;
    }
  }
  std::free(packed);
}

typedef void (*Parallel)(void (*function)(void*), void* argument, unsigned threads,
                         unsigned flags);

// Writes y = x W^T + b. `parallel` is GOMP_parallel of the OpenMP runtime that torch has loaded,
// so that both use the same threads; without it (null) threads are made and joined here.
// Returns 0, or 1 when there was no memory for the scratch buffers.
extern "C" int asrprune_sparse_linear(const float* x, int64_t tokens, int64_t inputs,
                                      const float* bias, int64_t outputs, const int32_t* starts,
                                      const uint16_t* columns, const float* values,
                                      int64_t height, int64_t chunk, float* y, int64_t threads,
                                      Parallel parallel) {
  Job job;
  job.x = x;
  job.tokens = tokens;
  job.inputs = inputs;
  job.bias = bias;
  job.outputs = outputs;
  job.starts = starts;
  job.columns = columns;
  job.values = values;
  job.height = height;
  job.chunk = chunk;
  job.y = y;
  const int64_t vectors = height == 4 ? kVectors4 : kVectors1;
  const int64_t share = (tokens + threads * kLanes - 1) / (threads * kLanes);  // vectors a thread
  job.tile = kLanes * (share < 1 ? 1 : share < vectors ? share : vectors);
  const int64_t tiles = (tokens + job.tile - 1) / job.tile;
  if (threads > tiles) threads = tiles;
  if (threads <= 1) {
    work(&job);
  } else if (parallel != nullptr) {
    parallel(work, &job, (unsigned)threads, 0);
  } else {
    std::vector<std::thread> others;
    try {
      for (int64_t i = 1; i < threads; ++i) others.emplace_back(work, (void*)&job);
    } catch (const std::system_error&) {
      // no more threads to be had: those that run take all tiles
    }
    work(&job);
    for (std::thread& one : others) one.join();
  }
  // a thread without memory leaves its tiles to the others; all is done when none is left
  return job.failed && job.next < tokens ? 1 : 0;
}

// Floats in a vector: what the file was compiled for.
extern "C" int asrprune_sparse_lanes() { return kLanes; }
