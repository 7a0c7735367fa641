// A whole forward pass of the Transformer over tries, with weights and activations in 8 bits.
//
// Every matrix is multiplied in integers: its weights have one scale a column, its input one scale
// and zero point a row, measured when the row is there; so a row's result depends on that row
// alone and nothing is calibrated. Activations have codes 0..127 and the weights are such that four
// products add up in 16 bits without overflow (asrprune/lm/engines/int8/codes.py); on AVX2 that saves a
// quarter of the multiplications of summing two. All the rest (layer norms, attention, GELU,
// softmax, the sum over the vocabulary) is float32, the last in double.
//
// Places stand in depth-first order, so that all that a place attends to, its ancestors, stands
// before it: a block goes over the places a tile at a time, and what it computes stays in the
// second-level cache. There are no threads here: callers run several passes at once.
//
// asrprune/lm/engines/int8/packed.py compiles this file for the machine and packs the matrices; it needs no
// header of Python or torch. The interface is plain C.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE __attribute__((always_inline)) inline  // a call a product costs 3 %

namespace {

constexpr int64_t kLanes = 8;
constexpr int64_t kPanel = 16;       // columns that are packed and multiplied together
constexpr int64_t kTile = 96;        // places that go through a block together
constexpr int64_t kVocab = 1024;     // columns of the output layer at a time
constexpr float kLevels = 127.0f;    // largest code of an activation
constexpr float kSmallest = 1e-30f;  // distance of two codes, so that its inverse is a number

typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(32), aligned(4), may_alias));

constexpr int64_t padded(int64_t size, int64_t step) { return (size + step - 1) / step * step; }

}  // namespace

// The matrix [outputs, inputs] in panels of kPanel outputs: of each the inputs four at a time, of
// these all outputs' four codes. Inputs are filled up to eights, outputs to panels, with zeros;
// `scales`, `sums` (of an output's codes) and `bias` (or null) are as long as the filled outputs.
struct Matrix {
  const int8_t* codes;
  const float* scales;
  const int32_t* sums;
  const float* bias;
  int64_t inputs, outputs;
};

// kind 0: first. 1: second(first). 2: [first, second(first)][order] + bias.
struct Linear {
  Matrix first, second;
  const int64_t* order;  // [outputs]
  const float* bias;     // [outputs], where it is not part of the last matrix
  int64_t kind, outputs;
};

struct Norm {
  const float *weight, *bias;
};

struct Block {
  Norm norm_attention;
  Linear query, key, value, out;
  Norm norm_ffn;
  Linear up, down;
  int64_t heads;
};

struct Model {
  const float* positions;  // [positions, width]
  const Block* blocks;
  int64_t width, head_width, block_count;
  Norm norm;
  Matrix spread;  // rank to width, inputs 0 where the embedding is whole
  Matrix narrow;  // width to rank, likewise
  Matrix output;  // rank (else width) to vocabulary; its rows are the embedding
  float epsilon;
};

namespace {

typedef std::vector<float> Floats;

// Rows in 8 bits: value = scale * (code - zero).
struct Codes {
  std::vector<uint8_t> values;
  float scales[kTile];
  int32_t zeros[kTile];
  int64_t width = 0;  // of a row, filled up
};

inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }
inline Lanes all(float value) { return Lanes{} + value; }

inline float sum(Lanes v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

#if defined(__AVX2__)
inline Lanes smaller(Lanes a, Lanes b) { return _mm256_min_ps(a, b); }
inline Lanes larger(Lanes a, Lanes b) { return _mm256_max_ps(a, b); }

// sum(a), sum(b), sum(c), sum(d), in the same order of additions.
inline void four_sums(Lanes a, Lanes b, Lanes c, Lanes d, float* to) {
  const __m256 halves = _mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31);
  const __m256 others = _mm256_permute2f128_ps(c, d, 0x20) + _mm256_permute2f128_ps(c, d, 0x31);
  const __m256 pairs =
      _mm256_shuffle_ps(halves, others, 0x44) + _mm256_shuffle_ps(halves, others, 0xee);
  const __m256 all = _mm256_hadd_ps(pairs, pairs);  // a c a c | b d b d
  const __m128 low = _mm256_castps256_ps128(all), high = _mm256_extractf128_ps(all, 1);
  _mm_storeu_ps(to, _mm_unpacklo_ps(low, high));
}
#else
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }
inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }

inline void four_sums(Lanes a, Lanes b, Lanes c, Lanes d, float* to) {
  to[0] = sum(a), to[1] = sum(b), to[2] = sum(c), to[3] = sum(d);
}
#endif

inline float largest(Lanes v) {
  float found = v[0];
  for (int i = 1; i < kLanes; ++i) found = found > v[i] ? found : v[i];
  return found;
}

inline float smallest(Lanes v) { return -largest(-v); }

// e^x, relative error below 3e-6; 0 far below, and inf only where float has it.
inline Lanes exponential(Lanes x) {
  x = larger(smaller(x, all(88.0f)), all(-87.0f));
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Lanes rounded = x * 1.44269504f + shift;
  const Lanes r = x - (rounded - shift) * 0.693147181f;
  Lanes p = r * 0.00829168071f + 0.0419152755f;  // error of the polynomial: 8e-8
  p = p * r + 0.166676647f;
  p = p * r + 0.499988969f;
  p = p * r + 0.999999665f;
  p = p * r + 1.00000007f;
  const Ints power = (reinterpret_cast<const Ints&>(rounded) << 23) + (127 << 23);
  return p * reinterpret_cast<const Lanes&>(power);
}

// x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3): GELU in its tanh form.
inline Lanes gelu(Lanes x) {
  const Lanes u = x * (x * x * 0.044715f + 1.0f) * 1.5957691216f;
  return x / (exponential(-u) + 1.0f);
}

// Codes of eight values: round(value * inverse) + zero, within 0..127.
inline void store_codes(Lanes values, float inverse, int32_t zero, uint8_t* to) {
  const Lanes scaled = values * inverse;
#if defined(__AVX2__)
  __m256i codes = _mm256_add_epi32(_mm256_cvtps_epi32(scaled), _mm256_set1_epi32(zero));
  codes = _mm256_min_epi32(codes, _mm256_set1_epi32(127));
  codes = _mm256_max_epi32(codes, _mm256_setzero_si256());
  codes = _mm256_shuffle_epi8(codes, _mm256_set1_epi32(0x0c080400));
  codes = _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(codes));
#else
  for (int i = 0; i < kLanes; ++i) {
    const float code = std::nearbyint(scaled[i]) + zero;
    to[i] = static_cast<uint8_t>(code < 0.0f ? 0.0f : code > kLevels ? kLevels : code);
  }
#endif
}

// Codes of `rows` rows of `size` values, `stride` apart.
void quantise(const float* x, int64_t stride, int64_t rows, int64_t size, Codes& to) {
  to.width = padded(size, 8);
  if (static_cast<int64_t>(to.values.size()) < to.width * kTile) to.values.resize(to.width * kTile);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * stride;
    Lanes low{}, high{}, wrong{};  // 0 has a code of its own; a NaN, or 0 times inf, is kept
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
      low = smaller(low, load(row + i));
      high = larger(high, load(row + i));
      wrong += load(row + i) * 0.0f;
    }
    float least = smallest(low), most = largest(high), bad = sum(wrong);
    for (int64_t j = i; j < size; ++j) {
      least = row[j] < least ? row[j] : least;
      most = row[j] > most ? row[j] : most;
      bad += row[j] * 0.0f;
    }
    const float range = (most - least) / kLevels;
    const float scale = (range > kSmallest ? range : kSmallest) + bad;
    const float inverse = bad == 0.0f ? 1.0f / scale : 0.0f;
    const int32_t zero = bad == 0.0f ? static_cast<int32_t>(std::nearbyint(-least * inverse)) : 0;
    uint8_t* codes = to.values.data() + r * to.width;
    for (i = 0; i < to.width; i += kLanes) {
      Lanes v{};
      if (i + kLanes <= size) {
        v = load(row + i);
      } else {
        for (int64_t j = i; j < size; ++j) v[j - i] = row[j];
      }
      store_codes(v, inverse, zero, codes + i);
    }
    to.scales[r] = scale;
    to.zeros[r] = zero;
  }
}

inline int32_t four_codes(const uint8_t* from) {
  int32_t value;
  std::memcpy(&value, from, 4);
  return value;
}

// The sums of kRows rows with one panel's outputs; kTogether rows are multiplied at once.
#if defined(__AVX512VNNI__)

constexpr int kTogether = 8;

template <int kRows>
INLINE void multiply(const uint8_t* x, int64_t width, const int8_t* panel, Ints (&sums)[kRows][2]) {
  __m512i found[kRows];
  for (int r = 0; r < kRows; ++r) found[r] = _mm512_setzero_si512();
  for (int64_t k = 0; k < width; k += 4, panel += 64) {
    const __m512i w = _mm512_loadu_si512(panel);
    for (int r = 0; r < kRows; ++r)
      found[r] =
          _mm512_dpbusd_epi32(found[r], _mm512_set1_epi32(four_codes(x + r * width + k)), w);
  }
  for (int r = 0; r < kRows; ++r) _mm512_storeu_si512(sums[r], found[r]);
}

#elif defined(__AVX2__)

constexpr int kTogether = 2;

// Codes of inputs 8i + {0, 1, 4, 5} and 8i + {2, 3, 6, 7} meet in one number of 16 bits.
template <int kRows>
INLINE void multiply(const uint8_t* x, int64_t width, const int8_t* panel, Ints (&sums)[kRows][2]) {
  __m256i found[kRows][2];
  for (int r = 0; r < kRows; ++r) found[r][0] = found[r][1] = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t k = 0; k < width; k += 8, panel += 128) {
    __m256i low[kRows], high[kRows];
    for (int r = 0; r < kRows; ++r) {
      low[r] = _mm256_set1_epi32(four_codes(x + r * width + k));
      high[r] = _mm256_set1_epi32(four_codes(x + r * width + k + 4));
    }
    for (int c = 0; c < 2; ++c) {
      const __m256i* at = reinterpret_cast<const __m256i*>(panel + 32 * c);
      const __m256i first = _mm256_loadu_si256(at), second = _mm256_loadu_si256(at + 2);
      for (int r = 0; r < kRows; ++r) {
        const __m256i four = _mm256_add_epi16(_mm256_maddubs_epi16(low[r], first),
                                              _mm256_maddubs_epi16(high[r], second));
        found[r][c] = _mm256_add_epi32(found[r][c], _mm256_madd_epi16(four, ones));
      }
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < 2; ++c) sums[r][c] = reinterpret_cast<const Ints&>(found[r][c]);
}

#else

constexpr int kTogether = 2;

template <int kRows>
INLINE void multiply(const uint8_t* x, int64_t width, const int8_t* panel, Ints (&sums)[kRows][2]) {
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = Ints{};
  for (int64_t k = 0; k < width; k += 4, panel += 4 * kPanel)
    for (int r = 0; r < kRows; ++r)
      for (int64_t c = 0; c < kPanel; ++c)
        for (int64_t i = 0; i < 4; ++i)
          sums[r][c / kLanes][c % kLanes] += int32_t{x[r * width + k + i]} * panel[4 * c + i];
}

#endif

template <int kRows>
INLINE void panel_product(const Codes& x, int64_t row, const Matrix& matrix, int64_t panel,
                          bool add, float* to, int64_t stride) {
  Ints sums[kRows][2];
  multiply<kRows>(x.values.data() + row * x.width, x.width,
                  matrix.codes + panel * kPanel * x.width, sums);
  for (int64_t c = 0; c < 2; ++c) {
    const int64_t column = panel * kPanel + c * kLanes;
    const Ints of_codes = *reinterpret_cast<const Ints*>(matrix.sums + column);
    const Lanes scales = load(matrix.scales + column);
    const Lanes bias = matrix.bias ? load(matrix.bias + column) : Lanes{};
    for (int r = 0; r < kRows; ++r) {
      const Ints exact = sums[r][c] - of_codes * x.zeros[row + r];
      Lanes value = __builtin_convertvector(exact, Lanes) * (scales * x.scales[row + r]) + bias;
      float* at = to + r * stride + c * kLanes;
      if (add) value += load(at);
      store(at, value);
    }
  }
}

// Columns first..last (whole panels) of `rows` products; column `first` goes to to[0].
void product(const Codes& x, int64_t rows, const Matrix& matrix, int64_t first, int64_t last,
             bool add, float* to, int64_t stride) {
  const int64_t size = kPanel * x.width;
  const int64_t lines = (kTogether * size + 64 * rows - 1) / (64 * rows);  // of the next panel
  for (int64_t panel = first / kPanel; panel * kPanel < last; ++panel) {
    float* at = to + panel * kPanel - first;
    const int8_t* next = matrix.codes + (panel + 1) * size;
    const int8_t* end = (panel + 1) * kPanel < last ? next + size : next;
    int64_t r = 0;
    for (; r + kTogether <= rows; r += kTogether) {
      for (int64_t i = 0; i < lines && next < end; ++i, next += 64) __builtin_prefetch(next);
      panel_product<kTogether>(x, r, matrix, panel, add, at + r * stride, stride);
    }
    for (; r < rows; ++r) panel_product<1>(x, r, matrix, panel, add, at + r * stride, stride);
  }
}

// One output's weights.
void row_of(const Matrix& matrix, int64_t output, float* to) {
  const int64_t width = padded(matrix.inputs, 8);
  const int8_t* codes = matrix.codes + output / kPanel * kPanel * width + output % kPanel * 4;
  for (int64_t i = 0; i < matrix.inputs; ++i)
    to[i] = matrix.scales[output] * codes[i / 4 * 4 * kPanel + i % 4];
}

void add_rows(const float* bias, int64_t rows, int64_t size, bool add, float* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < size; ++i)
      to[r * stride + i] = (add ? to[r * stride + i] : 0.0f) + bias[i];
}

struct Scratch {
  Codes codes, inner_codes;
  Floats inner, normed, query, context, wide, logits, weights;
  std::vector<int64_t> stack;
};

float* room(Floats& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(size);
  return buffer.data();
}

// to[rows, outputs] = (to +) linear(x); rows of `to` have room for whole panels.
void apply(const Linear& linear, const Codes& x, int64_t rows, bool add, float* to, int64_t stride,
           Scratch& s) {
  if (linear.first.inputs == 0 || linear.first.outputs == 0) {
    add_rows(linear.bias, rows, linear.outputs, add, to, stride);
    return;
  }
  const int64_t rank = linear.first.outputs;
  if (linear.kind == 0) {
    product(x, rows, linear.first, 0, rank, add, to, stride);
    return;
  }
  const int64_t wide = padded(rank, kPanel) + padded(linear.second.outputs, kPanel);
  float* inner = room(s.inner, kTile * wide);
  product(x, rows, linear.first, 0, rank, false, inner, wide);
  quantise(inner, wide, rows, rank, s.inner_codes);
  if (linear.kind == 1) {
    product(s.inner_codes, rows, linear.second, 0, linear.second.outputs, add, to, stride);
    return;
  }
  const int64_t behind = padded(rank, kPanel);
  product(s.inner_codes, rows, linear.second, 0, linear.second.outputs, false, inner + behind,
          wide);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < linear.outputs; ++i) {
      const int64_t from = linear.order[i];
      const float value = inner[r * wide + (from < rank ? from : behind + from - rank)];
      float* at = to + r * stride + i;
      *at = (add ? *at : 0.0f) + (value + linear.bias[i]);
    }
}

void normalise(const Norm& norm, float epsilon, const float* x, int64_t stride, int64_t rows,
               int64_t size, float* to) {
  for (int64_t r = 0; r < rows; ++r, x += stride, to += size) {
    Lanes total{};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) total += load(x + i);
    float mean = sum(total);
    for (; i < size; ++i) mean += x[i];
    mean /= size;
    Lanes squares{};
    for (i = 0; i + kLanes <= size; i += kLanes) {
      const Lanes away = load(x + i) - mean;
      squares += away * away;
    }
    float variance = sum(squares);
    for (; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);
    const float factor = 1.0f / std::sqrt(variance / size + epsilon);
    for (i = 0; i + kLanes <= size; i += kLanes)
      store(to + i, (load(x + i) - mean) * factor * load(norm.weight + i) + load(norm.bias + i));
    for (; i < size; ++i) to[i] = (x[i] - mean) * factor * norm.weight[i] + norm.bias[i];
  }
}

// weights[j] = query . keys[above[j]], four keys at a time; the last ones are repeated.
void key_products(const float* query, const float* keys, int64_t stride, const int64_t* above,
                  int64_t count, int64_t size, float* weights) {
  for (int64_t j = 0; j < count; j += 4) {
    const float* key[4];
    for (int64_t n = 0; n < 4; ++n)
      key[n] = keys + above[j + n < count ? j + n : count - 1] * stride;
    Lanes found[4] = {};
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      for (int n = 0; n < 4; ++n) found[n] += load(query + i) * load(key[n] + i);
    four_sums(found[0], found[1], found[2], found[3], weights + j);
    for (; i < size; ++i)
      for (int n = 0; n < 4; ++n) weights[j + n] += query[i] * key[n][i];
  }
}

// One head of one place: the mean of the values of `above`, weighted by softmax(query . key).
void attend(const float* query, const float* keys, const float* values, int64_t stride,
            const std::vector<int64_t>& above, int64_t size, float* weights, float* to) {
  const int64_t count = static_cast<int64_t>(above.size()), filled = padded(count, kLanes);
  const float factor = 1.0f / std::sqrt(static_cast<float>(size));
  key_products(query, keys, stride, above.data(), count, size, weights);
  for (int64_t j = count; j < filled; ++j) weights[j] = weights[0];
  Lanes high = load(weights);
  for (int64_t j = kLanes; j < filled; j += kLanes) high = larger(high, load(weights + j));
  const float most = largest(high) * factor;
  Lanes total{};
  for (int64_t j = 0; j < filled; j += kLanes) {
    Lanes e = exponential(load(weights + j) * factor - most);
    for (int64_t i = count - j; i < kLanes; ++i) e[i] = 0.0f;
    total += e;
    store(weights + j, e);
  }
  const float inverse = 1.0f / sum(total);
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes) {
    Lanes found[4] = {};
    for (int64_t j = 0; j < count; ++j) {
      const float* value = values + above[j] * stride + i;
      for (int v = 0; v < 4; ++v) found[v] += load(value + v * kLanes) * weights[j];
    }
    for (int v = 0; v < 4; ++v) store(to + i + v * kLanes, found[v] * inverse);
  }
  for (; i + kLanes <= size; i += kLanes) {
    Lanes found{};
    for (int64_t j = 0; j < count; ++j) found += load(values + above[j] * stride + i) * weights[j];
    store(to + i, found * inverse);
  }
  for (; i < size; ++i) {
    float found = 0.0f;
    for (int64_t j = 0; j < count; ++j) found += values[above[j] * stride + i] * weights[j];
    to[i] = found * inverse;
  }
}

// Keys and values of a forest's nodes that stay between passes, a row of whole panels each.
// Place p is node nodes[p]; what it attends to are itself and the `parents` above it (-1: none).
struct Kept {
  const int64_t *nodes, *parents;
  float *const *keys, *const *values;  // of each block
};

class Pass {
 public:
  Pass(const Model& model, int64_t places, const Kept* kept = nullptr)
      : model_(model), places_(places), kept_(kept) {
    stride_ = padded(model.width, kPanel);
    x_.resize(places * stride_);
  }

  void embed(const int64_t* tokens, const int64_t* positions) {
    const int64_t rank = model_.output.inputs;
    for (int64_t start = 0; start < places_; start += kTile) {
      const int64_t rows = tile(start);
      float* x = x_.data() + start * stride_;
      if (model_.spread.inputs == 0) {
        for (int64_t r = 0; r < rows; ++r)
          row_of(model_.output, tokens[start + r], x + r * stride_);
      } else {
        float* vectors = room(s_.inner, kTile * rank);
        for (int64_t r = 0; r < rows; ++r)
          row_of(model_.output, tokens[start + r], vectors + r * rank);
        quantise(vectors, rank, rows, rank, s_.codes);
        product(s_.codes, rows, model_.spread, 0, model_.width, false, x, stride_);
      }
      for (int64_t r = 0; r < rows; ++r) {
        const float* where = model_.positions + positions[start + r] * model_.width;
        for (int64_t i = 0; i < model_.width; ++i) x[r * stride_ + i] += where[i];
      }
    }
  }

  // Without kept keys, place p attends to the places a <= p with last[a] >= p.
  void block(int64_t index, const int64_t* last) {
    const Block& block = model_.blocks[index];
    const int64_t attended = block.heads * model_.head_width;
    const int64_t kv_stride = padded(attended, kPanel);
    if (attended > 0 && kept_ == nullptr) {
      room(keys_, places_ * kv_stride);
      room(values_, places_ * kv_stride);
    }
    s_.stack.clear();
    for (int64_t start = 0; start < places_; start += kTile) {
      const int64_t rows = tile(start);
      float* x = x_.data() + start * stride_;
      if (attended > 0) {
        attention(index, last, start, rows, kv_stride, x);
      } else {
        add_rows(block.out.bias, rows, model_.width, true, x, stride_);
      }
      feed_forward(block, rows, x);
    }
  }

  // out[pair] = ln p(targets[pair] | the path to place nodes[sources[pair]]); sources ascend, and
  // without `nodes` they are the places themselves.
  void output(const int64_t* nodes, int64_t count, const int64_t* sources, const int64_t* targets,
              int64_t pairs, double* out) {
    const int64_t vocabulary = model_.output.outputs;
    float* logits = room(s_.logits, kTile * kVocab);
    int64_t pair = 0;
    for (int64_t start = 0; start < count; start += kTile) {
      const int64_t rows = count - start < kTile ? count - start : kTile;
      float* picked = room(s_.query, kTile * stride_);
      for (int64_t r = 0; r < rows; ++r)
        std::memcpy(picked + r * stride_,
                    x_.data() + (nodes ? nodes[start + r] : start + r) * stride_, model_.width * 4);
      float* normed = room(s_.normed, kTile * model_.width);
      normalise(model_.norm, model_.epsilon, picked, stride_, rows, model_.width, normed);
      quantise(normed, model_.width, rows, model_.width, s_.codes);
      if (model_.narrow.inputs > 0) {
        const int64_t rank = model_.narrow.outputs, wide = padded(rank, kPanel);
        float* inner = room(s_.inner, kTile * wide);
        product(s_.codes, rows, model_.narrow, 0, rank, false, inner, wide);
        quantise(inner, wide, rows, rank, s_.codes);
      }
      int64_t bounds[kTile + 1];
      for (int64_t r = 0; r < rows; ++r) {
        bounds[r] = pair;
        while (pair < pairs && sources[pair] == start + r) ++pair;
      }
      bounds[rows] = pair;
      float most[kTile];
      double total[kTile];
      for (int64_t r = 0; r < rows; ++r) most[r] = -INFINITY, total[r] = 0.0;
      for (int64_t first = 0; first < vocabulary; first += kVocab) {
        const int64_t size = vocabulary - first < kVocab ? vocabulary - first : kVocab;
        product(s_.codes, rows, model_.output, first, first + size, false, logits, kVocab);
        for (int64_t r = 0; r < rows; ++r) {
          add_exponentials(logits + r * kVocab, size, most[r], total[r]);
          for (int64_t p = bounds[r]; p < bounds[r + 1]; ++p)
            if (targets[p] >= first && targets[p] < first + size)
              out[p] = logits[r * kVocab + targets[p] - first];
        }
      }
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t p = bounds[r]; p < bounds[r + 1]; ++p)
          out[p] -= most[r] + std::log(total[r]);
    }
  }

 private:
  int64_t tile(int64_t start) const {
    return places_ - start < kTile ? places_ - start : kTile;
  }

  void attention(int64_t index, const int64_t* last, int64_t start, int64_t rows,
                 int64_t kv_stride, float* x) {
    const Block& block = model_.blocks[index];
    const int64_t head = model_.head_width;
    float* keys = kept_ ? kept_->keys[index] : keys_.data();
    float* values = kept_ ? kept_->values[index] : values_.data();
    float* normed = room(s_.normed, kTile * model_.width);
    normalise(block.norm_attention, model_.epsilon, x, stride_, rows, model_.width, normed);
    quantise(normed, model_.width, rows, model_.width, s_.codes);
    float* query = room(s_.query, kTile * kv_stride);
    apply(block.query, s_.codes, rows, false, query, kv_stride, s_);
    project(block.key, start, rows, keys, kv_stride);
    project(block.value, start, rows, values, kv_stride);
    float* context = room(s_.context, kTile * kv_stride);
    for (int64_t r = 0; r < rows; ++r) {
      find_path(start + r, last);
      float* weights = room(s_.weights, padded(s_.stack.size(), kLanes));
      for (int64_t h = 0; h < block.heads; ++h)
        attend(query + r * kv_stride + h * head, keys + h * head, values + h * head, kv_stride,
               s_.stack, head, weights, context + r * kv_stride + h * head);
    }
    quantise(context, kv_stride, rows, block.heads * head, s_.codes);
    apply(block.out, s_.codes, rows, true, x, stride_, s_);
  }

  // Keys or values of the rows, to where they stand.
  void project(const Linear& linear, int64_t start, int64_t rows, float* to, int64_t stride) {
    if (kept_ == nullptr) {
      apply(linear, s_.codes, rows, false, to + start * stride, stride, s_);
      return;
    }
    float* made = room(s_.context, kTile * stride);
    apply(linear, s_.codes, rows, false, made, stride, s_);
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(to + kept_->nodes[start + r] * stride, made + r * stride, stride * 4);
  }

  // The rows of keys that the place attends to, root first; places are asked for in order.
  void find_path(int64_t place, const int64_t* last) {
    if (kept_ == nullptr) {
      while (!s_.stack.empty() && last[s_.stack.back()] < place) s_.stack.pop_back();
      s_.stack.push_back(place);
      return;
    }
    s_.stack.clear();
    for (int64_t node = kept_->nodes[place]; node >= 0; node = kept_->parents[node])
      s_.stack.push_back(node);
    std::reverse(s_.stack.begin(), s_.stack.end());
  }

  void feed_forward(const Block& block, int64_t rows, float* x) {
    const int64_t size = block.up.outputs, wide = padded(size, kPanel);
    if (size == 0) {
      add_rows(block.down.bias, rows, model_.width, true, x, stride_);
      return;
    }
    float* normed = room(s_.normed, kTile * model_.width);
    normalise(block.norm_ffn, model_.epsilon, x, stride_, rows, model_.width, normed);
    quantise(normed, model_.width, rows, model_.width, s_.codes);
    float* inner = room(s_.wide, kTile * wide);
    apply(block.up, s_.codes, rows, false, inner, wide, s_);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < size; i += kLanes)
        store(inner + r * wide + i, gelu(load(inner + r * wide + i)));
    quantise(inner, wide, rows, size, s_.codes);
    apply(block.down, s_.codes, rows, true, x, stride_, s_);
  }

  static void add_exponentials(const float* logits, int64_t size, float& most, double& total) {
    Lanes high = all(most);
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) high = larger(high, load(logits + i));
    float now = largest(high);
    for (; i < size; ++i) now = logits[i] > now ? logits[i] : now;
    Lanes added{};
    for (i = 0; i + kLanes <= size; i += kLanes) added += exponential(load(logits + i) - now);
    double here = sum(added);
    for (; i < size; ++i) here += std::exp(logits[i] - now);
    total = total * std::exp(static_cast<double>(most) - now) + here;
    most = now;
  }

  const Model& model_;
  const int64_t places_;
  const Kept* kept_;
  int64_t stride_;
  Floats x_, keys_, values_;
  Scratch s_;
};

}  // namespace

extern "C" {

// The log-probabilities of a batch (trie.py), `places` of it: tokens, positions and last [places],
// nodes [count], sources and targets [pairs]. Returns 1 without memory, else 0.
int asrprune_int8_log_probs(const Model* model, const int64_t* tokens, const int64_t* positions,
                            const int64_t* last, int64_t places, const int64_t* nodes,
                            int64_t count, const int64_t* sources, const int64_t* targets,
                            int64_t pairs, double* out) {
  try {
    Pass pass(*model, places);
    pass.embed(tokens, positions);
    for (int64_t i = 0; i < model->block_count; ++i) pass.block(i, last);
    pass.output(nodes, count, sources, targets, pairs, out);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

// More nodes of a forest: nodes, tokens and positions [places], parents [nodes of the forest], keys
// and values of every block with a row for each node of the forest. Parents come before their
// children, in this call or one before it. sources, targets and out [pairs]: see Pass::output.
int asrprune_int8_more(const Model* model, const int64_t* nodes, const int64_t* tokens,
                       const int64_t* positions, int64_t places, const int64_t* parents,
                       float* const* keys, float* const* values, const int64_t* sources,
                       const int64_t* targets, int64_t pairs, double* out) {
  try {
    const Kept kept{nodes, parents, keys, values};
    Pass pass(*model, places, &kept);
    pass.embed(tokens, positions);
    for (int64_t i = 0; i < model->block_count; ++i) pass.block(i, nullptr);
    pass.output(nullptr, places, sources, targets, pairs, out);
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

// to[rows, padded outputs] = x[rows, inputs] times the matrix: what the others are made of, for
// tests. rows <= 96.
void asrprune_int8_product(const Matrix* matrix, const float* x, int64_t rows, float* to) {
  Codes codes;
  quantise(x, matrix->inputs, rows, matrix->inputs, codes);
  product(codes, rows, *matrix, 0, matrix->outputs, false, to, padded(matrix->outputs, kPanel));
}
}
