// Products in 8 bits: weights with one scale an output, rows with one scale and zero point each,
// measured when the row is there; so a row's result depends on that row alone and nothing is
// calibrated. Rows have quantised values 0..127 and the weights are such that four products add up
// in 16 bits without overflow (codes.py); on AVX2 that saves a quarter of the multiplications of
// summing two.

#pragma once

#include "matrices.h"

namespace {

struct Int8 {
  typedef int8_t Value;
  static constexpr bool kFloatSums = false;
  static constexpr float kLevels = 127.0f;     // largest quantised value of a row
  static constexpr float kSmallest = 1e-30f;   // distance of two of them, so that its inverse is
                                               // a number
#if TILES
  static constexpr int64_t kStep = 64;
#else
  static constexpr int64_t kStep = 8;
#endif

  // value = scale * (quantised - zero).
  struct Rows {
    Buffer values;  // uint8_t [kTile, width]
    float scales[kTile];
    int32_t zeros[kTile];
    int64_t width = 0;
  };

  // Eight or sixteen values: round(value * inverse) + zero, within 0..127.
  static void quantise(Lanes values, float inverse, int32_t zero, uint8_t* to) {
    const Lanes scaled = values * inverse;
#if WIDE
    __m512i found = _mm512_add_epi32(_mm512_cvtps_epi32(scaled), _mm512_set1_epi32(zero));
    found = _mm512_min_epi32(found, _mm512_set1_epi32(127));
    found = _mm512_max_epi32(found, _mm512_setzero_si512());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(found));
#elif defined(__AVX2__)
    __m256i found = _mm256_add_epi32(_mm256_cvtps_epi32(scaled), _mm256_set1_epi32(zero));
    found = _mm256_min_epi32(found, _mm256_set1_epi32(127));
    found = _mm256_max_epi32(found, _mm256_setzero_si256());
    found = _mm256_shuffle_epi8(found, _mm256_set1_epi32(0x0c080400));
    found = _mm256_permutevar8x32_epi32(found, _mm256_setr_epi32(0, 4, 0, 0, 0, 0, 0, 0));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(found));
#else
    for (int i = 0; i < kLanes; ++i) {
      const float value = std::nearbyint(scaled[i]) + zero;
      to[i] = static_cast<uint8_t>(value < 0.0f ? 0.0f : value > kLevels ? kLevels : value);
    }
#endif
  }

  // Makes room for a tile of rows of `size` values.
  static void start(int64_t size, Rows& to) {
    to.width = padded(size, kStep);
    to.values.room<uint8_t>(to.width * kTile + kLine);  // the last vector may reach beyond
  }

  static void round(const float* x, int64_t size, int64_t row, Rows& to) {
    Lanes low{}, high{}, wrong{};  // 0 has a value of its own; a NaN, or 0 times inf, is kept
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) {
      low = smaller(low, load(x + i));
      high = larger(high, load(x + i));
      wrong += load(x + i) * 0.0f;
    }
    float least = smallest(low), most = largest(high), bad = sum(wrong);
    for (int64_t j = i; j < size; ++j) {
      least = x[j] < least ? x[j] : least;
      most = x[j] > most ? x[j] : most;
      bad += x[j] * 0.0f;
    }
    const float range = (most - least) / kLevels;
    const float scale = (range > kSmallest ? range : kSmallest) + bad;
    const float inverse = bad == 0.0f ? 1.0f / scale : 0.0f;
    const int32_t zero = bad == 0.0f ? static_cast<int32_t>(std::nearbyint(-least * inverse)) : 0;
    const int64_t width = to.width;  // bytes may be written anywhere, for all the compiler knows
    uint8_t* values = to.values.data<uint8_t>() + row * width;
    for (i = 0; i + kLanes <= size; i += kLanes) quantise(load(x + i), inverse, zero, values + i);
    for (; i < width; i += kLanes) {
      Lanes v{};
      for (int64_t j = i; j < size; ++j) v[j - i] = x[j];
      quantise(v, inverse, zero, values + i);
    }
    to.scales[row] = scale;
    to.zeros[row] = zero;
  }

  // The sums of kRows rows with one panel's outputs; kTogether rows are multiplied at once.
#if defined(__AVX512VNNI__) && WIDE

  static constexpr int64_t kInstructions = kVnni;
  static constexpr int64_t kTogether = 12, kBeside = 2;  // 24 sums: two of them start a cycle

  template <int kRows, int kPanels>
  INLINE static void multiply(const uint8_t* x, int64_t width, const int8_t* panel,
                              int32_t (&sums)[kPanels][kRows][kPanel]) {
    __m512i found[kPanels][kRows];
    for (int p = 0; p < kPanels; ++p)
      for (int r = 0; r < kRows; ++r) found[p][r] = _mm512_setzero_si512();
    for (int64_t k = 0; k < width; k += 4, panel += 4 * kPanel) {
      __m512i w[kPanels];
      for (int p = 0; p < kPanels; ++p) w[p] = _mm512_loadu_si512(panel + p * kPanel * width);
      for (int r = 0; r < kRows; ++r) {
        const __m512i four = _mm512_set1_epi32(four_bytes(x + r * width + k));
        for (int p = 0; p < kPanels; ++p)
          found[p][r] = _mm512_dpbusd_epi32(found[p][r], four, w[p]);
      }
    }
    for (int p = 0; p < kPanels; ++p)
      for (int r = 0; r < kRows; ++r) _mm512_storeu_si512(sums[p][r], found[p][r]);
  }

#elif defined(__AVX2__)

  static constexpr int64_t kInstructions = kAvx2;
  static constexpr int64_t kTogether = 2, kBeside = 1;

  // Values of inputs 8i + {0, 1, 4, 5} and 8i + {2, 3, 6, 7} meet in one number of 16 bits.
  template <int kRows, int kPanels>
  INLINE static void multiply(const uint8_t* x, int64_t width, const int8_t* panel,
                              int32_t (&sums)[kPanels][kRows][kPanel]) {
    __m256i found[kRows][2];
    for (int r = 0; r < kRows; ++r) found[r][0] = found[r][1] = _mm256_setzero_si256();
    const __m256i ones = _mm256_set1_epi16(1);
    for (int64_t k = 0; k < width; k += 8, panel += 128) {
      __m256i low[kRows], high[kRows];
      for (int r = 0; r < kRows; ++r) {
        low[r] = _mm256_set1_epi32(four_bytes(x + r * width + k));
        high[r] = _mm256_set1_epi32(four_bytes(x + r * width + k + 4));
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
      for (int c = 0; c < 2; ++c)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums[0][r] + 8 * c), found[r][c]);
  }

#else

  static constexpr int64_t kInstructions = kPlain;
  static constexpr int64_t kTogether = 2, kBeside = 1;

  template <int kRows, int kPanels>
  INLINE static void multiply(const uint8_t* x, int64_t width, const int8_t* panel,
                              int32_t (&sums)[kPanels][kRows][kPanel]) {
    std::memset(sums, 0, sizeof sums);
    for (int64_t k = 0; k < width; k += 4, panel += 4 * kPanel)
      for (int r = 0; r < kRows; ++r)
        for (int64_t c = 0; c < kPanel; ++c)
          for (int64_t i = 0; i < 4; ++i)
            sums[0][r][c] += int32_t{x[r * width + k + i]} * panel[4 * c + i];
  }

#endif

  template <int kRows, int kPanels>
  INLINE static void panel_product(const Rows& x, int64_t row, const Matrix& matrix, int64_t panel,
                                   bool add, float* to, int64_t stride) {
    alignas(kLine) int32_t sums[kPanels][kRows][kPanel];
    multiply(x.values.data<uint8_t>() + row * x.width, x.width,
             static_cast<const int8_t*>(matrix.weights) + panel * kPanel * x.width, sums);
    for (int p = 0; p < kPanels; ++p)
      finish(sums[p][0], kPanel, x, row, kRows, matrix, panel + p, add, to + p * kPanel, stride);
  }

  // The products of `rows` rows with one panel, from their sums, which are `apart` from row to row.
  INLINE static void finish(const int32_t* sums, int64_t apart, const Rows& x, int64_t row,
                            int64_t rows, const Matrix& matrix, int64_t panel, bool add, float* to,
                            int64_t stride) {
    for (int64_t c = 0; c < kPanel; c += kLanes) {
      const int64_t column = panel * kPanel + c;
      const Ints of_weights = *reinterpret_cast<const Ints*>(matrix.sums + column);
      const Lanes scales = load(matrix.scales + column);
      const Lanes bias = matrix.bias ? load(matrix.bias + column) : Lanes{};
#if !TILES
#pragma GCC unroll 16  // so that the sums stay in registers
#endif
      for (int64_t r = 0; r < rows; ++r) {
        const Ints exact = *reinterpret_cast<const Ints*>(sums + r * apart + c) -
                           of_weights * x.zeros[row + r];
        Lanes value =
            __builtin_convertvector(exact, Lanes) * (scales * x.scales[row + r]) + bias;
        float* at = to + r * stride + c;
        if (add) value += load(at);
        store(at, value);
      }
    }
  }

  static void row_of(const Matrix& matrix, int64_t output, float* to) {
    const int64_t width = padded(matrix.inputs, kStep);
    const int8_t* from = static_cast<const int8_t*>(matrix.weights) +
                         output / kPanel * kPanel * width + output % kPanel * 4;
    const float scale = matrix.scales[output];
    int64_t i = 0;
    for (; i + 4 <= matrix.inputs; i += 4, from += 4 * kPanel)
      for (int64_t j = 0; j < 4; ++j) to[i + j] = scale * from[j];
    for (; i < matrix.inputs; ++i) to[i] = scale * *from++;
  }
};

}  // namespace
